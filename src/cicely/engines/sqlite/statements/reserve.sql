-- What workflows have reserved on workers. Indexes: the primary key (workflow, worker), taken_drawn, node_workflow,
-- gated (stream, rank, n). Runs under the write lock; the reading ones also in a snapshot.

-- There are as few as there are devices: whoever asks reads all.
-- :name all
SELECT workflow, worker, job, since, units, offers FROM reservation ORDER BY worker, workflow

-- :name keep
INSERT OR REPLACE INTO reservation (workflow, worker, job, since, units, offers) VALUES (?1, ?2, ?3, ?4, ?5, ?6)

-- :name end
DELETE FROM reservation WHERE workflow = ?1 AND worker = ?2

-- :name used
SELECT units, drawn FROM taken INDEXED BY taken_drawn
WHERE drawn IS NOT NULL AND workflow = ?1 AND worker = ?2 ORDER BY n

-- :name drawn_in
SELECT n, drawn FROM taken INDEXED BY taken_drawn WHERE drawn IS NOT NULL AND workflow = ?1

-- :name draw
UPDATE taken SET drawn = ?2 WHERE n = ?1

-- :name held
SELECT worker, units, drawn FROM taken WHERE n = ?1

-- :name workflow
SELECT f.id, f.name FROM node w JOIN workflow f ON f.id = w.workflow WHERE w.n = ?1

-- Those of workflows of which no job is live. The last job of a workflow is looked at first: it mostly is.
-- :name over
SELECT workflow, worker FROM reservation r
WHERE (
    SELECT w.n FROM workflow f JOIN node w INDEXED BY node_workflow ON w.workflow = f.id
    WHERE f.name = r.workflow AND NOT EXISTS (SELECT 1 FROM done WHERE n = w.n) ORDER BY w.n DESC LIMIT 1
) IS NULL ORDER BY workflow, worker LIMIT ?1

-- :name members
SELECT n FROM node INDEXED BY node_workflow WHERE workflow = ?1 AND n > ?2 ORDER BY n LIMIT ?3

-- :name standing
SELECT g.stream, g.rank, g.n, j.flow FROM carray(?1) c JOIN job j ON j.n = c.value
JOIN gated g ON g.stream = j.stream AND g.rank = j.rank AND g.n = j.n WHERE j.flow IS NOT NULL

-- :name name
SELECT name FROM workflow WHERE id = ?1
