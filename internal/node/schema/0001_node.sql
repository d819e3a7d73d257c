-- +goose Up

-- A node is a running server. generation counts its starts, heartbeat is the
-- last sign of life, report what only that process knows, as JSON. Where room queue
-- has made the table, as it did once, it is that one.
CREATE TABLE IF NOT EXISTS node (
    number      BIGINT NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL UNIQUE,
    generation  BIGINT NOT NULL,
    heartbeat   BIGINT NOT NULL,
    report      TEXT   NOT NULL DEFAULT '',
    reported_at BIGINT NOT NULL DEFAULT 0
);
