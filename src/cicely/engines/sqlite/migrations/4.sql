-- From schema 3 to 4: rollups and history. Runs under the write lock.

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

CREATE TABLE label (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE history (seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, data BLOB NOT NULL) STRICT;
