-- From schema 1 to 2: edges between jobs, workflows, steps, events and schedules. Runs under the write lock.

CREATE INDEX IF NOT EXISTS ready_laned ON ready (queue, class, rank, n) WHERE lane <> '';

ALTER TABLE job ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN start BLOB;
ALTER TABLE session ADD COLUMN doubted BLOB;

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
    event_step TEXT
) STRICT;
CREATE INDEX node_workflow ON node (workflow, n) WHERE workflow IS NOT NULL;
CREATE INDEX node_group ON node (grp, n) WHERE grp IS NOT NULL;
CREATE INDEX node_held ON node (workflow, n) WHERE held = 1;
CREATE INDEX node_event ON node (event, event_key, n) WHERE event IS NOT NULL;
CREATE INDEX node_cause ON node (cause, n) WHERE cause IS NOT NULL;

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

CREATE TABLE gone (n INTEGER PRIMARY KEY, id TEXT UNIQUE) STRICT;

CREATE TABLE workflow (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    published INTEGER NOT NULL DEFAULT 0,
    check_at REAL NOT NULL,
    cursor INTEGER NOT NULL DEFAULT 0,
    phase INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX workflow_check ON workflow (check_at);

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
