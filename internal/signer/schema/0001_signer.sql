-- +goose Up

CREATE TABLE signer_key (
    id           BYTEA  NOT NULL PRIMARY KEY,
    account_id   BYTEA  NOT NULL, -- 16 octets of 0: the house itself
    domain_id    BYTEA  NOT NULL, -- the seal binds the private half to it
    domain       TEXT   NOT NULL, -- A-labels, lower case
    selector     TEXT   NOT NULL,
    algorithm    TEXT   NOT NULL,
    record_name  TEXT   NOT NULL, -- what to publish
    record_value TEXT   NOT NULL,
    sealed       BYTEA  NOT NULL, -- private half, seal.go; empty once revoked
    state        TEXT   NOT NULL, -- state.go
    created_at   BIGINT NOT NULL,
    published_at BIGINT NOT NULL DEFAULT 0, -- when the record was first seen in the DNS; 0: not there when last looked
    moved_at     BIGINT NOT NULL DEFAULT 0, -- when the key came into its state
    UNIQUE (domain, selector)               -- a selector is free in the DNS, whoever has the domain
);
CREATE INDEX signer_key_domain ON signer_key (account_id, domain);
CREATE INDEX signer_key_moved ON signer_key (state, moved_at);

-- One row: what only the secret that sealed this database can compute.
CREATE TABLE signer_seal (
    id          BIGINT NOT NULL PRIMARY KEY,
    check_value BYTEA  NOT NULL
);
