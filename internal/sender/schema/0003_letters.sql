-- +goose Up

-- Letters have a room of their own now; its tables are made before these.
INSERT INTO letter (id, account_id, kind, address_key, address, domain, lang, requested_by, created_at, due, sent_at, expires_at, outcome, decided_at)
    SELECT id, account_id, kind, address_key, address, domain, lang, requested_by, created_at, due, sent_at, expires_at, outcome, decided_at
    FROM sender_letter;
INSERT INTO letter_refusal (account_id, address_key, until) SELECT account_id, address_key, until FROM sender_refusal;
DROP TABLE sender_letter;
DROP TABLE sender_refusal;
