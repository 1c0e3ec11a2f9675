-- The tables of one Cicely database. A job's whole life adds and removes narrow rows; the job row
-- itself is updated only when something went wrong or was steered. Where a job stands follows from
-- where it has a row: done -> its final state, run -> running, else due_at -> scheduled, else ready.
-- STRICT, so that a value of the wrong type cannot even be written by hand.

CREATE TABLE queue (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What a session must be able to run: a task and its kind. Append-only.
CREATE TABLE class (
    id INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    kind TEXT NOT NULL,
    UNIQUE (task, kind)
) STRICT;

-- facts: the Session as JSON, empty once it is closed. Closed ones are kept for a while, for the names
-- in attempts.
CREATE TABLE session (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    facts BLOB NOT NULL,
    lease_s REAL NOT NULL,
    beat INTEGER NOT NULL DEFAULT 0,
    joined_at REAL NOT NULL,
    beat_at REAL NOT NULL,
    closed_at REAL
) STRICT;
CREATE INDEX session_open ON session (id) WHERE closed_at IS NULL;
CREATE INDEX session_closed ON session (closed_at) WHERE closed_at IS NOT NULL;

-- body is NULL where it is large: then it lies in payload, so that updates here stay small.
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
    body BLOB
) STRICT;

CREATE TABLE payload (n INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;

CREATE TABLE ready (
    queue INTEGER NOT NULL,
    lane TEXT NOT NULL,
    class INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (queue, lane, class, rank, n)
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

CREATE TABLE run (
    n INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    request BLOB NOT NULL,
    fence INTEGER NOT NULL,
    claimed_at REAL NOT NULL,
    deadline_at REAL,
    cancelling INTEGER NOT NULL DEFAULT 0
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
