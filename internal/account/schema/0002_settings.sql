-- +goose Up

ALTER TABLE account ADD COLUMN speed_per_hour BIGINT NOT NULL DEFAULT 0; -- recipients; 0: no limit

ALTER TABLE list ADD COLUMN min_tls TEXT NOT NULL DEFAULT 'may';
ALTER TABLE list ADD COLUMN retry TEXT NOT NULL DEFAULT ''; -- seconds, with spaces between; empty: the house's schedule
ALTER TABLE list ADD COLUMN lifetime BIGINT NOT NULL DEFAULT 0; -- seconds; 0: the house's
ALTER TABLE list ADD COLUMN delay_after BIGINT NOT NULL DEFAULT 0; -- seconds; 0: the house's
ALTER TABLE list ADD COLUMN paused BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE list ADD COLUMN lang TEXT NOT NULL DEFAULT 'en';

ALTER TABLE smtp_user ADD COLUMN networks TEXT NOT NULL DEFAULT ''; -- prefixes, with spaces between; empty: from anywhere
ALTER TABLE smtp_user ADD COLUMN quota_per_hour BIGINT NOT NULL DEFAULT 0; -- recipients; 0: none
ALTER TABLE smtp_user ADD COLUMN speed_per_hour BIGINT NOT NULL DEFAULT 0; -- recipients; 0: no limit

-- What SCRAM-SHA-256 is checked against (RFC 5802 §3). Passwords from before
-- have none, and can't be used by it until they are regenerated.
ALTER TABLE credential ADD COLUMN stored_key BYTEA;
ALTER TABLE credential ADD COLUMN server_key BYTEA;
ALTER TABLE credential ADD COLUMN last_used_at BIGINT NOT NULL DEFAULT 0;
