-- +goose Up
CREATE TABLE event (
    id           BYTEA  NOT NULL PRIMARY KEY,
    account_id   BYTEA,
    message_id   BYTEA,
    recipient_id BYTEA,
    at           BIGINT NOT NULL,
    kind         TEXT   NOT NULL,
    detail       TEXT   NOT NULL
);

CREATE INDEX event_message ON event (message_id, id) WHERE message_id IS NOT NULL;
CREATE INDEX event_refused ON event (account_id, id) WHERE kind = 'refused';

CREATE TABLE audit (
    id         BYTEA  NOT NULL PRIMARY KEY,
    account_id BYTEA,
    at         BIGINT NOT NULL,
    actor      TEXT   NOT NULL,
    action     TEXT   NOT NULL,
    object     TEXT   NOT NULL,
    reason     TEXT   NOT NULL
);
