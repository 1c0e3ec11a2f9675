-- What stands between a job and its start, in a snapshot. Indexes: job.id, seat_lane, gated (stream, rank, n),
-- ready (queue, class, rank, n), edge_in, taken (n), passed_over (worker).

-- :name job
SELECT j.n, j.queue, j.lane, iif(j.rank, j.rank, coalesce(w.rank, 0)), q.paused, coalesce(w.held, 0)
FROM job j JOIN queue q ON q.id = j.queue LEFT JOIN node w ON w.n = j.n WHERE j.id = ?1

-- :name ahead_plain
SELECT count(*) FROM (
    SELECT 1 FROM ready WHERE queue = ?1 AND (rank, n) < (?2, ?3) LIMIT ?4
)

-- :name ahead
SELECT count(*) FROM (
    SELECT 1 FROM lane l JOIN seat t ON t.lane = l.id JOIN stream s ON s.seat = t.id
    JOIN gated g ON g.stream = s.id AND (g.rank, g.n) < (?3, ?4)
    WHERE l.queue = ?1 AND l.name = ?2 LIMIT ?5
)

-- :name lanes
SELECT l.name, l.clock FROM lane l WHERE l.queue = ?1 AND EXISTS (
    SELECT 1 FROM seat t JOIN stream s ON s.seat = t.id WHERE t.lane = l.id AND s.rank IS NOT NULL
) LIMIT ?2

-- :name has_plain
SELECT 1 FROM ready WHERE queue = ?1 LIMIT 1

-- :name clock
SELECT clock FROM lane WHERE queue = ?1 AND name = ?2

-- :name parents
SELECT coalesce(j.id, g.id, '') FROM edge e INDEXED BY edge_in LEFT JOIN job j ON j.n = e.parent
LEFT JOIN gone g ON g.n = e.parent WHERE e.child = ?1 AND e.held IS NULL ORDER BY e.id LIMIT ?2

-- :name place
SELECT j.stream, b.wants FROM job j JOIN gated g ON g.stream = j.stream AND g.rank = j.rank AND g.n = j.n
JOIN stream s ON s.id = j.stream JOIN seat t ON t.id = s.seat JOIN band b ON b.id = t.band WHERE j.n = ?1

-- :name passed_over
SELECT p.worker, j.id, p.at, j.flow, b.wants
FROM passed_over p JOIN job j ON j.n = p.n JOIN queue q ON q.id = j.queue AND NOT q.paused
JOIN stream s ON s.id = j.stream JOIN seat t ON t.id = s.seat JOIN band b ON b.id = t.band
JOIN gated g ON g.stream = j.stream AND g.rank = j.rank AND g.n = j.n WHERE j.stream <> ?1
ORDER BY p.worker

-- :name taken
SELECT s.key, j.id, r.claimed_at, t.units
FROM taken t JOIN run r ON r.n = t.n JOIN session s ON s.id = r.session JOIN job j ON j.n = t.n ORDER BY t.n
