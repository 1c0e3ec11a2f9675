-- Ending attempts. Tokens carry their job's n, so each is one seek in run and one in job.
-- Locks: run rows in the order of n; what stands elsewhere is locked by the statements lock_*.

-- :name held
SELECT r.n, r.request, r.fence, r.session, r.claimed_at, r.cancelling,
       j.id, j.queue, j.keep_s, j.errors + j.crashes + j.lost + 1, j.unique_key, r.traits, j.class
FROM run r JOIN job j ON j.n = r.n
WHERE r.n = ANY(%(ns)b::bigint[]) ORDER BY r.n FOR UPDATE OF r

-- The same where jobs may be gated: and what their claims took.
-- :name held_gated
SELECT r.n, r.request, r.fence, r.session, r.claimed_at, r.cancelling,
       j.id, j.queue, j.keep_s, j.errors + j.crashes + j.lost + 1, j.unique_key, r.traits, j.class,
       CASE WHEN r.charged > 0 THEN coalesce(
           (SELECT lane FROM stream WHERE id = j.stream), (SELECT id FROM lane WHERE queue = j.queue AND name = j.lane)
       ) END, j.flow, r.charged
FROM run r JOIN job j ON j.n = r.n
WHERE r.n = ANY(%(ns)b::bigint[]) ORDER BY r.n FOR UPDATE OF r

-- :name rows
SELECT j.n, j.id, j.class, j.queue, coalesce(j.stream, 0), j.priority, j.rank, w.due_at, j.expires_at, j.ageing_s,
       j.keep_s, j.keep_failed_s, j.max_receives, j.unique_key, j.errors, j.crashes, j.lost,
       coalesce(r.fence, d.fence, j.fence), coalesce(d.attempt, j.attempt),
       coalesce(r.claimed_at, d.started_at, j.started_at), r.session, r.request,
       coalesce(r.cancelling, false), j.reason, d.state, j.traits, coalesce(g.waits, false),
       coalesce(r.traits, 0)::smallint
FROM job j LEFT JOIN run r ON r.n = j.n LEFT JOIN done d ON d.n = j.n
LEFT JOIN node g ON g.n = j.n AND j.traits & 2 <> 0
LEFT JOIN deferred w ON w.due_at = j.due_at AND w.n = j.n
WHERE j.n = ANY(%(ns)b::bigint[]) ORDER BY j.n

-- :name lock_run
SELECT n FROM run WHERE n = ANY(%(ns)b::bigint[]) ORDER BY n FOR UPDATE

-- :name lock_ready
SELECT r.n FROM job j JOIN ready r
    ON r.queue = j.queue AND r.stream = coalesce(j.stream, 0) AND r.class = j.class AND r.rank = j.rank AND r.n = j.n
WHERE j.n = ANY(%(ns)b::bigint[]) ORDER BY j.n FOR UPDATE OF r

-- :name lock_deferred
SELECT d.n FROM job j JOIN deferred d ON d.due_at = j.due_at AND d.n = j.n
WHERE j.n = ANY(%(ns)b::bigint[]) ORDER BY j.n FOR UPDATE OF d

-- :name lock_done
SELECT n FROM done WHERE n = ANY(%(ns)b::bigint[]) ORDER BY n FOR UPDATE

-- :name lock_waiting
SELECT n FROM node WHERE n = ANY(%(ns)b::bigint[]) AND waits ORDER BY n FOR UPDATE

-- :name held_by
SELECT n FROM run WHERE session = %(session)s ORDER BY n FOR UPDATE

-- :name recorded
SELECT reason FROM receipt WHERE token = %(token)s

-- :name recorded_end
SELECT outcome FROM done
WHERE n = %(n)s AND request = %(request)s AND (fence & 16777215) = %(fence)s
  AND EXISTS (SELECT FROM job WHERE job.n = done.n)

-- :name succeed
WITH gone AS (
    DELETE FROM run WHERE n = ANY(%(ns)b::bigint[])
)
INSERT INTO done (n, state, ended_at, delete_at, started_at, session, request, fence, attempt, reason,
                  outcome, result, day)
SELECT n, 3, %(now)s, delete_at, started_at, session, request, fence, attempt, '', 'succeeded', result,
       coalesce(day.day, 0)
FROM unnest(%(ns)b::bigint[], %(delete_ats)b::float8[], %(started_ats)b::float8[], %(sessions)b::int[],
            %(requests)b::bytea[], %(fences)b::int[], %(attempts)b::int[], %(results)b::bytea[],
            %(days)b::int[])
     AS i (n, delete_at, started_at, session, request, fence, attempt, result, wanted)
LEFT JOIN day ON day.day = i.wanted AND day.is_open

-- :name done
INSERT INTO done (n, state, ended_at, delete_at, started_at, session, request, fence, attempt, reason,
                  outcome, error, result, day)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
        coalesce((SELECT day FROM day WHERE day = %s AND is_open), 0))

-- :name unrun
DELETE FROM run WHERE n = ANY(%(ns)b::bigint[])

-- :name unready
DELETE FROM ready WHERE queue = %s AND stream = %s AND class = %s AND rank = %s AND n = %s

-- :name undeferred
DELETE FROM deferred WHERE due_at = %s AND n = %s

-- :name unexpiring
DELETE FROM expiring WHERE expires_at = %s AND n = %s

-- :name ununiq
DELETE FROM uniq WHERE key = %s AND id = %s

-- :name tallies
UPDATE job SET errors = %s, crashes = %s, lost = %s WHERE n = %s

-- :name again
UPDATE job SET errors = %s, crashes = %s, lost = %s, fence = %s, attempt = %s, started_at = %s,
               class = %s, rank = %s, due_at = %s, reason = %s, expires_at = %s
WHERE n = %s

-- :name ready
INSERT INTO ready (part, queue, stream, class, rank, n)
VALUES ((SELECT last_value FROM ready_turn), %s, %s, %s, %s, %s)

-- :name deferred
INSERT INTO deferred (due_at, n) VALUES (%s, %s)

-- :name expiring
INSERT INTO expiring (expires_at, n) VALUES (%s, %s) ON CONFLICT DO NOTHING

-- :name error
INSERT INTO live (n, error) VALUES (%s, %s) ON CONFLICT (n) DO UPDATE SET error = excluded.error

-- :name last_attempts
SELECT reason FROM attempt WHERE n = %(n)s ORDER BY fence DESC LIMIT %(limit)s

-- :name attempt
INSERT INTO attempt (n, fence, attempt, reason, started_at, ended_at, session, error)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (n, fence) DO NOTHING

-- :name receipt
INSERT INTO receipt (token, reason, until_at) VALUES (%s, %s, %s)
ON CONFLICT (token) DO UPDATE SET reason = excluded.reason, until_at = excluded.until_at

-- :name lease
SELECT lease_s FROM session WHERE id = %s
