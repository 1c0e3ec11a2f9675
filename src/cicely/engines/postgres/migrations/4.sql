-- From 3 to 4: flow control, rollups and events. Ready jobs stand by stream in place of their lane; those of a lane are given
-- one.

ALTER TABLE queue ADD COLUMN is_gated boolean NOT NULL DEFAULT false;
ALTER TABLE queue ADD COLUMN knows_plain boolean NOT NULL DEFAULT false;
ALTER TABLE queue ADD COLUMN is_bounded boolean NOT NULL DEFAULT false;
ALTER TABLE job ADD COLUMN stream int;
ALTER TABLE job ADD COLUMN flow bytea;
ALTER TABLE run ADD COLUMN charged float8;

-- --- flow control: a plain job has no row in any of these ----------------------------------------
-- Changed under the flow lock only (see streams.py), but for what only grows, and for came.

-- What guards a key, and where it stands: NULL for what guards it by default, and for a fresh gauge.
CREATE TABLE valve (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text COLLATE "C" NOT NULL UNIQUE,
    setting bytea,
    gauge bytea,
    backlog int
) WITH (fillfactor = 50);

-- Notes, and the weights of lanes.
CREATE TABLE setting (
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (kind, name)
);

-- The clock of a queue that has lanes.
CREATE TABLE share (queue int PRIMARY KEY, clock float8 NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE lane (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue int NOT NULL,
    name text COLLATE "C" NOT NULL,
    clock float8 NOT NULL,
    mean_s float8 NOT NULL DEFAULT 1,
    weight float8 NOT NULL DEFAULT 1,
    UNIQUE (queue, name)
) WITH (fillfactor = 50);

-- What a session must run, accept and have for jobs of a queue: wants is a Needs without keys.
CREATE TABLE band (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue int NOT NULL,
    class int NOT NULL,
    wants bytea NOT NULL,
    UNIQUE (queue, class, wants)
);

-- Jobs of a band that pass the same valves. park: the valve that lets none of them pass; 0 where nobody
-- knows of one, -1 where no job stands.
CREATE TABLE gate (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    band int NOT NULL,
    keys int[] NOT NULL,
    park int NOT NULL DEFAULT 0,
    UNIQUE (band, keys)
) WITH (fillfactor = 70);
CREATE INDEX gate_band ON gate (band, park);
CREATE INDEX gate_open ON gate (id) WHERE park = 0 AND keys <> '{}'::int[];

-- Jobs of a gate and a lane, of which only the first is looked at: rank, n and flow are its, or those of one
-- before it that is gone. park: the valve that does not let this one pass.
CREATE TABLE stream (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gate int NOT NULL,
    lane int NOT NULL,
    park int NOT NULL DEFAULT 0,
    is_live boolean NOT NULL DEFAULT false,
    rank bigint,
    n bigint,
    flow bytea,
    UNIQUE (gate, lane)
) WITH (fillfactor = 50);
CREATE INDEX stream_live ON stream (gate) WHERE is_live;
CREATE INDEX stream_lane ON stream (lane);

-- When those who are parked at a valve are to be looked at again; infinity: when one lets go.
CREATE TABLE park (
    valve int NOT NULL,
    queue int NOT NULL,
    open_at float8 NOT NULL,
    PRIMARY KEY (valve, queue)
) WITH (fillfactor = 50);
CREATE INDEX park_queue ON park (queue, open_at);

-- Streams to which jobs came, or whose head may have gone: append-only, folded by claims and sweeps.
CREATE TABLE came (part smallint NOT NULL DEFAULT 0, stream int NOT NULL) PARTITION BY LIST (part);
CREATE SEQUENCE came_turn MINVALUE 0 MAXVALUE 3 START 0;
CREATE TABLE came_0 PARTITION OF came FOR VALUES IN (0)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE came_1 PARTITION OF came FOR VALUES IN (1)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE came_2 PARTITION OF came FOR VALUES IN (2)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE came_3 PARTITION OF came FOR VALUES IN (3)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- Who holds a key: claims, and what they acquired beside (request is '' for the claim itself).
CREATE TABLE holder (
    part smallint NOT NULL DEFAULT 0,
    valve int NOT NULL,
    at float8 NOT NULL,
    n bigint NOT NULL,
    request bytea NOT NULL DEFAULT ''
) PARTITION BY LIST (part);
CREATE INDEX holder_valve ON holder (valve, at);
CREATE INDEX holder_n ON holder (n);
CREATE SEQUENCE holder_turn MINVALUE 0 MAXVALUE 3 START 0;
CREATE TABLE holder_0 PARTITION OF holder FOR VALUES IN (0)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE holder_1 PARTITION OF holder FOR VALUES IN (1)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE holder_2 PARTITION OF holder FOR VALUES IN (2)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE holder_3 PARTITION OF holder FOR VALUES IN (3)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE acquired (
    n bigint NOT NULL,
    request bytea NOT NULL,
    uses bytea NOT NULL,
    at float8 NOT NULL,
    PRIMARY KEY (n, request)
);

-- What running jobs have of their workers, and the job that each worker passed over first, since when.
CREATE TABLE taken (n bigint PRIMARY KEY, worker text COLLATE "C" NOT NULL, units bytea NOT NULL);
CREATE INDEX taken_worker ON taken (worker);
CREATE TABLE passed_over (worker text COLLATE "C" PRIMARY KEY, n bigint NOT NULL, at float8 NOT NULL);

-- --- the past ------------------------------------------------------------------------------------

-- What was counted per minute: word as core/rollup.py numbers it, name where it is no job's, bucket -1 of
-- those that did not run. Folded with delta.
CREATE TABLE rollup (
    minute int NOT NULL,
    word smallint NOT NULL,
    queue int NOT NULL,
    class int NOT NULL,
    name text COLLATE "C" NOT NULL,
    bucket smallint NOT NULL,
    count bigint NOT NULL,
    sum_us bigint NOT NULL,
    PRIMARY KEY (minute, word, queue, class, name, bucket)
) WITH (fillfactor = 70);

-- Events that have no number yet, and those that have: seq is the order in which they became visible.
CREATE TABLE told (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at float8 NOT NULL,
    data bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE history (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at float8 NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE delta ADD COLUMN minute int;
ALTER TABLE delta ADD COLUMN word smallint;
ALTER TABLE delta ADD COLUMN class int;
ALTER TABLE delta ADD COLUMN name text COLLATE "C";
ALTER TABLE delta ADD COLUMN bucket smallint;
ALTER TABLE delta ADD COLUMN count int;
ALTER TABLE delta ADD COLUMN sum_us bigint;

-- Jobs with a lane: a band for each class, which wants nothing; a gate without keys; a stream for each lane.
INSERT INTO share (queue) SELECT DISTINCT queue FROM job WHERE lane <> '';
INSERT INTO lane (queue, name, clock)
SELECT DISTINCT queue, lane, 0 FROM job WHERE lane <> '' OR queue IN (SELECT queue FROM share);
INSERT INTO band (queue, class, wants) SELECT DISTINCT queue, class, ''::bytea FROM job WHERE lane <> '';
INSERT INTO gate (band, keys) SELECT id, '{}' FROM band;
INSERT INTO stream (gate, lane)
SELECT DISTINCT g.id, l.id FROM job j JOIN band b ON b.queue = j.queue AND b.class = j.class
JOIN gate g ON g.band = b.id JOIN lane l ON l.queue = j.queue AND l.name = j.lane WHERE j.lane <> '';
UPDATE job SET stream = s.id, traits = traits | 16
FROM band b JOIN gate g ON g.band = b.id JOIN stream s ON s.gate = g.id JOIN lane l ON l.id = s.lane
WHERE job.lane <> '' AND b.queue = job.queue AND b.class = job.class AND l.queue = job.queue
  AND l.name = job.lane;
UPDATE queue SET is_gated = true FROM share WHERE share.queue = queue.id;
UPDATE queue SET knows_plain = true FROM lane WHERE lane.queue = queue.id AND lane.name = '';
INSERT INTO came (stream) SELECT id FROM stream;

ALTER TABLE ready ADD COLUMN stream int NOT NULL DEFAULT 0;
UPDATE ready SET stream = j.stream FROM job j WHERE j.n = ready.n AND j.stream IS NOT NULL;
ALTER TABLE ready DROP CONSTRAINT ready_pkey;
ALTER TABLE ready DROP COLUMN lane;
ALTER TABLE ready ADD PRIMARY KEY (queue, stream, class, rank, n, part);
