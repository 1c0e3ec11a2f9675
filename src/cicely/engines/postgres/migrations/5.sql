-- From 4 to 5: what came to a stream is told with its place; streams of which no job is left are forgotten;
-- reservations.

ALTER TABLE came ADD COLUMN rank bigint;
ALTER TABLE came ADD COLUMN n bigint;

-- Whether any job is left of a stream.
CREATE INDEX job_stream ON job (stream) WHERE stream IS NOT NULL;

-- What workflows have reserved on workers, and what running jobs draw of that.
ALTER TABLE taken ADD COLUMN workflow text COLLATE "C";
ALTER TABLE taken ADD COLUMN drawn bytea;
CREATE INDEX taken_drawn ON taken (workflow, worker) WHERE drawn IS NOT NULL;
CREATE TABLE reservation (
    workflow text COLLATE "C" NOT NULL,
    worker text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    since float8 NOT NULL,
    units bytea NOT NULL,
    offers bytea NOT NULL,
    PRIMARY KEY (workflow, worker)
) WITH (fillfactor = 50);

-- Jobs of workflows that may want resources: what they want is looked at when they become ready.
UPDATE job SET traits = traits | 256::smallint FROM label
WHERE label.n = job.n AND label.workflow <> '' AND job.flow IS NOT NULL;
