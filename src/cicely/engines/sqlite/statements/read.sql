-- Looking at jobs, in a snapshot. Candidates come from the narrowest index, newest first.

-- :name get
SELECT n FROM job WHERE id = ?1

-- :name tomb
SELECT class, queue, state FROM tomb WHERE id = ?1

-- :name outline
SELECT j.n, j.id, j.class, j.queue, j.lane, j.priority, j.tags, j.unique_key,
       j.errors, j.crashes, j.lost, j.attempt, j.fence, j.created_at, j.due_at, j.expires_at,
       j.started_at, j.reason, r.claimed_at, r.fence, r.cancelling,
       (SELECT key FROM session WHERE id = r.session),
       d.state, d.started_at, d.ended_at, d.fence, d.attempt, d.reason, d.error,
       l.progress, l.error,
       w.waits, w.held + w.pending, w.event, w.cause, f.name, w.grp, t.units
FROM carray(?1) c JOIN job j ON j.n = c.value
LEFT JOIN run r ON r.n = j.n LEFT JOIN done d ON d.n = j.n LEFT JOIN live l ON l.n = j.n
LEFT JOIN node w ON w.n = iif(j.flags, j.n, NULL) LEFT JOIN workflow f ON f.id = w.workflow LEFT JOIN taken t ON t.n = iif(r.charged IS NULL, NULL, r.n)
ORDER BY j.n DESC

-- :name body
SELECT coalesce(j.body, p.body, x''), j.options, d.result, j.flow
FROM job j LEFT JOIN payload p ON p.n = j.n LEFT JOIN done d ON d.n = j.n WHERE j.n = ?1

-- :name attempts
SELECT a.attempt, a.fence, a.reason, a.started_at, a.ended_at, coalesce(s.key, ''), coalesce(a.error, x'')
FROM attempt a LEFT JOIN session s ON s.id = a.session WHERE a.n = ?1
UNION ALL
SELECT d.attempt, d.fence, d.outcome, d.started_at, d.ended_at, coalesce(s.key, ''), coalesce(d.error, x'')
FROM done d LEFT JOIN session s ON s.id = d.session WHERE d.n = ?1 AND d.session IS NOT NULL
ORDER BY 2

-- :name newest
SELECT n FROM job WHERE n < ?1 ORDER BY n DESC LIMIT ?2

-- :name newest_running
SELECT n FROM run WHERE n < ?1 ORDER BY n DESC LIMIT ?2

-- :name newest_ended
SELECT n FROM done WHERE state = ?3 AND state <> 3 AND n < ?1 ORDER BY n DESC LIMIT ?2

-- :name newest_final
SELECT n FROM done WHERE n < ?1 ORDER BY n DESC LIMIT ?2

-- :name newest_tagged
SELECT n FROM tag WHERE tag = ?3 AND n < ?1 ORDER BY n DESC LIMIT ?2

-- :name newest_of_workflow
SELECT n FROM node WHERE workflow = (SELECT id FROM workflow WHERE name = ?3) AND n < ?1 ORDER BY n DESC LIMIT ?2

-- :name newest_of_group
SELECT n FROM node WHERE grp = ?3 AND n < ?1 ORDER BY n DESC LIMIT ?2

-- :name counts
SELECT q.name, q.paused, c.state, c.jobs
FROM queue q LEFT JOIN counter c ON c.queue = q.id ORDER BY q.name, c.state
