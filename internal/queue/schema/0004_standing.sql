-- +goose Up

-- Messages by where a recipient stands, the newest last. What is delivered at once is
-- never in it.
CREATE INDEX recipient_standing ON recipient (state, message_id, attempts)
    WHERE state IN ('pending', 'held', 'failed', 'expired', 'cancelled', 'suppressed');
