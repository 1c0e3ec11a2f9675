-- The tables of one Cicely database. A job's whole life adds and removes narrow rows; the job row
-- itself is updated only when something went wrong or was steered. Where a job stands follows from
-- where it has a row: done -> its final state, run -> running, node.waits -> waiting, else due_at ->
-- scheduled, else ready.
-- STRICT, so that a value of the wrong type cannot even be written by hand.

-- clock and lanes: of its fair shares (core/lanes.py), and how many lanes were ever seen.
CREATE TABLE queue (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL DEFAULT 0,
    clock REAL NOT NULL DEFAULT 0,
    lanes INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What a session must be able to run: a task and its kind. Append-only.
CREATE TABLE class (
    id INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    kind TEXT NOT NULL,
    UNIQUE (task, kind)
) STRICT;

-- facts: the Session as JSON, empty once it is closed. Closed ones are kept for a while, for the names
-- in attempts. doubted: the tokens, one after the other, of the claims that its last beat did not name.
CREATE TABLE session (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    facts BLOB NOT NULL,
    lease_s REAL NOT NULL,
    beat INTEGER NOT NULL DEFAULT 0,
    joined_at REAL NOT NULL,
    beat_at REAL NOT NULL,
    closed_at REAL,
    doubted BLOB
) STRICT;
CREATE INDEX session_open ON session (id) WHERE closed_at IS NULL;
CREATE INDEX session_closed ON session (closed_at) WHERE closed_at IS NOT NULL;

-- body is NULL where it is large: then it lies in payload, so that updates here stay small.
-- flags: 1 has a row in node, 2 comes after others, 4 others come after it, 8 has steps, 16 is of a
-- workflow; 0 for a plain job, which so pays nothing for what stands in the tables of workflows.
-- start: the delay and the deadline that it was asked for, NULL where there were none.
-- A job with a lane, flow or shuns is gated: when it is ready it stands in a stream, not in ready. flow: what
-- holds it back, shuns: the worker that it avoids. stream: where it stands while it is ready.
CREATE TABLE job (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    class INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    lane TEXT NOT NULL,
    priority INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    created_at REAL NOT NULL,
    due_at REAL,
    expires_at REAL,
    ageing_s REAL NOT NULL,
    keep_s REAL NOT NULL,
    keep_failed_s REAL NOT NULL,
    remember_s REAL NOT NULL,
    max_receives INTEGER NOT NULL,
    unique_key TEXT,
    tags TEXT,
    options BLOB NOT NULL,
    errors INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    started_at REAL,
    reason TEXT NOT NULL DEFAULT '',
    body BLOB,
    flags INTEGER NOT NULL DEFAULT 0,
    start BLOB,
    flow BLOB,
    shuns TEXT,
    stream INTEGER
) STRICT;

CREATE TABLE payload (n INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;

-- Ready jobs that nothing holds back but their queue.
CREATE TABLE ready (
    queue INTEGER NOT NULL,
    class INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (queue, class, rank, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE deferred (
    due_at REAL NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (due_at, n)
) STRICT, WITHOUT ROWID;

-- Jobs with a deadline to start by, while they have not started.
CREATE TABLE expiring (
    expires_at REAL NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (expires_at, n)
) STRICT, WITHOUT ROWID;

-- charged: NULL unless the claim took something that is to be given back; then what its lane was charged.
CREATE TABLE run (
    n INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    request BLOB NOT NULL,
    fence INTEGER NOT NULL,
    claimed_at REAL NOT NULL,
    deadline_at REAL,
    cancelling INTEGER NOT NULL DEFAULT 0,
    charged REAL
) STRICT;
CREATE INDEX run_claim ON run (session, request);
CREATE INDEX run_deadline ON run (deadline_at) WHERE deadline_at IS NOT NULL;

-- session is NULL where the job ended without running; request is NULL unless an outcome ended it.
CREATE TABLE done (
    n INTEGER PRIMARY KEY,
    state INTEGER NOT NULL,
    ended_at REAL NOT NULL,
    started_at REAL,
    session INTEGER,
    request BLOB,
    fence INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    reason TEXT NOT NULL,
    outcome TEXT NOT NULL,
    error BLOB,
    result BLOB
) STRICT;
CREATE INDEX done_state ON done (state, n) WHERE state <> 3;

CREATE TABLE sweepable (
    delete_at REAL NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (delete_at, n)
) STRICT, WITHOUT ROWID;

-- Attempts after which the job went on; the last one stands in done.
CREATE TABLE attempt (
    n INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    reason TEXT NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL NOT NULL,
    session INTEGER NOT NULL,
    error BLOB,
    PRIMARY KEY (n, fence)
) STRICT, WITHOUT ROWID;

-- What attempts leave for the next one, and the error of the last.
CREATE TABLE live (
    n INTEGER PRIMARY KEY,
    progress BLOB,
    checkpoint BLOB,
    error BLOB
) STRICT;

CREATE TABLE uniq (key TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE tag (
    tag TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (tag, n)
) STRICT, WITHOUT ROWID;

-- Outcomes after which the job went on, for those who repeat them.
CREATE TABLE receipt (
    token BLOB PRIMARY KEY,
    reason TEXT NOT NULL,
    until_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX receipt_until ON receipt (until_at);

-- What is left of swept jobs whose id somebody chose.
CREATE TABLE tomb (
    id TEXT PRIMARY KEY,
    class INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    state INTEGER NOT NULL,
    until_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tomb_until ON tomb (until_at);

CREATE TABLE blob (
    job TEXT NOT NULL,
    digest TEXT NOT NULL,
    chunk INTEGER NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (job, digest, chunk)
) STRICT;

-- Blobs that nobody will read again: sweeps remove them, a few chunks at a time.
CREATE TABLE waste (
    job TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (job, digest)
) STRICT, WITHOUT ROWID;

-- When to look whether a blob's job was ever stored.
CREATE TABLE blob_watch (
    check_at REAL NOT NULL,
    job TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (check_at, job, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE counter (
    queue INTEGER NOT NULL,
    state INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) STRICT, WITHOUT ROWID;

-- What a job of a workflow has beside its row. waits: it is waiting. held: its workflow is to be published
-- first. pending, broken, joins: edges into it that are undecided, that did not hold, and all; exact while
-- the job is final, too. passes: it was cancelled and counts as failed. cause: because of which job.
-- grp: its group. event, event_key, event_step: what it waits for, and the step that keeps the value.
-- rank: that of a plain job whose parents have let it go: its own row, which is wide, then stays as it is, with
-- a rank of 0. Where that has another, this one counts no more.
CREATE TABLE node (
    n INTEGER PRIMARY KEY,
    waits INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,
    pending INTEGER NOT NULL DEFAULT 0,
    broken INTEGER NOT NULL DEFAULT 0,
    joins INTEGER NOT NULL DEFAULT 0,
    passes INTEGER NOT NULL DEFAULT 0,
    cause TEXT,
    workflow INTEGER,
    grp TEXT,
    event TEXT,
    event_key TEXT,
    event_step TEXT,
    rank INTEGER
) STRICT;
CREATE INDEX node_workflow ON node (workflow, n) WHERE workflow IS NOT NULL;
CREATE INDEX node_group ON node (grp, n) WHERE grp IS NOT NULL;
CREATE INDEX node_held ON node (workflow, n) WHERE held = 1;
CREATE INDEX node_event ON node (event, event_key, n) WHERE event IS NOT NULL;
CREATE INDEX node_cause ON node (cause, n) WHERE cause IS NOT NULL;

-- traits: rule, role, join and cancels_siblings in one number. held: NULL while undecided. The indexes
-- keep the order in which edges were added.
CREATE TABLE edge (
    id INTEGER PRIMARY KEY,
    parent INTEGER NOT NULL,
    child INTEGER NOT NULL,
    traits INTEGER NOT NULL,
    held INTEGER
) STRICT;
CREATE INDEX edge_out ON edge (parent);
CREATE INDEX edge_in ON edge (child);
CREATE INDEX edge_broken ON edge (child) WHERE held = 0;

-- Jobs that were deleted, or never known, and still stand at one end of an edge. Their n is not given
-- to another job. id is NULL where another job has that id by now.
CREATE TABLE gone (n INTEGER PRIMARY KEY, id TEXT UNIQUE) STRICT;

-- check_at: when to look whether all its jobs are past their retention; then its jobs up to n = cursor
-- were seen to be. phase: 1, they are being deleted; 2, they are because nobody published it.
CREATE TABLE workflow (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    published INTEGER NOT NULL DEFAULT 0,
    check_at REAL NOT NULL,
    cursor INTEGER NOT NULL DEFAULT 0,
    phase INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX workflow_check ON workflow (check_at);

-- What an end, a publication or a revival set in motion and one call could not do: see cascade.py.
-- n: the job, or minus the workflow. is_late: 1 for what comes when nothing else is left, -1 before all else.
CREATE TABLE intent (
    id INTEGER PRIMARY KEY,
    n INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    cause TEXT NOT NULL,
    reason TEXT NOT NULL,
    is_late INTEGER NOT NULL
) STRICT;
CREATE INDEX intent_n ON intent (n);
CREATE INDEX intent_order ON intent (is_late, id);

CREATE TABLE step (
    n INTEGER NOT NULL,
    k INTEGER NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (n, k)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX step_key ON step (n, key);

-- Events, in the order in which they were sent. taken: somebody has had it, and only its id is left.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    sent_at REAL NOT NULL,
    taken INTEGER NOT NULL
) STRICT;
CREATE INDEX event_free ON event (name, key, seq) WHERE taken = 0;
CREATE INDEX event_sent ON event (sent_at);

CREATE TABLE schedule (
    name TEXT PRIMARY KEY,
    spec BLOB NOT NULL,
    next_at REAL,
    last_at REAL,
    paused INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX schedule_next ON schedule (next_at, name) WHERE paused = 0 AND next_at IS NOT NULL;

-- Flow control. A stream holds the ready jobs that are alike in all that holds them back; only its head is
-- looked at. Streams of one lane and one band (what a session must be able to run and its worker to have)
-- share a seat. rank and n are of the head: of a stream its first job, NULL where it is empty; of a seat
-- that of its streams that are not parked.

CREATE TABLE lane (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    name TEXT NOT NULL,
    clock REAL NOT NULL,
    mean_s REAL NOT NULL,
    weight REAL NOT NULL,
    UNIQUE (queue, name)
) STRICT;

-- wants: resources, traits and the worker that is shunned; empty where there is nothing of it.
CREATE TABLE band (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    class INTEGER NOT NULL,
    wants BLOB NOT NULL,
    UNIQUE (queue, class, wants)
) STRICT;

-- clock: that of its lane, so that one index gives the order.
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

-- keys: the numbers of its valves, as ",3,7,". park: the valve that was found shut, 0 for none.
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

-- open_at: before it none of the streams that are parked there can move; NULL until somebody lets go.
CREATE TABLE park (
    valve INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    open_at REAL,
    PRIMARY KEY (valve, queue)
) STRICT, WITHOUT ROWID;
CREATE INDEX park_opening ON park (open_at) WHERE open_at IS NOT NULL;
CREATE INDEX park_queue ON park (queue, open_at);

-- The keys of limits and breakers. setting: NULL where nobody configured it. gauge: NULL before it was
-- first passed or told of anything. ready: how many jobs of the key are.
CREATE TABLE valve (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    setting BLOB,
    gauge BLOB,
    backlog INTEGER,
    ready INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX valve_backlog ON valve (id) WHERE backlog IS NOT NULL;

-- Who holds a key since when: the claim of a job, or what it acquired in a request.
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

-- What running jobs have of their worker's resources. drawn: the names of those that come out of what
-- their workflow has reserved, NULL for none.
CREATE TABLE taken (
    n INTEGER PRIMARY KEY,
    worker TEXT NOT NULL,
    units BLOB NOT NULL,
    workflow TEXT,
    drawn BLOB
) STRICT;
CREATE INDEX taken_worker ON taken (worker);
CREATE INDEX taken_drawn ON taken (workflow, worker) WHERE drawn IS NOT NULL;

-- What workflows have reserved on workers: see core/reservations.py.
CREATE TABLE reservation (
    workflow TEXT NOT NULL,
    worker TEXT NOT NULL,
    job TEXT NOT NULL,
    since REAL NOT NULL,
    units BLOB NOT NULL,
    offers BLOB NOT NULL,
    PRIMARY KEY (workflow, worker)
) STRICT, WITHOUT ROWID;

-- The job that a worker passed over first for want of resources, and when.
CREATE TABLE passed_over (
    worker TEXT PRIMARY KEY,
    n INTEGER NOT NULL,
    at REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- The weights of lanes, and what apps keep here; limits and breakers stand in valve.
CREATE TABLE setting (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- What was counted per minute, for 30 days. task: the number of a class, or minus that of a label. word: see
-- core/rollup.py. bucket: of the run time, -1 for what did not run. Classes of one task add up.
CREATE TABLE rollup (
    minute INTEGER NOT NULL,
    task INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    word INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    count INTEGER NOT NULL,
    sum_us INTEGER NOT NULL,
    PRIMARY KEY (minute, task, queue, word, bucket)
) STRICT, WITHOUT ROWID;

-- Names that are counted and are no task's.
CREATE TABLE label (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

-- What happened, in the order of the commits. No number is given twice: readers resume from it.
CREATE TABLE history (seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, data BLOB NOT NULL) STRICT;
