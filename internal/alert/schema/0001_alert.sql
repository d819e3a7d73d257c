-- +goose Up
CREATE TABLE alert (
    id         BYTEA  NOT NULL PRIMARY KEY,
    account_id BYTEA,           -- NULL: of the house
    list_id    BYTEA,           -- NULL: of no list
    kind       TEXT   NOT NULL,
    key        TEXT   NOT NULL,
    fold       TEXT   NOT NULL, -- account, list, kind and key in one, without NULL
    grp        TEXT   NOT NULL, -- the same of the group it may become part of; empty: none
    count      BIGINT NOT NULL,
    first_at   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    acked_at   BIGINT NOT NULL DEFAULT 0, -- 0: not yet
    acked_by   TEXT   NOT NULL DEFAULT '',
    event_id   BYTEA,           -- the newest event that it tells of
    facts      TEXT   NOT NULL  -- JSON
);

-- Of each fold there is one entry that nobody has acknowledged.
CREATE UNIQUE INDEX alert_open ON alert (fold) WHERE acked_at = 0;
CREATE INDEX alert_group ON alert (grp) WHERE acked_at = 0 AND grp <> '';
CREATE INDEX alert_account ON alert (account_id, id);
