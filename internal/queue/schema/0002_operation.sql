-- +goose Up

ALTER TABLE message ADD COLUMN ret TEXT NOT NULL DEFAULT '';
ALTER TABLE message ADD COLUMN envelope_id TEXT NOT NULL DEFAULT '';

-- list_id and user_name are the message's, copied: the queue is narrowed by them.
-- wish is what the holder of a lease is asked to do. What is parked is pending,
-- and its list paused.
ALTER TABLE recipient ADD COLUMN notify TEXT NOT NULL DEFAULT '';
ALTER TABLE recipient ADD COLUMN original TEXT NOT NULL DEFAULT '';
ALTER TABLE recipient ADD COLUMN list_id BYTEA;
ALTER TABLE recipient ADD COLUMN user_name TEXT NOT NULL DEFAULT '';
ALTER TABLE recipient ADD COLUMN site TEXT NOT NULL DEFAULT '';
ALTER TABLE recipient ADD COLUMN wish TEXT NOT NULL DEFAULT '';
ALTER TABLE recipient ADD COLUMN wished_by TEXT NOT NULL DEFAULT '';
ALTER TABLE recipient ADD COLUMN parked BOOLEAN NOT NULL DEFAULT FALSE;

UPDATE recipient SET
    list_id = (SELECT m.list_id FROM message AS m WHERE m.id = recipient.message_id),
    user_name = COALESCE((SELECT m.user_name FROM message AS m WHERE m.id = recipient.message_id), '');

DROP INDEX recipient_pending;
DROP INDEX recipient_due;
CREATE INDEX recipient_pending ON recipient (account_id, priority, due) WHERE state = 'pending' AND NOT parked;
DROP INDEX recipient_held;
CREATE INDEX recipient_due ON recipient (due, id) WHERE state = 'pending' AND NOT parked;
CREATE INDEX recipient_parked ON recipient (due, id) WHERE parked;
CREATE INDEX recipient_parked_list ON recipient (list_id) WHERE parked;
CREATE INDEX recipient_held ON recipient (due, id) WHERE state = 'held';
CREATE INDEX recipient_undelivered ON recipient (id)
    WHERE state IN ('failed', 'expired', 'cancelled', 'suppressed');
CREATE INDEX recipient_wish ON recipient (lease_node, lease_generation) WHERE wish <> '';

-- What a sender is to be told of a recipient. due is when; 0: told already, which
-- is kept of a delay only, so that it is not told twice.
CREATE TABLE dsn_due (
    recipient_id BYTEA  NOT NULL,
    kind         TEXT   NOT NULL,
    message_id   BYTEA  NOT NULL,
    due          BIGINT NOT NULL,
    PRIMARY KEY (recipient_id, kind)
);
CREATE INDEX dsn_due_due ON dsn_due (due) WHERE due > 0;
CREATE INDEX dsn_due_message ON dsn_due (message_id, kind) WHERE due > 0;
