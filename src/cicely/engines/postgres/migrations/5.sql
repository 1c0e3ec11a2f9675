-- From 4 to 5: what came to a stream is told with its place; streams of which no job is left are forgotten.

ALTER TABLE came ADD COLUMN rank bigint;
ALTER TABLE came ADD COLUMN n bigint;

-- Whether any job is left of a stream.
CREATE INDEX job_stream ON job (stream) WHERE stream IS NOT NULL;
