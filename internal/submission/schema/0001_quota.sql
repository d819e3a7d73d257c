-- +goose Up

-- Recipients that a user with a quota had accepted, by minute since 1970.
CREATE TABLE submission_quota (
    user_id    BYTEA  NOT NULL,
    minute     BIGINT NOT NULL,
    recipients BIGINT NOT NULL,
    PRIMARY KEY (user_id, minute)
);
