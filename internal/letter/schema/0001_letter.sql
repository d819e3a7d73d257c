-- +goose Up

-- A letter that asks the owner of an address, or tells that it was confirmed:
-- the link in it, and what became of it. Letters outlive what they are about,
-- as they are counted.
CREATE TABLE letter (
    id           BYTEA   NOT NULL PRIMARY KEY, -- 10 octets of chance; the token is made of it and of the secret
    account_id   BYTEA   NOT NULL,
    kind         TEXT    NOT NULL,             -- ask or confirmed
    address_key  TEXT    NOT NULL,             -- mail.Address.Key of whom it goes to
    address      TEXT    NOT NULL,
    domain       TEXT    NOT NULL DEFAULT '',  -- asked for as a whole; '': the address alone is
    lang         TEXT    NOT NULL DEFAULT '',
    requested_by TEXT    NOT NULL DEFAULT '',
    created_at   BIGINT  NOT NULL,
    due          BOOLEAN NOT NULL,             -- to be sent
    sent_at      BIGINT  NOT NULL DEFAULT 0,
    expires_at   BIGINT  NOT NULL DEFAULT 0,   -- 0: not sent yet, or never
    outcome      TEXT    NOT NULL DEFAULT '',  -- letter.go; '': open
    decided_at   BIGINT  NOT NULL DEFAULT 0
);
CREATE INDEX letter_due ON letter (due, created_at);
CREATE INDEX letter_of ON letter (account_id, address_key, created_at);
CREATE INDEX letter_age ON letter (created_at);

-- Who wants no more letters of an account, and until when.
CREATE TABLE letter_refusal (
    account_id  BYTEA  NOT NULL,
    address_key TEXT   NOT NULL,
    until       BIGINT NOT NULL,
    PRIMARY KEY (account_id, address_key)
);
CREATE INDEX letter_refusal_until ON letter_refusal (until);
