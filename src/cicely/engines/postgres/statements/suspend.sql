-- Jobs that wait, their steps and events. Indexes: node.n, node_event, step (n, key), event_open.
-- Locks: the claim (by settle), then the job's node; events of one name and key one at a time (advisory).

-- :name pause
UPDATE job SET fence = %s, attempt = %s, started_at = %s, reason = %s, due_at = NULL, expires_at = NULL,
               traits = traits | 2
WHERE n = %s

-- :name waits
INSERT INTO node (n, waits) VALUES (%s, true) ON CONFLICT (n) DO UPDATE SET waits = true

-- :name go_at_once
WITH gone AS (
    UPDATE job j SET expires_at = NULL, rank = trunc(%(now)s::float8 * 1e6::float8)::bigint
           - CASE WHEN j.ageing_s > 0 THEN trunc(j.priority::float8 * j.ageing_s * 1e6::float8)::bigint
                  ELSE -((9 - j.priority)::bigint << 52) END
    FROM node g
    WHERE j.n = ANY(%(ns)b::bigint[]) AND g.n = j.n AND j.due_at IS NULL
      AND (j.fence > 0 OR g.delay_s <= 0 AND g.wanted_at IS NULL AND g.expires_s IS NULL AND g.expires_at IS NULL)
    RETURNING j.queue, coalesce(j.stream, 0) AS stream, j.class, j.rank, j.n
)
INSERT INTO ready (part, queue, stream, class, rank, n)
SELECT (SELECT last_value FROM ready_turn), queue, stream, class, rank, n FROM gone
RETURNING n, queue, stream,
          CASE WHEN stream <> 0 THEN (SELECT j.traits & 256 <> 0 FROM job j WHERE j.n = ready.n) ELSE false END

-- :name starts
SELECT j.n, j.queue, coalesce(j.stream, 0), j.class, j.priority, j.ageing_s, j.fence, g.delay_s, g.wanted_at, g.expires_s,
       g.expires_at, w.due_at, j.traits
FROM job j JOIN node g ON g.n = j.n LEFT JOIN deferred w ON w.due_at = j.due_at AND w.n = j.n
WHERE j.n = ANY(%(ns)b::bigint[]) ORDER BY j.n

-- :name go
UPDATE job SET rank = i.rank, due_at = i.due_at, expires_at = i.expires_at
FROM unnest(%(ns)b::bigint[], %(ranks)b::bigint[], %(due_ats)b::float8[], %(expires_ats)b::float8[])
     AS i (n, rank, due_at, expires_at)
WHERE job.n = i.n

-- :name go_ready
INSERT INTO ready (part, queue, stream, class, rank, n)
SELECT (SELECT last_value FROM ready_turn), queue, stream, class, rank, n
FROM unnest(%(queues)b::int[], %(streams)b::int[], %(classes)b::int[], %(ranks)b::bigint[], %(ns)b::bigint[])
     AS i (queue, stream, class, rank, n)

-- :name await
UPDATE node SET event = %s, event_key = %s, event_step = %s WHERE n = %s

-- :name due
UPDATE job SET due_at = %s WHERE n = %s

-- :name postpone
UPDATE job SET due_at = %s, rank = %s WHERE n = %s

-- :name timed_out
UPDATE node SET waits = false, event = NULL WHERE n = ANY(%(ns)b::bigint[]) AND waits RETURNING n, event_step

-- :name step
INSERT INTO step (n, key, value) VALUES (%s, %s, %s) ON CONFLICT (n, key) DO NOTHING

-- :name one_at_a_time
SELECT pg_advisory_xact_lock(hashtext('cicely event ' || current_schema()), hashtext(%(name)s || ' ' || %(key)s))

-- :name oldest_event
SELECT id, value FROM event WHERE name = %(name)s AND key = %(key)s AND NOT is_taken ORDER BY number LIMIT 1

-- :name take_event
UPDATE event SET is_taken = true, value = '' WHERE id = %s

-- :name add_event
INSERT INTO event (id, name, key, value, at, is_taken) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO NOTHING RETURNING id

-- :name waiting_for
SELECT n FROM node WHERE event = %(name)s AND event_key = %(key)s ORDER BY n LIMIT 1

-- :name steps
SELECT s.key, s.value FROM step s JOIN job j ON j.n = s.n WHERE j.id = %(id)s
ORDER BY s.number OFFSET %(after)s LIMIT %(limit)s

-- :name forget_events
DELETE FROM event WHERE id IN (
    SELECT id FROM event WHERE at <= %(before)s LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)
