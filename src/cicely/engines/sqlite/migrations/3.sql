-- From schema 2 to 3: flow control. Runs under the write lock.

ALTER TABLE queue ADD COLUMN clock REAL NOT NULL DEFAULT 0;
ALTER TABLE queue ADD COLUMN lanes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN flow BLOB;
ALTER TABLE job ADD COLUMN shuns TEXT;
ALTER TABLE job ADD COLUMN stream INTEGER;
ALTER TABLE run ADD COLUMN charged REAL;


CREATE TABLE lane (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    name TEXT NOT NULL,
    clock REAL NOT NULL,
    mean_s REAL NOT NULL,
    weight REAL NOT NULL,
    UNIQUE (queue, name)
) STRICT;

CREATE TABLE band (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    class INTEGER NOT NULL,
    wants BLOB NOT NULL,
    UNIQUE (queue, class, wants)
) STRICT;

CREATE TABLE seat (
    id INTEGER PRIMARY KEY,
    band INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    clock REAL NOT NULL,
    rank INTEGER,
    n INTEGER,
    UNIQUE (band, lane)
) STRICT;
CREATE INDEX seat_order ON seat (band, clock, rank, n) WHERE rank IS NOT NULL;
CREATE INDEX seat_lane ON seat (lane);
CREATE INDEX seat_empty ON seat (id) WHERE rank IS NULL;

CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    seat INTEGER NOT NULL,
    keys TEXT NOT NULL,
    park INTEGER NOT NULL DEFAULT 0,
    rank INTEGER,
    n INTEGER,
    UNIQUE (seat, keys)
) STRICT;
CREATE INDEX stream_order ON stream (seat, rank, n) WHERE park = 0 AND rank IS NOT NULL;
CREATE INDEX stream_parked ON stream (park, queue) WHERE park <> 0;
CREATE INDEX stream_empty ON stream (id) WHERE rank IS NULL;

CREATE TABLE gated (
    stream INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (stream, rank, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE park (
    valve INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    open_at REAL,
    PRIMARY KEY (valve, queue)
) STRICT, WITHOUT ROWID;
CREATE INDEX park_opening ON park (open_at) WHERE open_at IS NOT NULL;
CREATE INDEX park_queue ON park (queue, open_at);

CREATE TABLE valve (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    setting BLOB,
    gauge BLOB,
    backlog INTEGER,
    ready INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX valve_backlog ON valve (id) WHERE backlog IS NOT NULL;

CREATE TABLE holder (
    valve INTEGER NOT NULL,
    since REAL NOT NULL,
    n INTEGER NOT NULL,
    request BLOB NOT NULL,
    PRIMARY KEY (valve, since, n, request)
) STRICT, WITHOUT ROWID;

CREATE TABLE acquired (
    n INTEGER NOT NULL,
    request BLOB NOT NULL,
    uses BLOB NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (n, request)
) STRICT, WITHOUT ROWID;

CREATE TABLE taken (
    n INTEGER PRIMARY KEY,
    worker TEXT NOT NULL,
    units BLOB NOT NULL
) STRICT;
CREATE INDEX taken_worker ON taken (worker);

CREATE TABLE passed_over (
    worker TEXT PRIMARY KEY,
    n INTEGER NOT NULL,
    at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE setting (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- Every lane that a job has or had, and the lane of those without one, begin with clocks alike.
INSERT INTO lane (queue, name, clock, mean_s, weight)
SELECT queue, lane, 0, 1, 1 FROM job WHERE queue IN (SELECT queue FROM job WHERE lane <> '')
GROUP BY queue, lane;
UPDATE queue SET lanes = (SELECT count(*) FROM lane WHERE queue = queue.id);

-- Ready jobs with a lane go to a stream of their own.
INSERT INTO band (queue, class, wants) SELECT DISTINCT queue, class, x'' FROM ready WHERE lane <> '';
INSERT INTO seat (band, lane, clock, rank, n)
SELECT b.id, l.id, 0, min(r.rank), NULL FROM ready r
JOIN lane l ON l.queue = r.queue AND l.name = r.lane
JOIN band b ON b.queue = r.queue AND b.class = r.class AND b.wants = x''
WHERE r.lane <> '' GROUP BY b.id, l.id;
INSERT INTO stream (queue, seat, keys) SELECT b.queue, s.id, '' FROM seat s JOIN band b ON b.id = s.band;
INSERT INTO gated (stream, rank, n)
SELECT s.id, r.rank, r.n FROM ready r
JOIN lane l ON l.queue = r.queue AND l.name = r.lane
JOIN band b ON b.queue = r.queue AND b.class = r.class AND b.wants = x''
JOIN seat t ON t.band = b.id AND t.lane = l.id JOIN stream s ON s.seat = t.id
WHERE r.lane <> '';
UPDATE job SET stream = (SELECT stream FROM gated WHERE gated.n = job.n) WHERE lane <> '';
UPDATE stream SET (rank, n) = (SELECT rank, n FROM gated WHERE stream = stream.id ORDER BY rank, n LIMIT 1);
UPDATE seat SET (rank, n) = (SELECT rank, n FROM stream WHERE seat = seat.id);

DROP INDEX IF EXISTS ready_laned;
CREATE TABLE ready_now (
    queue INTEGER NOT NULL,
    class INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (queue, class, rank, n)
) STRICT, WITHOUT ROWID;
INSERT INTO ready_now (queue, class, rank, n) SELECT queue, class, rank, n FROM ready WHERE lane = '';
DROP TABLE ready;
ALTER TABLE ready_now RENAME TO ready;
