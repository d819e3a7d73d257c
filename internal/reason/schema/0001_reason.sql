-- +goose Up

-- What holds mail up at a node, as it writes every few seconds: kind is house,
-- site, domain, account or user. There is no row for what holds nothing up.
CREATE TABLE standing (
    node   TEXT   NOT NULL,
    kind   TEXT   NOT NULL,
    name   TEXT   NOT NULL,
    report TEXT   NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (node, kind, name)
);
CREATE INDEX standing_name ON standing (kind, name);
