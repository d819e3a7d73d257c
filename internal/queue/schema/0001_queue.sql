-- +goose Up

-- A message stays until the retention of events. Its three counters answer
-- "is this the last recipient?" without looking at the others.
CREATE TABLE message (
    id             BYTEA   NOT NULL PRIMARY KEY,
    account_id     BYTEA   NOT NULL,
    list_id        BYTEA,
    user_name      TEXT    NOT NULL,
    reverse_path   TEXT    NOT NULL,
    smtputf8       BOOLEAN NOT NULL,
    eight_bit      BOOLEAN NOT NULL,
    priority       BIGINT  NOT NULL,
    signing_domain TEXT    NOT NULL,
    header_from    TEXT    NOT NULL,
    subject        TEXT    NOT NULL,
    message_id     TEXT    NOT NULL,
    size           BIGINT  NOT NULL,
    body_hash      BYTEA   NOT NULL,
    header_size    BIGINT  NOT NULL,
    content_id     BYTEA   NOT NULL,
    accepted_at    BIGINT  NOT NULL,
    recipients     BIGINT  NOT NULL,
    unsettled      BIGINT  NOT NULL,
    undelivered    BIGINT  NOT NULL DEFAULT 0
);

-- priority is the message's, copied for the index. content_id is NULL while the
-- recipient shares the message's content. lease_node is 0 while nobody holds it.
CREATE TABLE recipient (
    id               BYTEA  NOT NULL PRIMARY KEY,
    message_id       BYTEA  NOT NULL,
    account_id       BYTEA  NOT NULL,
    content_id       BYTEA,
    forward_path     TEXT   NOT NULL,
    domain           TEXT   NOT NULL,
    priority         BIGINT NOT NULL,
    state            TEXT   NOT NULL,
    due              BIGINT NOT NULL,
    attempts         BIGINT NOT NULL DEFAULT 0,
    lease_node       BIGINT NOT NULL DEFAULT 0,
    lease_generation BIGINT NOT NULL DEFAULT 0,
    outcome          TEXT   NOT NULL DEFAULT '',
    settled_at       BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX recipient_message ON recipient (message_id);

-- Every index below holds rows of one unsettled state only: fresh mail that is
-- delivered at once never enters the first two, settled mail is in none.
CREATE INDEX recipient_pending ON recipient (account_id, priority, due) WHERE state = 'pending';
CREATE INDEX recipient_due ON recipient (due) WHERE state = 'pending';
CREATE INDEX recipient_leased ON recipient (lease_node, lease_generation) WHERE state = 'leased';
CREATE INDEX recipient_held ON recipient (account_id) WHERE state = 'held';

-- A node is a running server. generation counts its starts, heartbeat is the
-- last sign of life, report what only that process knows, as JSON.
CREATE TABLE node (
    number      BIGINT NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL UNIQUE,
    generation  BIGINT NOT NULL,
    heartbeat   BIGINT NOT NULL,
    report      TEXT   NOT NULL DEFAULT '',
    reported_at BIGINT NOT NULL DEFAULT 0
);
