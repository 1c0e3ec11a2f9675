-- From 1 to 2: ready, run and delta get four parts each, so that dead rows are bounded while somebody's
-- snapshot keeps vacuum from removing them; counters count jobs that wait; the tables of workflows and
-- schedules come.

ALTER TABLE ready RENAME TO old_ready;
ALTER TABLE old_ready RENAME CONSTRAINT ready_pkey TO old_ready_pkey;
ALTER TABLE run RENAME TO old_run;
ALTER TABLE old_run RENAME CONSTRAINT run_pkey TO old_run_pkey;
ALTER TABLE delta RENAME TO old_delta;
DROP INDEX run_session, run_deadline;

CREATE TABLE ready (
    part smallint NOT NULL DEFAULT 0,
    queue int NOT NULL,
    lane text COLLATE "C" NOT NULL,
    class int NOT NULL,
    rank bigint NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (queue, lane, class, rank, n, part)
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

ALTER TABLE counter ADD COLUMN waiting bigint NOT NULL DEFAULT 0;

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
    waiting int NOT NULL DEFAULT 0
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

INSERT INTO ready (queue, lane, class, rank, n) SELECT queue, lane, class, rank, n FROM old_ready;
INSERT INTO run (n, session, request, fence, claimed_at, deadline_at, cancelling)
SELECT n, session, request, fence, claimed_at, deadline_at, cancelling FROM old_run;
INSERT INTO delta (queue, scheduled, ready, running, succeeded, failed, cancelled, expired)
SELECT queue, scheduled, ready, running, succeeded, failed, cancelled, expired FROM old_delta;
DROP TABLE old_ready, old_run, old_delta;

ALTER TABLE job ADD COLUMN traits smallint NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN doubted bytea;

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
