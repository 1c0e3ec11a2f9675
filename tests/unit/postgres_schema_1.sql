-- The tables of one Cicely schema. A job's whole life adds and removes narrow rows in small hot tables
-- (ready, deferred, run); the job row is updated only when something went wrong or was steered.
-- Where a job stands follows from where it has a row: done -> its final state, run -> running,
-- deferred -> scheduled, else ready. Large bodies and results lie in TOAST, which is a table of their own.
-- Text is compared by bytes (COLLATE "C"): the same order everywhere, and the cheapest.

CREATE TABLE meta (version int NOT NULL);

CREATE TABLE queue (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    paused boolean NOT NULL DEFAULT false,
    -- Whether it was paused or resumed once; otherwise it is shown when it had jobs.
    is_steered boolean NOT NULL DEFAULT false
);

-- What a session must be able to run: a task and its kind. Append-only.
CREATE TABLE class (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    UNIQUE (task, kind)
);

-- facts: the Session as JSON. Closed ones are kept for a while, for the names in attempts.
CREATE TABLE session (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text COLLATE "C" NOT NULL UNIQUE,
    facts bytea NOT NULL,
    lease_s float8 NOT NULL,
    beat bigint NOT NULL DEFAULT 0,
    joined_at float8 NOT NULL,
    beat_at float8 NOT NULL,
    closed_at float8
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
    body bytea NOT NULL
) WITH (fillfactor = 90);
ALTER TABLE job ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE ready (
    queue int NOT NULL,
    lane text COLLATE "C" NOT NULL,
    class int NOT NULL,
    rank bigint NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (queue, lane, class, rank, n)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

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
    n bigint PRIMARY KEY,
    session int NOT NULL,
    request bytea NOT NULL,
    fence int NOT NULL,
    claimed_at float8 NOT NULL,
    deadline_at float8,
    cancelling boolean NOT NULL DEFAULT false
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX run_session ON run (session);
CREATE INDEX run_deadline ON run (deadline_at) WHERE deadline_at IS NOT NULL;

-- session is NULL where the job ended without running; request is NULL unless an outcome ended it.
CREATE TABLE done (
    n bigint PRIMARY KEY,
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
    result bytea
);
ALTER TABLE done ALTER COLUMN result SET STORAGE EXTERNAL;
CREATE INDEX done_delete ON done (delete_at);
CREATE INDEX done_state ON done (state, n) WHERE state <> 3;

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
    expired bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE delta (
    queue int NOT NULL,
    scheduled int NOT NULL DEFAULT 0,
    ready int NOT NULL DEFAULT 0,
    running int NOT NULL DEFAULT 0,
    succeeded int NOT NULL DEFAULT 0,
    failed int NOT NULL DEFAULT 0,
    cancelled int NOT NULL DEFAULT 0,
    expired int NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- Who waits just now: hints, and gone after a crash of the server. sieve is NULL for a session's bell.
CREATE UNLOGGED TABLE bell (
    id text COLLATE "C" PRIMARY KEY,
    channel text NOT NULL,
    backend int NOT NULL,
    owner text COLLATE "C" NOT NULL,
    sieve bytea
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
