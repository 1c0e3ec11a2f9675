-- What stands between a job and its start, in a snapshot. Indexes: job.id, stream_lane, edge_in, taken (n),
-- ready (queue, stream, class, rank, n), passed_over (worker).

-- :name job
SELECT j.n, j.queue, j.lane, CASE WHEN w.waits AND j.fence = 0 THEN 0 ELSE j.rank END, q.paused,
       coalesce(w.held, false)
FROM job j JOIN queue q ON q.id = j.queue LEFT JOIN node w ON w.n = j.n WHERE j.id = %(id)s

-- :name ahead_plain
SELECT count(*) FROM (
    SELECT FROM ready WHERE queue = %(queue)s AND stream = 0 AND (rank, n) < (%(rank)s::bigint, %(n)s::bigint)
    LIMIT %(limit)s
) AS page

-- :name ahead
SELECT count(*) FROM (
    SELECT FROM lane l JOIN stream s ON s.lane = l.id JOIN gate g ON g.id = s.gate JOIN band b ON b.id = g.band
    JOIN ready r ON r.queue = b.queue AND r.stream = s.id AND r.class = b.class
    WHERE l.queue = %(queue)s AND l.name = %(lane)s AND (r.rank, r.n) < (%(rank)s::bigint, %(n)s::bigint)
    LIMIT %(limit)s
) AS page

-- :name lanes
SELECT l.name, l.clock FROM lane l WHERE l.queue = %(queue)s AND EXISTS (
    SELECT FROM stream s JOIN gate g ON g.id = s.gate JOIN band b ON b.id = g.band
    JOIN ready r ON r.queue = b.queue AND r.stream = s.id AND r.class = b.class WHERE s.lane = l.id
) LIMIT %(limit)s

-- :name has_plain
SELECT 1 FROM ready WHERE queue = %(queue)s AND stream = 0 LIMIT 1

-- :name clock
SELECT clock FROM lane WHERE queue = %(queue)s AND name = %(lane)s

-- :name parents
SELECT coalesce(j.id, g.id, '') FROM edge e LEFT JOIN job j ON j.n = e.parent LEFT JOIN gone g ON g.n = e.parent
WHERE e.child = %(n)s AND e.held IS NULL ORDER BY e.id LIMIT %(limit)s

-- :name place
SELECT j.stream, b.wants FROM job j JOIN ready r
  ON r.queue = j.queue AND r.stream = coalesce(j.stream, 0) AND r.class = j.class AND r.rank = j.rank AND r.n = j.n
JOIN stream s ON s.id = j.stream JOIN gate g ON g.id = s.gate JOIN band b ON b.id = g.band WHERE j.n = %(n)s

-- :name passed_over
SELECT p.worker, j.id, p.at, j.flow, b.wants
FROM passed_over p JOIN job j ON j.n = p.n JOIN queue q ON q.id = j.queue AND NOT q.paused JOIN ready r
  ON r.queue = j.queue AND r.stream = coalesce(j.stream, 0) AND r.class = j.class AND r.rank = j.rank AND r.n = j.n
JOIN stream s ON s.id = j.stream JOIN gate g ON g.id = s.gate JOIN band b ON b.id = g.band
WHERE j.stream <> %(stream)s ORDER BY p.worker

-- :name taken
SELECT s.key, j.id, r.claimed_at, t.units
FROM taken t JOIN run r ON r.n = t.n JOIN session s ON s.id = r.session JOIN job j ON j.n = t.n ORDER BY t.n
