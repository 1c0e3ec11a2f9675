-- The tables of one Cicely schema. A job's whole life adds and removes narrow rows in small hot tables
-- (ready, deferred, run); the job row is updated only when something went wrong or was steered.
-- Where a job stands follows from where it has a row: done -> its final state, run -> running,
-- node.waits -> waiting, deferred -> scheduled, else ready. Large bodies and results lie in TOAST, which is a table of their own.
-- ready, run, delta, came and holder have four parts each. New rows go into the part that <table>_turn names, an old part
-- is emptied by TRUNCATE once (nearly) nothing lives in it: so dead rows are bounded, also while somebody's
-- snapshot keeps vacuum from removing them. Where a row lies means nothing; readers look into all parts.
-- Text is compared by bytes (COLLATE "C"): the same order everywhere, and the cheapest.

CREATE TABLE meta (version int NOT NULL);

CREATE TABLE queue (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    paused boolean NOT NULL DEFAULT false,
    -- Whether it was paused or resumed once; otherwise it is shown when it had jobs.
    is_steered boolean NOT NULL DEFAULT false,
    -- Whether it has streams; whether its lane "" is known; whether a limit bounds its backlog.
    is_gated boolean NOT NULL DEFAULT false,
    knows_plain boolean NOT NULL DEFAULT false,
    is_bounded boolean NOT NULL DEFAULT false
);

-- What a session must be able to run: a task and its kind. Append-only.
CREATE TABLE class (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    UNIQUE (task, kind)
);

-- facts: the Session as JSON. Closed ones are kept for a while, for the names in attempts. doubted: the
-- tokens of the claims that its last beat did not name, one after the other; NULL where it named all.
CREATE TABLE session (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text COLLATE "C" NOT NULL UNIQUE,
    facts bytea NOT NULL,
    lease_s float8 NOT NULL,
    beat bigint NOT NULL DEFAULT 0,
    joined_at float8 NOT NULL,
    beat_at float8 NOT NULL,
    closed_at float8,
    doubted bytea
) WITH (fillfactor = 50);
CREATE INDEX session_closed ON session (closed_at) WHERE closed_at IS NOT NULL;

CREATE SEQUENCE job_n;

CREATE TABLE job (
    n bigint PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    class int NOT NULL,
    queue int NOT NULL,
    lane text COLLATE "C" NOT NULL,
    priority int NOT NULL,
    rank bigint NOT NULL,
    created_at float8 NOT NULL,
    due_at float8,
    expires_at float8,
    ageing_s float8 NOT NULL,
    keep_s float8 NOT NULL,
    keep_failed_s float8 NOT NULL,
    remember_s float8 NOT NULL,
    max_receives int NOT NULL,
    unique_key text COLLATE "C",
    tags text,
    options bytea NOT NULL,
    errors int NOT NULL DEFAULT 0,
    crashes int NOT NULL DEFAULT 0,
    lost int NOT NULL DEFAULT 0,
    fence int NOT NULL DEFAULT 0,
    attempt int NOT NULL DEFAULT 0,
    started_at float8,
    reason text NOT NULL DEFAULT '',
    -- What else belongs to it, so that a plain job costs no look: see graph.py.
    traits smallint NOT NULL DEFAULT 0,
    body bytea NOT NULL,
    -- Of gated jobs: the stream in which it stands when it is ready, and its Flow.
    stream int,
    flow bytea
) WITH (fillfactor = 90);
ALTER TABLE job ALTER COLUMN body SET STORAGE EXTERNAL;

-- Whether any job is left of a stream.
CREATE INDEX job_stream ON job (stream) WHERE stream IS NOT NULL;

CREATE TABLE ready (
    part smallint NOT NULL DEFAULT 0,
    queue int NOT NULL,
    -- 0 for plain jobs, which nothing but their queue holds back.
    stream int NOT NULL DEFAULT 0,
    class int NOT NULL,
    rank bigint NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (queue, stream, class, rank, n, part)
) PARTITION BY LIST (part);
CREATE SEQUENCE ready_turn MINVALUE 0 MAXVALUE 3 START 0;
CREATE TABLE ready_0 PARTITION OF ready FOR VALUES IN (0)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE ready_1 PARTITION OF ready FOR VALUES IN (1)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE ready_2 PARTITION OF ready FOR VALUES IN (2)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE ready_3 PARTITION OF ready FOR VALUES IN (3)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE deferred (
    due_at float8 NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (due_at, n)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- Jobs with a deadline to start by, while they have not started.
CREATE TABLE expiring (
    expires_at float8 NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (expires_at, n)
);

CREATE TABLE run (
    part smallint NOT NULL DEFAULT 0,
    n bigint NOT NULL,
    session int NOT NULL,
    request bytea NOT NULL,
    fence int NOT NULL,
    claimed_at float8 NOT NULL,
    deadline_at float8,
    cancelling boolean NOT NULL DEFAULT false,
    traits smallint NOT NULL DEFAULT 0,
    -- What its lane was charged.
    charged float8,
    PRIMARY KEY (n, part)
) PARTITION BY LIST (part);
CREATE SEQUENCE run_turn MINVALUE 0 MAXVALUE 3 START 0;
CREATE TABLE run_0 PARTITION OF run FOR VALUES IN (0)
    WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE run_1 PARTITION OF run FOR VALUES IN (1)
    WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE run_2 PARTITION OF run FOR VALUES IN (2)
    WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE run_3 PARTITION OF run FOR VALUES IN (3)
    WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX run_session ON run (session, request);
CREATE INDEX run_deadline ON run (deadline_at) WHERE deadline_at IS NOT NULL;

-- session is NULL where the job ended without running; request is NULL unless an outcome ended it.
-- Ends of plain jobs lie in the part of the day on which they expire. There they are not deleted with their
-- jobs: an end whose job is gone means nothing, and the part is dropped when none has a job any more. All
-- others lie in done_0, and are deleted with their jobs: those of workflows, and what expires on a day that
-- has no part yet.
CREATE TABLE done (
    n bigint NOT NULL,
    state smallint NOT NULL,
    ended_at float8 NOT NULL,
    delete_at float8 NOT NULL,
    started_at float8,
    session int,
    request bytea,
    fence int NOT NULL,
    attempt int NOT NULL,
    reason text NOT NULL,
    outcome text NOT NULL,
    error bytea,
    result bytea,
    day int NOT NULL DEFAULT 0,
    PRIMARY KEY (n, day)
) PARTITION BY LIST (day);
ALTER TABLE done ALTER COLUMN result SET STORAGE EXTERNAL;
CREATE INDEX done_delete ON done (delete_at);
CREATE INDEX done_state ON done (state, n) WHERE state <> 3;
CREATE TABLE done_0 PARTITION OF done FOR VALUES IN (0);

-- The days that have a part of done, counted in 86,400 s of delete_at. is_open: ends go there. swept_at:
-- of the jobs that expire before, none is left.
CREATE TABLE day (
    day int PRIMARY KEY,
    is_open boolean NOT NULL DEFAULT true,
    swept_at float8 NOT NULL
) WITH (fillfactor = 50);

-- Attempts after which the job went on; the last one stands in done.
CREATE TABLE attempt (
    n bigint NOT NULL,
    fence int NOT NULL,
    attempt int NOT NULL,
    reason text NOT NULL,
    started_at float8 NOT NULL,
    ended_at float8 NOT NULL,
    session int NOT NULL,
    error bytea,
    PRIMARY KEY (n, fence)
);

-- What attempts leave for the next one, and the error of the last.
CREATE TABLE live (
    n bigint PRIMARY KEY,
    progress bytea,
    checkpoint bytea,
    error bytea
) WITH (fillfactor = 70);

-- The live job that holds a key.
CREATE TABLE uniq (key text COLLATE "C" PRIMARY KEY, id text COLLATE "C" NOT NULL);

CREATE TABLE tag (
    tag text COLLATE "C" NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (tag, n)
);

-- Outcomes after which the job went on, for those who repeat them.
CREATE TABLE receipt (token bytea PRIMARY KEY, reason text NOT NULL, until_at float8 NOT NULL);
CREATE INDEX receipt_until ON receipt (until_at);

-- What is left of swept jobs whose id somebody chose.
CREATE TABLE tomb (
    id text COLLATE "C" PRIMARY KEY,
    class int NOT NULL,
    queue int NOT NULL,
    state smallint NOT NULL,
    until_at float8 NOT NULL
);
CREATE INDEX tomb_until ON tomb (until_at);

CREATE TABLE blob (
    job text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (job, digest)
);
ALTER TABLE blob ALTER COLUMN data SET STORAGE EXTERNAL;

-- When to look whether a blob's job was ever stored.
CREATE TABLE blob_watch (
    check_at float8 NOT NULL,
    job text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    PRIMARY KEY (check_at, job, digest)
);

-- How many jobs a queue has per state: what the sweep folded, and what came since, append-only.
CREATE TABLE counter (
    queue int PRIMARY KEY,
    scheduled bigint NOT NULL,
    ready bigint NOT NULL,
    running bigint NOT NULL,
    succeeded bigint NOT NULL,
    failed bigint NOT NULL,
    cancelled bigint NOT NULL,
    expired bigint NOT NULL,
    waiting bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE TABLE delta (
    part smallint NOT NULL DEFAULT 0,
    queue int NOT NULL,
    scheduled int NOT NULL DEFAULT 0,
    ready int NOT NULL DEFAULT 0,
    running int NOT NULL DEFAULT 0,
    succeeded int NOT NULL DEFAULT 0,
    failed int NOT NULL DEFAULT 0,
    cancelled int NOT NULL DEFAULT 0,
    expired int NOT NULL DEFAULT 0,
    waiting int NOT NULL DEFAULT 0,
    -- What was counted for a rollup; NULL where nothing was.
    minute int,
    word smallint,
    class int,
    name text COLLATE "C",
    bucket smallint,
    count int,
    sum_us bigint
) PARTITION BY LIST (part);
CREATE SEQUENCE delta_turn MINVALUE 0 MAXVALUE 3 START 0;
CREATE TABLE delta_0 PARTITION OF delta FOR VALUES IN (0)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE delta_1 PARTITION OF delta FOR VALUES IN (1)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE delta_2 PARTITION OF delta FOR VALUES IN (2)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE delta_3 PARTITION OF delta FOR VALUES IN (3)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- Who waits just now: hints, and gone after a crash of the server. sieve is NULL for a session's bell.
CREATE UNLOGGED TABLE bell (
    id text COLLATE "C" PRIMARY KEY,
    channel text NOT NULL,
    backend int NOT NULL,
    owner text COLLATE "C" NOT NULL,
    sieve bytea
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);

-- --- workflows: a plain job has no row in any of these -----------------------------------------

-- What decides whether a job waits. pending, broken, joins: edges into it that are undecided (or whose
-- decision is an arrival), that did not hold, and all; kept while the job is final, too. held: its workflow
-- is not published. passes: it was cancelled and counts as failed. cause: because of which job it was.
-- event, event_key, event_step: what it waits for, and the step that keeps the value. delay_s to expires_at:
-- what it asked for, which counts from its release.
CREATE TABLE node (
    n bigint PRIMARY KEY,
    waits boolean NOT NULL DEFAULT false,
    held boolean NOT NULL DEFAULT false,
    pending int NOT NULL DEFAULT 0,
    broken int NOT NULL DEFAULT 0,
    joins int NOT NULL DEFAULT 0,
    passes boolean NOT NULL DEFAULT false,
    cause text COLLATE "C",
    event text COLLATE "C",
    event_key text COLLATE "C",
    event_step text COLLATE "C",
    delay_s float8 NOT NULL DEFAULT 0,
    wanted_at float8,
    expires_s float8,
    expires_at float8
) WITH (fillfactor = 60);
CREATE INDEX node_event ON node (event, event_key, n) WHERE event IS NOT NULL;
CREATE INDEX node_cause ON node (cause, n) WHERE cause IS NOT NULL;

-- held: NULL until the parent has ended. The ids of a child's edges keep the order in which they were added.
CREATE TABLE edge (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint NOT NULL,
    child bigint NOT NULL,
    traits smallint NOT NULL,
    held boolean
) WITH (fillfactor = 60);
CREATE INDEX edge_out ON edge (parent, id);
CREATE INDEX edge_in ON edge (child, id);

-- Decided edges that are still counted as pending: so those who settle many parents of one job at the same
-- time wait for nobody. Append-only; folded under a lock of the child.
CREATE TABLE arrival (child bigint NOT NULL, edge bigint NOT NULL, held boolean NOT NULL)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX arrival_child ON arrival (child);

-- What an end, a revival or a publication still has to do, in this order; see intents.py. n: the job whose
-- later intents wait for this one. It goes on behind the edge (or job) after, up to upto.
CREATE TABLE intent (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind smallint NOT NULL,
    n bigint NOT NULL,
    job text COLLATE "C" NOT NULL,
    fate text NOT NULL,
    cause text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    after bigint NOT NULL,
    upto bigint NOT NULL
);
CREATE INDEX intent_n ON intent (n);

-- Jobs that were deleted, or never known, and still stand before another.
CREATE TABLE gone (n bigint PRIMARY KEY, id text COLLATE "C" NOT NULL);
CREATE INDEX gone_id ON gone (id);

-- The labels of a job.
CREATE TABLE label (
    n bigint PRIMARY KEY,
    workflow text COLLATE "C" NOT NULL,
    grp text COLLATE "C" NOT NULL
);
CREATE INDEX label_workflow ON label (workflow, n) WHERE workflow <> '';
CREATE INDEX label_grp ON label (grp, n) WHERE grp <> '';

-- check_at: when to look whether its jobs are past their retention; the look goes on behind the job after.
-- is_over: they are, and are being deleted.
CREATE TABLE workflow (
    name text COLLATE "C" PRIMARY KEY,
    published boolean NOT NULL DEFAULT false,
    check_at float8 NOT NULL,
    after bigint NOT NULL DEFAULT 0,
    is_over boolean NOT NULL DEFAULT false
) WITH (fillfactor = 70);
CREATE INDEX workflow_check ON workflow (check_at);

-- The jobs of a workflow that is not published.
CREATE TABLE held (
    workflow text COLLATE "C" NOT NULL,
    n bigint NOT NULL,
    created_at float8 NOT NULL,
    PRIMARY KEY (workflow, n)
);

CREATE TABLE step (
    n bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    value bytea NOT NULL,
    PRIMARY KEY (n, key)
);

CREATE TABLE event (
    id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    at float8 NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    is_taken boolean NOT NULL
);
CREATE INDEX event_open ON event (name, key, number) WHERE NOT is_taken;
CREATE INDEX event_at ON event (at);

CREATE TABLE schedule (
    name text COLLATE "C" PRIMARY KEY,
    spec bytea NOT NULL,
    next_at float8,
    last_at float8,
    paused boolean NOT NULL
);
CREATE INDEX schedule_due ON schedule (next_at, name) WHERE next_at IS NOT NULL AND NOT paused;

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

-- Streams to which jobs came, or whose head may have gone: append-only, folded by claims and sweeps. rank and n: of the
-- first of those that came; NULL where it is to be looked for.
CREATE TABLE came (part smallint NOT NULL DEFAULT 0, stream int NOT NULL, rank bigint, n bigint) PARTITION BY LIST (part);
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

-- What running jobs have of their workers. drawn: the names of those resources that come out of what their
-- workflow has reserved; NULL, as the workflow is, for none.
CREATE TABLE taken (
    n bigint PRIMARY KEY,
    worker text COLLATE "C" NOT NULL,
    units bytea NOT NULL,
    workflow text COLLATE "C",
    drawn bytea
);
CREATE INDEX taken_worker ON taken (worker);
CREATE INDEX taken_drawn ON taken (workflow, worker) WHERE drawn IS NOT NULL;

-- What workflows have reserved on workers: see core/reservations.py.
CREATE TABLE reservation (
    workflow text COLLATE "C" NOT NULL,
    worker text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    since float8 NOT NULL,
    units bytea NOT NULL,
    offers bytea NOT NULL,
    PRIMARY KEY (workflow, worker)
) WITH (fillfactor = 50);

-- The job that each worker passed over first, since when.
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
