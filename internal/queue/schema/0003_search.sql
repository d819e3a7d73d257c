-- +goose Up

-- What messages are searched by. Those of message grow at few places (a user's and a
-- sender's newest), but for the one by Message-ID.
CREATE INDEX message_user ON message (user_name, id);
CREATE INDEX message_account ON message (account_id, id);
CREATE INDEX message_reverse_path ON message (LOWER(reverse_path), id);
CREATE INDEX message_header_from ON message (LOWER(header_from), id) WHERE header_from <> reverse_path;
CREATE INDEX message_message_id ON message (message_id);
CREATE INDEX recipient_address ON recipient (domain, LOWER(forward_path), message_id);
