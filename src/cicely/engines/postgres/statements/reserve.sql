-- What workflows have reserved on workers. Indexes: the primary key (workflow, worker), taken_drawn, label_workflow,
-- ready (queue, stream, class, rank, n).
-- Locks: a workflow's (advisory, until the commit) is shared by all who make jobs of it ready that may draw, and had
-- alone by who reserves for it, so that none of them misses the other. Then the reservation's row. What running jobs
-- draw is changed under the flow lock only (see stream.sql), which whoever changes a reservation takes before the
-- commit: a claim, which has it, sees all of a change or nothing.

-- :name share
SELECT workflow, pg_advisory_xact_lock_shared(hashtext('cicely workflow ' || current_schema()), hashtext(workflow))
FROM (
    SELECT DISTINCT l.workflow FROM job j JOIN label l ON l.n = j.n
    WHERE j.n = ANY(%(ns)b::bigint[]) AND j.traits & 256 <> 0 ORDER BY l.workflow
) AS of_jobs

-- :name own
SELECT n, workflow, pg_advisory_xact_lock(hashtext('cicely workflow ' || current_schema()), hashtext(workflow))
FROM (
    SELECT n, workflow FROM label WHERE n = ANY(%(ns)b::bigint[]) AND workflow <> '' ORDER BY workflow, n
) AS of_jobs

-- :name workflow
SELECT workflow FROM label WHERE n = %(n)s AND workflow <> ''

-- There are as few as there are devices: who asks reads all.
-- :name all
SELECT workflow, worker, job, since, units, offers FROM reservation ORDER BY worker, workflow

-- :name used
SELECT workflow, worker, units, drawn FROM taken WHERE drawn IS NOT NULL ORDER BY n

-- :name reserved
SELECT workflow, units FROM reservation WHERE workflow = ANY(%(workflows)b::text[])

-- --- beginning and ending ------------------------------------------------------------------------

-- :name held
SELECT worker, units, drawn FROM taken WHERE n = %(n)s

-- :name begin
INSERT INTO reservation (workflow, worker, job, since, units, offers)
VALUES (%(workflow)s, %(worker)s, %(job)s, %(since)s, %(units)s, %(offers)s)
ON CONFLICT (workflow, worker) DO NOTHING RETURNING job

-- :name lock
SELECT units FROM reservation WHERE workflow = %(workflow)s AND worker = %(worker)s FOR UPDATE

-- :name lock_all
SELECT worker, units FROM reservation WHERE workflow = %(workflow)s ORDER BY worker FOR UPDATE

-- :name change
UPDATE reservation SET units = %(units)s WHERE workflow = %(workflow)s AND worker = %(worker)s

-- :name end
DELETE FROM reservation WHERE workflow = %(workflow)s AND worker = %(worker)s

-- :name drawn_of
SELECT n, drawn FROM taken WHERE drawn IS NOT NULL AND workflow = %(workflow)s AND worker = %(worker)s

-- :name draw
UPDATE taken SET drawn = %s WHERE n = %s

-- :name on_worker
SELECT 1 FROM reservation WHERE worker = %(worker)s LIMIT 1

-- :name end_on
DELETE FROM reservation WHERE worker = %(worker)s

-- Those of workflows of which no job is live. The last job of a workflow is looked at first: it mostly is.
-- :name over
SELECT workflow, worker FROM reservation r
WHERE (
    SELECT l.n FROM label l WHERE l.workflow = r.workflow AND l.workflow <> ''
      AND NOT EXISTS (SELECT FROM done WHERE done.n = l.n) ORDER BY l.n DESC LIMIT 1
) IS NULL ORDER BY workflow, worker LIMIT %(batch)s FOR UPDATE SKIP LOCKED

-- --- where jobs stand ----------------------------------------------------------------------------

-- :name members
SELECT n FROM label WHERE workflow = %(workflow)s AND workflow <> '' AND n > %(after)s ORDER BY n LIMIT %(limit)s

-- Of jobs that may draw, those that are ready.
-- :name standing
SELECT j.n, r.queue, r.stream, r.class, r.rank, j.lane, j.flow, l.workflow
FROM job j JOIN label l ON l.n = j.n JOIN ready r
    ON r.queue = j.queue AND r.stream = coalesce(j.stream, 0) AND r.class = j.class AND r.rank = j.rank AND r.n = j.n
WHERE j.n = ANY(%(ns)b::bigint[]) AND j.traits & 256 <> 0 AND l.workflow = ANY(%(workflows)b::text[])
ORDER BY j.n FOR UPDATE OF r

-- :name move
WITH moved AS MATERIALIZED (
    SELECT * FROM unnest(%(ns)b::bigint[], %(queues)b::int[], %(streams)b::int[], %(classes)b::int[],
                         %(ranks)b::bigint[], %(to)b::int[]) AS i (n, queue, stream, class, rank, stands_in)
), gone AS (
    DELETE FROM ready r USING moved m
    WHERE r.queue = m.queue AND r.stream = m.stream AND r.class = m.class AND r.rank = m.rank AND r.n = m.n
), noted AS (
    UPDATE job SET stream = m.stands_in, traits = job.traits | 48::smallint FROM moved m WHERE job.n = m.n
)
INSERT INTO ready (part, queue, stream, class, rank, n)
SELECT (SELECT last_value FROM ready_turn), queue, stands_in, class, rank, n FROM moved
