-- +goose Up

-- Several accounts may have the same domain: each proves it by itself.
CREATE TABLE sender_domain (
    id          BYTEA   NOT NULL PRIMARY KEY,
    account_id  BYTEA   NOT NULL,
    name        TEXT    NOT NULL, -- A-labels, lower case
    state       TEXT    NOT NULL, -- state.go
    token       TEXT    NOT NULL,
    overridden  BOOLEAN NOT NULL DEFAULT FALSE,
    reason      TEXT    NOT NULL DEFAULT '',
    last_error  TEXT    NOT NULL DEFAULT '',
    created_at  BIGINT  NOT NULL,
    verified_at BIGINT  NOT NULL DEFAULT 0,
    checked_at  BIGINT  NOT NULL DEFAULT 0,
    UNIQUE (account_id, name)
);

-- domain is here too because a selector must be free in the DNS, whoever has the domain.
CREATE TABLE sender_key (
    id           BYTEA  NOT NULL PRIMARY KEY,
    account_id   BYTEA  NOT NULL,
    domain_id    BYTEA  NOT NULL,
    domain       TEXT   NOT NULL,
    selector     TEXT   NOT NULL,
    algorithm    TEXT   NOT NULL,
    record_name  TEXT   NOT NULL, -- what to publish
    record_value TEXT   NOT NULL,
    sealed       BYTEA  NOT NULL, -- private half, seal.go
    created_at   BIGINT NOT NULL,
    UNIQUE (domain, selector)
);
CREATE INDEX sender_key_domain ON sender_key (domain_id);

CREATE TABLE sender_address (
    id          BYTEA  NOT NULL PRIMARY KEY,
    account_id  BYTEA  NOT NULL,
    address_key TEXT   NOT NULL, -- mail.Address.Key
    address     TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    UNIQUE (account_id, address_key)
);

-- What a user may send from, once that is verified.
CREATE TABLE sender_entry (
    user_id     BYTEA  NOT NULL,
    account_id  BYTEA  NOT NULL,
    kind        TEXT   NOT NULL,            -- domain, wildcard or address
    domain      TEXT   NOT NULL,            -- itself, the one below which, or the one of the address
    address_key TEXT   NOT NULL DEFAULT '', -- mail.Address.Key; '' for the other kinds
    shown       TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (user_id, kind, domain, address_key)
);

-- One row: what only the secret that sealed this database can compute.
CREATE TABLE sender_seal (
    id          BIGINT NOT NULL PRIMARY KEY,
    check_value BYTEA  NOT NULL
);
