-- The least that a durable queue can keep: three narrow tables, and one that nobody looks at.
DROP SCHEMA IF EXISTS raw CASCADE;
CREATE SCHEMA raw;
CREATE TABLE raw.ready (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL);
CREATE TABLE raw.run (id bigint PRIMARY KEY, token bytea NOT NULL, session bigint NOT NULL);
CREATE TABLE raw.done (id bigint PRIMARY KEY, result bytea NOT NULL, ended_at timestamptz NOT NULL);
CREATE TABLE raw.scheduled (due_at timestamptz NOT NULL, id bigint NOT NULL, body bytea NOT NULL, PRIMARY KEY (due_at, id));
