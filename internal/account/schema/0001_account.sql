-- +goose Up

-- Numbers of accounts and of lists are global: each is one above the highest.
CREATE TABLE account (
    id         BYTEA  NOT NULL PRIMARY KEY,
    number     BIGINT NOT NULL UNIQUE,
    name       TEXT   NOT NULL UNIQUE,
    users_made BIGINT NOT NULL DEFAULT 0, -- counts up only: the N of sACCOUNT_N is never used twice
    created_at BIGINT NOT NULL
);

CREATE TABLE list (
    id         BYTEA  NOT NULL PRIMARY KEY,
    account_id BYTEA  NOT NULL,
    number     BIGINT NOT NULL UNIQUE,
    name       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (account_id, name)
);

-- A removed user keeps its row: history needs the name, and nobody else may get it.
CREATE TABLE smtp_user (
    id           BYTEA   NOT NULL PRIMARY KEY,
    account_id   BYTEA   NOT NULL,
    list_id      BYTEA   NOT NULL,
    number       BIGINT  NOT NULL,
    name         TEXT    NOT NULL UNIQUE,
    active       BOOLEAN NOT NULL,
    priority     BIGINT  NOT NULL,
    note         TEXT    NOT NULL,
    require_tls  BOOLEAN NOT NULL,
    created_at   BIGINT  NOT NULL,
    password_at  BIGINT  NOT NULL,
    last_used_at BIGINT  NOT NULL DEFAULT 0,
    removed_at   BIGINT  NOT NULL DEFAULT 0,
    UNIQUE (account_id, number)
);
CREATE INDEX smtp_user_list ON smtp_user (list_id, number);

-- hash is SHA-256(salt, password). The password itself is stored nowhere.
CREATE TABLE credential (
    id         BYTEA   NOT NULL PRIMARY KEY,
    account_id BYTEA   NOT NULL,
    user_id    BYTEA   NOT NULL,
    salt       BYTEA   NOT NULL,
    hash       BYTEA   NOT NULL,
    one_time   BOOLEAN NOT NULL,
    created_at BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL DEFAULT 0, -- 0: never
    used_at    BIGINT  NOT NULL DEFAULT 0  -- one-time ones only: when their message was accepted
);
CREATE INDEX credential_user ON credential (user_id);
CREATE INDEX credential_expiry ON credential (expires_at) WHERE expires_at > 0;
