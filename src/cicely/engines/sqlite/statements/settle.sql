-- Ending attempts. Tokens carry their job's n, so each is one seek in run and one in job.
-- Runs under the write lock.

-- :name held
SELECT r.n, r.request, r.fence, r.session, r.claimed_at, r.cancelling,
       j.id, j.queue, j.keep_s, j.errors + j.crashes + j.lost + 1, j.unique_key, j.flags, j.class,
       r.charged, iif(r.charged IS NULL, NULL, j.lane), iif(r.charged IS NULL, NULL, j.flow)
FROM carray(?1) c JOIN run r ON r.n = c.value JOIN job j ON j.n = r.n

-- :name rows
SELECT j.n, j.id, j.class, j.queue, j.lane, j.priority, iif(j.rank, j.rank, coalesce(w.rank, 0)), j.due_at, j.expires_at, j.ageing_s,
       j.keep_s, j.keep_failed_s, j.max_receives, j.unique_key, j.errors, j.crashes, j.lost,
       coalesce(r.fence, d.fence, j.fence), coalesce(d.attempt, j.attempt),
       coalesce(r.claimed_at, d.started_at, j.started_at), r.session, r.request,
       coalesce(r.cancelling, 0), j.reason, d.state, j.flags, coalesce(w.waits, 0), w.event,
       j.flow, j.shuns, j.stream, r.charged, w.cause
FROM carray(?1) c JOIN job j ON j.n = c.value
LEFT JOIN run r ON r.n = j.n LEFT JOIN done d ON d.n = j.n
LEFT JOIN node w ON w.n = iif(j.flags, j.n, NULL) ORDER BY j.n

-- :name held_by
SELECT n FROM run WHERE session = ?1

-- :name recorded
SELECT reason FROM receipt WHERE token = ?1

-- :name recorded_end
SELECT outcome FROM done WHERE n = ?1 AND request = ?2 AND (fence & 0xffffff) = ?3

-- :name done
INSERT INTO done (n, state, ended_at, started_at, session, request, fence, attempt, reason, outcome,
                  error, result)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- :name done_alike
INSERT INTO done (n, state, ended_at, started_at, session, request, fence, attempt, reason, outcome,
                  error, result)
SELECT value, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12 FROM carray(?1)

-- :name sweepable
INSERT INTO sweepable (delete_at, n) SELECT ?2, value FROM carray(?1)

-- :name unrun
DELETE FROM run WHERE n IN carray(?1)

-- :name unready
DELETE FROM ready WHERE queue = ? AND class = ? AND rank = ? AND n = ?

-- :name undeferred
DELETE FROM deferred WHERE due_at = ? AND n = ?

-- :name unexpiring
DELETE FROM expiring WHERE expires_at = ? AND n = ?

-- :name ununiq
DELETE FROM uniq WHERE key = ? AND n = ?

-- :name tallies
UPDATE job SET errors = ?2, crashes = ?3, lost = ?4 WHERE n = ?1

-- :name again
UPDATE job SET errors = ?2, crashes = ?3, lost = ?4, fence = ?5, attempt = ?6, started_at = ?7,
               class = ?8, rank = ?9, due_at = ?10, reason = ?11, expires_at = ?12
WHERE n = ?1

-- :name error
INSERT INTO live (n, error) VALUES (?1, ?2) ON CONFLICT (n) DO UPDATE SET error = ?2

-- :name attempt
INSERT OR REPLACE INTO attempt (n, fence, attempt, reason, started_at, ended_at, session, error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- :name last_attempts
SELECT reason FROM attempt WHERE n = ?1 ORDER BY fence DESC LIMIT ?2

-- :name receipt
INSERT OR REPLACE INTO receipt (token, reason, until_at) VALUES (?, ?, ?)

-- :name lease
SELECT lease_s FROM session WHERE id = ?1
