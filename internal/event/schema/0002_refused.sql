-- +goose Up
CREATE INDEX event_refused_any ON event (id) WHERE kind = 'refused';
CREATE INDEX audit_account ON audit (account_id, id);
