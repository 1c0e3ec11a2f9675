-- Handing out ready jobs. The primary key of ready is (queue, class, rank, n): the classes are found
-- by one seek each, and what cannot be taken is never scanned.
-- Runs under the write lock.
-- next_class compares with the whole rest of the key: with less, SQLite would read every equal row.

-- :name queue
SELECT id, paused, lanes > 1 OR EXISTS (SELECT 1 FROM band WHERE queue = queue.id)
FROM queue WHERE name = ?1

-- :name next_class
SELECT class, rank, n FROM ready
WHERE queue = ?1 AND (class, rank, n) > (?2, 9223372036854775807, 9223372036854775807)
ORDER BY class, rank, n LIMIT 1

-- :name heads
SELECT r.rank, r.n, j.id, j.created_at, j.expires_at, j.fence, j.options,
       CASE WHEN j.body IS NULL THEN (SELECT body FROM payload WHERE n = r.n) ELSE j.body END, j.flags
FROM ready r LEFT JOIN job j ON j.n = r.n
WHERE r.queue = ?1 AND r.class = ?2 AND (r.rank, r.n) > (?3, ?4)
ORDER BY r.rank, r.n LIMIT ?5

-- :name head_keys
SELECT rank, n FROM ready
WHERE queue = ?1 AND class = ?2 AND (rank, n) > (?3, ?4)
ORDER BY rank, n LIMIT ?5

-- :name head
SELECT ?1, ?2, j.id, j.created_at, j.expires_at, j.fence, j.options,
       CASE WHEN j.body IS NULL THEN (SELECT body FROM payload WHERE n = ?2) ELSE j.body END, j.flags
FROM job j WHERE j.n = ?2

-- What else a claim carries of a job that was claimed before.
-- :name earlier
SELECT errors, crashes, lost, (SELECT checkpoint FROM live WHERE n = ?1),
       CASE WHEN errors + crashes + lost THEN reason ELSE '' END
FROM job WHERE n = ?1

-- :name take
DELETE FROM ready
WHERE queue = ?1 AND class = ?2 AND (rank, n) <= (?3, ?4)

-- :name run
INSERT INTO run (n, session, request, fence, claimed_at, deadline_at)
SELECT value, ?2, ?3, ?4, ?5, ?6 FROM carray(?1)

-- :name run_gated
INSERT INTO run (n, session, request, fence, claimed_at, deadline_at, charged)
SELECT value, ?2, ?3, ?4, ?5, ?6, ?7 FROM carray(?1)

-- :name started
DELETE FROM expiring WHERE expires_at = ? AND n = ?

-- :name repeated
SELECT j.rank, r.n, j.id, j.created_at, j.expires_at, r.fence - 1, j.options,
       CASE WHEN j.body IS NULL THEN (SELECT body FROM payload WHERE n = r.n) ELSE j.body END, j.flags,
       j.class, j.queue, t.units, j.flow
FROM run r JOIN job j ON j.n = r.n LEFT JOIN taken t ON t.n = iif(r.charged IS NULL, NULL, r.n)
WHERE r.session = ?1 AND r.request = ?2 ORDER BY r.n

-- :name next_due
SELECT (SELECT due_at FROM deferred ORDER BY due_at LIMIT 1),
       (SELECT open_at FROM park INDEXED BY park_opening WHERE open_at > ?1 ORDER BY open_at LIMIT 1)

-- :name class_of
SELECT class FROM job WHERE n = ?1
