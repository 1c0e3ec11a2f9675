-- From 2 to 3: ends get a part for each day on which they expire, which is dropped as a whole. What there is
-- stays where it is, in the part that is for no day.

ALTER TABLE done ADD COLUMN day int NOT NULL DEFAULT 0;
ALTER TABLE done RENAME TO done_0;
ALTER TABLE done_0 DROP CONSTRAINT done_pkey;
DROP INDEX done_delete, done_state;

CREATE TABLE done (
    n bigint NOT NULL,
    state smallint NOT NULL,
    ended_at float8 NOT NULL,
    delete_at float8 NOT NULL,
    started_at float8,
    session int,
    request bytea,
    fence int NOT NULL,
    attempt int NOT NULL,
    reason text NOT NULL,
    outcome text NOT NULL,
    error bytea,
    result bytea,
    day int NOT NULL DEFAULT 0,
    PRIMARY KEY (n, day)
) PARTITION BY LIST (day);
ALTER TABLE done ALTER COLUMN result SET STORAGE EXTERNAL;
CREATE INDEX done_delete ON done (delete_at);
CREATE INDEX done_state ON done (state, n) WHERE state <> 3;
ALTER TABLE done ATTACH PARTITION done_0 FOR VALUES IN (0);

-- The days that have a part of done, counted in 86,400 s of delete_at. is_open: ends go there. swept_at:
-- of the jobs that expire before, none is left.
CREATE TABLE day (
    day int PRIMARY KEY,
    is_open boolean NOT NULL DEFAULT true,
    swept_at float8 NOT NULL
) WITH (fillfactor = 50);
