-- +goose Up

-- Keys and seal have a room of their own now; its tables are made before these.
INSERT INTO signer_key (id, account_id, domain_id, domain, selector, algorithm, record_name, record_value, sealed, state, created_at, moved_at)
    SELECT id, account_id, domain_id, domain, selector, algorithm, record_name, record_value, sealed, 'active', created_at, created_at
    FROM sender_key;
INSERT INTO signer_seal (id, check_value) SELECT id, check_value FROM sender_seal;
DROP TABLE sender_key;
DROP TABLE sender_seal;

-- What proves a domain (domain.go), and when it is looked at next; 0: at once.
ALTER TABLE sender_domain ADD COLUMN proof TEXT NOT NULL DEFAULT '';
ALTER TABLE sender_domain ADD COLUMN next_check_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sender_domain ADD COLUMN misses BIGINT NOT NULL DEFAULT 0;        -- checks in a row that found nothing
ALTER TABLE sender_domain ADD COLUMN first_miss_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sender_domain ADD COLUMN last_miss_at BIGINT NOT NULL DEFAULT 0;
UPDATE sender_domain SET proof = CASE WHEN overridden THEN 'override' ELSE 'dns' END WHERE state = 'verified';
CREATE INDEX sender_domain_due ON sender_domain (next_check_at);

ALTER TABLE sender_address ADD COLUMN verified_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sender_address ADD COLUMN decided_by TEXT NOT NULL DEFAULT '';   -- who verified, refused or revoked it
ALTER TABLE sender_address ADD COLUMN reason TEXT NOT NULL DEFAULT '';       -- of a revocation

-- A letter that asks the owner of an address, or tells that it was confirmed:
-- the link in it, and what became of it. Letters outlive what they are about,
-- as they are counted.
CREATE TABLE sender_letter (
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
CREATE INDEX sender_letter_due ON sender_letter (due, created_at);
CREATE INDEX sender_letter_of ON sender_letter (account_id, address_key, created_at);
CREATE INDEX sender_letter_age ON sender_letter (created_at);

-- Who wants no more letters of an account, and until when; it outlives the address.
CREATE TABLE sender_refusal (
    account_id  BYTEA  NOT NULL,
    address_key TEXT   NOT NULL,
    until       BIGINT NOT NULL,
    PRIMARY KEY (account_id, address_key)
);

CREATE INDEX sender_entry_account ON sender_entry (account_id, domain);
