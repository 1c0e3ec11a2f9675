-- Where gated jobs stand: lanes, bands, seats, streams. Indexes: the UNIQUE ones, seat_order, seat_lane,
-- stream_order, stream_parked, stream_empty, seat_empty, gated (stream, rank, n).
-- Runs under the write lock; the counting ones for `surroundings` in a snapshot.

-- :name shares
SELECT clock, lanes FROM queue WHERE id = ?1

-- :name lane
SELECT id, clock, mean_s, weight FROM lane WHERE queue = ?1 AND name = ?2

-- :name lanes
SELECT name, id, clock, mean_s, weight FROM lane WHERE queue = ?1 AND name IN carray(?2)

-- :name has_lanes
SELECT 1 FROM lane WHERE queue = ?1 LIMIT 1

-- :name has_counts
SELECT 1 FROM counter WHERE queue = ?1 LIMIT 1

-- :name add_lane
INSERT INTO lane (queue, name, clock, mean_s, weight) VALUES (?1, ?2, ?3, 1, ?4) RETURNING id

-- :name one_more_lane
UPDATE queue SET lanes = lanes + 1 WHERE id = ?1

-- :name move_lane
UPDATE lane SET clock = ?, mean_s = ? WHERE id = ?

-- :name move_queue
UPDATE queue SET clock = ? WHERE id = ?

-- :name weigh
UPDATE lane SET weight = ?3 WHERE name = ?2 AND queue = (SELECT id FROM queue WHERE name = ?1)

-- :name stream
SELECT s.id FROM band b JOIN seat t ON t.band = b.id AND t.lane = ?3
JOIN stream s ON s.seat = t.id AND s.keys = ?5
WHERE b.queue = ?1 AND b.class = ?2 AND b.wants = ?4

-- :name add_band
INSERT INTO band (queue, class, wants) VALUES (?1, ?2, ?3)
ON CONFLICT (queue, class, wants) DO UPDATE SET class = class RETURNING id

-- :name add_seat
INSERT INTO seat (band, lane, clock) VALUES (?1, ?2, ?3)
ON CONFLICT (band, lane) DO UPDATE SET lane = lane RETURNING id

-- :name add_stream
INSERT INTO stream (queue, seat, keys) VALUES (?1, ?2, ?3) RETURNING id

-- The workflow of those that are of one: flags & 16.
-- :name standing
SELECT n, queue, lane, class, rank, flow, shuns, CASE WHEN flags & 16 THEN (
    SELECT f.name FROM node w JOIN workflow f ON f.id = w.workflow WHERE w.n = job.n
) END FROM job WHERE n IN carray(?1)

-- :name stand
INSERT OR IGNORE INTO gated (stream, rank, n) VALUES (?, ?, ?)

-- :name stands
UPDATE job SET stream = ? WHERE n = ?

-- :name leave
DELETE FROM gated WHERE (stream, rank, n) IN (SELECT stream, rank, n FROM job WHERE n IN carray(?1))

-- :name shun
UPDATE job SET shuns = ?2 WHERE n = ?1

-- What changed: the heads of streams, then those of seats.

-- Of those in sight at once; the others, parked ones, one by one.
-- :name find_heads
UPDATE stream SET (rank, n) = (SELECT g.rank, g.n FROM gated g WHERE g.stream = stream.id ORDER BY g.rank, g.n LIMIT 1)
WHERE id IN carray(?1) AND park = 0 RETURNING id, seat, keys

-- :name touched
SELECT s.id, s.queue, s.seat, s.keys, s.park, s.rank, s.n,
       (SELECT g.rank FROM gated g WHERE g.stream = s.id ORDER BY g.rank, g.n LIMIT 1),
       (SELECT g.n FROM gated g WHERE g.stream = s.id ORDER BY g.rank, g.n LIMIT 1)
FROM carray(?1) c JOIN stream s ON s.id = c.value

-- :name head
UPDATE stream SET park = ?, rank = ?, n = ? WHERE id = ?

-- :name seats_of_lanes
SELECT id FROM seat WHERE lane IN carray(?1)

-- :name find_seats
UPDATE seat SET clock = (SELECT clock FROM lane WHERE id = seat.lane), (rank, n) = (
    SELECT s.rank, s.n FROM stream s INDEXED BY stream_order
    WHERE s.seat = seat.id AND s.park = 0 AND s.rank IS NOT NULL ORDER BY s.rank, s.n LIMIT 1
) WHERE id IN carray(?1)

-- Parked streams.

-- :name park_stream
UPDATE stream SET park = ?2 WHERE id = ?1

-- :name is_parked_at
SELECT 1 FROM stream WHERE park = ?1 AND queue = ?2 AND park <> 0 LIMIT 1

-- :name park
INSERT INTO park (valve, queue, open_at) VALUES (?1, ?2, ?3)
ON CONFLICT (valve, queue) DO UPDATE
SET open_at = CASE WHEN ?3 IS NULL THEN open_at ELSE min(coalesce(open_at, ?3), ?3) END

-- :name parks
SELECT valve, queue, open_at FROM park WHERE valve = ?1 AND queue = ?2

-- :name reopen
UPDATE park SET open_at = ?3 WHERE valve = ?1 AND queue = ?2

-- :name unpark
DELETE FROM park WHERE valve = ?1 AND queue = ?2

-- :name wake
UPDATE park SET open_at = 0 WHERE valve IN carray(?1)

-- :name opening
SELECT valve FROM park WHERE queue = ?1 AND open_at <= ?2 ORDER BY open_at LIMIT ?3

-- What a claim looks at.

-- :name bands
SELECT id, class, wants FROM band WHERE queue = ?1

-- :name best
SELECT l.name, l.id, l.clock, l.mean_s, l.weight, t.id, t.rank, t.n
FROM seat t INDEXED BY seat_order JOIN lane l ON l.id = t.lane
WHERE t.band = ?1 AND t.rank IS NOT NULL AND (t.clock, t.rank, t.n) > (?2, ?3, ?4)
ORDER BY t.clock, t.rank, t.n LIMIT ?5

-- :name siblings
SELECT rank, n FROM stream INDEXED BY stream_order
WHERE seat = ?1 AND park = 0 AND rank IS NOT NULL AND (rank, n) > (?2, ?3) ORDER BY rank, n LIMIT ?4

-- :name parks_opening
SELECT valve, queue FROM park INDEXED BY park_opening WHERE open_at <= ?1 ORDER BY open_at LIMIT ?2

-- :name parked_heads
SELECT s.id, j.flow FROM stream s INDEXED BY stream_parked JOIN job j ON j.n = s.n
WHERE s.park = ?1 AND s.queue = ?2 AND s.park <> 0 LIMIT ?3

-- :name parked
SELECT l.name, l.id, l.clock, l.mean_s, l.weight, t.id, s.rank, s.n, t.band
FROM stream s INDEXED BY stream_parked JOIN seat t ON t.id = s.seat JOIN lane l ON l.id = t.lane
WHERE s.park = ?1 AND s.queue = ?2 AND s.park <> 0 AND t.band IN carray(?3)
ORDER BY l.clock, s.rank, s.n LIMIT ?4

-- :name count_parked
SELECT count(*) FROM (SELECT 1 FROM stream WHERE park = ?1 AND queue = ?2 AND park <> 0 LIMIT ?3)

-- :name let_stand
UPDATE stream SET park = 0 WHERE id IN (
    SELECT id FROM stream INDEXED BY stream_parked WHERE park = ?1 AND queue = ?2 AND park <> 0 LIMIT ?3
) RETURNING id

-- :name heads
SELECT g.rank, g.n, j.id, j.created_at, j.expires_at, j.fence, j.options,
       CASE WHEN j.body IS NULL THEN (SELECT body FROM payload WHERE n = g.n) ELSE j.body END, j.flags,
       j.flow, g.stream
FROM gated g LEFT JOIN job j ON j.n = g.n
WHERE g.stream = ?1 AND (g.rank, g.n) > (?2, ?3) ORDER BY g.rank, g.n LIMIT ?4

-- :name firsts
SELECT j.rank, j.n, j.id, j.created_at, j.expires_at, j.fence, j.options,
       CASE WHEN j.body IS NULL THEN (SELECT body FROM payload WHERE n = j.n) ELSE j.body END, j.flags,
       j.flow, j.stream
FROM carray(?1) c JOIN job j ON j.n = c.value

-- :name keyed
SELECT s.id, s.queue, j.flow FROM (
    SELECT id, queue, keys, n FROM stream INDEXED BY stream_order WHERE park = 0 AND rank IS NOT NULL LIMIT ?2
) s JOIN job j ON j.n = s.n WHERE s.keys <> '' LIMIT ?1

-- Who waits at a limit, if it could be claimed but for that.
-- :name waiter
SELECT j.stream, j.flow FROM job j JOIN queue q ON q.id = j.queue AND q.paused = 0
JOIN gated g ON g.stream = j.stream AND g.rank = j.rank AND g.n = j.n
WHERE j.n = ?1 AND coalesce(j.expires_at > ?2, 1)

-- Empty ones go.

-- :name forget_streams
DELETE FROM stream WHERE id IN (SELECT id FROM stream INDEXED BY stream_empty WHERE rank IS NULL LIMIT ?1)

-- :name forget_seats
DELETE FROM seat WHERE id IN (
    SELECT id FROM seat INDEXED BY seat_empty
    WHERE rank IS NULL AND NOT EXISTS (SELECT 1 FROM stream WHERE seat = seat.id) LIMIT ?1
)

-- :name forget_bands
DELETE FROM band WHERE NOT EXISTS (SELECT 1 FROM seat WHERE band = band.id)

-- The next lanes by number, and whether each may go: its queue has very many, and no job of it is ready.

-- :name any_lane
SELECT 1 FROM lane LIMIT 1

-- :name next_unused_lane
SELECT l.id, l.queue, l.name <> '' AND q.lanes >= ?3 AND NOT EXISTS (SELECT 1 FROM seat WHERE lane = l.id)
FROM lane l JOIN queue q ON q.id = l.queue WHERE l.id > ?1 ORDER BY l.id LIMIT ?2

-- :name forget_lanes
DELETE FROM lane WHERE id IN carray(?1)

-- :name fewer_lanes
UPDATE queue SET lanes = lanes - ? WHERE id = ?

-- Where rows of jobs cannot be read.

-- :name head_keys
SELECT rank, n FROM gated WHERE stream = ?1 AND (rank, n) > (?2, ?3) ORDER BY rank, n LIMIT ?4

-- :name first_keys
SELECT rank, stream FROM job WHERE n = ?1
