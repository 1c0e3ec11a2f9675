-- Whether there is something to wake a waiting session for. One seek per queue and class.
-- next_class compares with the whole rest of the key: with less, SQLite would read every equal row.

-- :name queues
SELECT id, name FROM queue WHERE paused = 0

-- :name next_class
SELECT class FROM ready
WHERE queue = ?1 AND lane = '' AND (class, rank, n) > (?2, 9223372036854775807, 9223372036854775807)
ORDER BY class, rank, n LIMIT 1

-- :name next_class_laned
SELECT class FROM ready INDEXED BY ready_laned
WHERE queue = ?1 AND lane <> '' AND (class, rank, n) > (?2, 9223372036854775807, 9223372036854775807)
ORDER BY class, rank, n LIMIT 1

-- :name soon
SELECT j.queue, j.class FROM deferred d JOIN job j ON j.n = d.n
WHERE d.due_at <= ?1 ORDER BY d.due_at LIMIT 1
