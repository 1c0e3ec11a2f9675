-- From schema 4 to 5: reservations. Runs under the write lock.

ALTER TABLE taken ADD COLUMN workflow TEXT;
ALTER TABLE taken ADD COLUMN drawn BLOB;
CREATE INDEX taken_drawn ON taken (workflow, worker) WHERE drawn IS NOT NULL;

CREATE TABLE reservation (
    workflow TEXT NOT NULL,
    worker TEXT NOT NULL,
    job TEXT NOT NULL,
    since REAL NOT NULL,
    units BLOB NOT NULL,
    offers BLOB NOT NULL,
    PRIMARY KEY (workflow, worker)
) STRICT, WITHOUT ROWID;
