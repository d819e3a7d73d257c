-- +goose Up
-- released_at and keep_until are NULL while a recipient still needs the content.
CREATE TABLE content (
    id          BYTEA  NOT NULL PRIMARY KEY,
    account_id  BYTEA  NOT NULL,
    size        BIGINT NOT NULL,
    released_at BIGINT,
    keep_until  BIGINT
);

CREATE INDEX content_keep ON content (keep_until) WHERE keep_until IS NOT NULL;
CREATE INDEX content_released ON content (released_at, size) WHERE released_at IS NOT NULL;

CREATE TABLE content_chunk (
    content_id BYTEA  NOT NULL,
    n          BIGINT NOT NULL,
    bytes      BYTEA  NOT NULL,
    PRIMARY KEY (content_id, n)
);

-- Content that is being written ahead: it has chunks, and no row in content yet.
-- dead: it is being removed, and can't be accepted any more.
CREATE TABLE content_ahead (
    id         BYTEA   NOT NULL PRIMARY KEY,
    started_at BIGINT  NOT NULL,
    chunks     BIGINT  NOT NULL,
    dead       BOOLEAN NOT NULL
);
