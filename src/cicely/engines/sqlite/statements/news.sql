-- Whether there is something to wake a waiting session for. One seek per queue and class.
-- next_class compares with the whole rest of the key: with less, SQLite would read every equal row.

-- :name queues
SELECT id, name FROM queue WHERE paused = 0

-- :name next_class
SELECT class FROM ready
WHERE queue = ?1 AND (class, rank, n) > (?2, 9223372036854775807, 9223372036854775807)
ORDER BY class, rank, n LIMIT 1

-- :name soon
SELECT j.queue, j.class FROM deferred d JOIN job j ON j.n = d.n
WHERE d.due_at <= ?1 ORDER BY d.due_at LIMIT 1

-- Of gated work, the best of each band; and what stands at a valve that is open, or opens soon.

-- :name gates
SELECT t.band, b.queue, b.class, b.wants, j.flow, s.id
FROM band b JOIN seat t ON t.id = (
    SELECT id FROM seat INDEXED BY seat_order WHERE band = b.id AND rank IS NOT NULL ORDER BY clock, rank, n LIMIT 1
) JOIN job j ON j.n = t.n JOIN stream s ON s.id = j.stream LIMIT ?1

-- :name has_gates
SELECT 1 FROM band LIMIT 1

-- :name opening
SELECT b.id, b.queue, b.class, b.wants, j.flow, s.id
FROM park p INDEXED BY park_opening
JOIN stream s INDEXED BY stream_parked ON s.park = p.valve AND s.queue = p.queue AND s.park <> 0
JOIN seat t ON t.id = s.seat JOIN band b ON b.id = t.band JOIN job j ON j.n = s.n
WHERE p.open_at <= ?1 LIMIT ?2
