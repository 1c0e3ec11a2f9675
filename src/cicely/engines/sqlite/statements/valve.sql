-- Limits and breakers: who holds what, where they stand, and what running claims took. Indexes: valve.key,
-- valve_backlog, holder (valve, since, n, request), acquired (n, request), taken_worker.
-- Runs under the write lock; the reading ones also in a snapshot.

-- :name one
SELECT id, setting, gauge FROM valve WHERE key = ?1

-- :name add
INSERT INTO valve (key) VALUES (?1) RETURNING id

-- :name gauge
UPDATE valve SET gauge = ? WHERE id = ?

-- :name key_of
SELECT key FROM valve WHERE id = ?1

-- :name ready
UPDATE valve SET ready = ready + ? WHERE id = ?

-- :name count
SELECT count(*) FROM holder WHERE valve = ?1 AND since >= ?2

-- :name hold
INSERT OR REPLACE INTO holder (valve, since, n, request) SELECT ?2, ?3, value, ?4 FROM carray(?1)

-- :name let_go
DELETE FROM holder WHERE valve = ?2 AND since = ?3 AND n IN carray(?1) AND request = ?4

-- :name holders
SELECT j.id, coalesce(s.key, ''), h.since FROM holder h JOIN job j ON j.n = h.n
LEFT JOIN run r ON r.n = h.n LEFT JOIN session s ON s.id = r.session
WHERE h.valve = ?1 ORDER BY h.since, h.n LIMIT ?2

-- :name id_of
SELECT id FROM job WHERE n = ?1

-- :name configured
INSERT INTO valve (key, setting, backlog) VALUES (?1, ?2, ?3)
ON CONFLICT (key) DO UPDATE SET setting = ?2, backlog = ?3

-- :name configured_as
SELECT setting FROM valve WHERE key = ?1

-- :name unset
UPDATE valve SET setting = NULL, backlog = NULL WHERE key = ?1

-- :name known
SELECT key FROM valve WHERE setting IS NOT NULL OR gauge IS NOT NULL ORDER BY key

-- :name backlog
SELECT backlog, ready FROM valve WHERE key = ?1 AND backlog IS NOT NULL

-- :name ready_in_queue
SELECT jobs FROM counter WHERE queue = (SELECT id FROM queue WHERE name = ?1) AND state = ?2

-- The next valves by number, and whether each may go: it is as if it were new, and nobody names its number.

-- :name any
SELECT 1 FROM valve LIMIT 1

-- :name next_unused
SELECT id, setting IS NULL AND gauge IS NULL AND ready = 0 AND NOT EXISTS (SELECT 1 FROM holder WHERE valve = v.id)
    AND NOT EXISTS (SELECT 1 FROM park WHERE valve = v.id)
FROM valve v WHERE id > ?1 ORDER BY id LIMIT ?2

-- :name forget
DELETE FROM valve WHERE id IN carray(?1)

-- :name acquired
SELECT uses, at FROM acquired WHERE n = ?1 AND request = ?2

-- :name any_acquired
SELECT 1 FROM acquired LIMIT 1

-- :name all_acquired
SELECT request, uses, at FROM acquired WHERE n = ?1

-- :name acquire
INSERT INTO acquired (n, request, uses, at) VALUES (?1, ?2, ?3, ?4)

-- :name release
DELETE FROM acquired WHERE n = ?1 AND request = ?2

-- :name release_all
DELETE FROM acquired WHERE n = ?1

-- :name claim
SELECT r.request, r.fence, s.key, r.charged FROM run r JOIN session s ON s.id = r.session WHERE r.n = ?1

-- :name took
UPDATE run SET charged = 0 WHERE n = ?1 AND charged IS NULL

-- Resources.

-- :name taken
SELECT units FROM taken WHERE worker = ?1

-- :name take_units
INSERT OR REPLACE INTO taken (n, worker, units, workflow, drawn) VALUES (?, ?, ?, ?, ?)

-- :name free_units
DELETE FROM taken WHERE n = ?1

-- :name passed_over
SELECT p.n, p.at, j.stream, j.flow, q.paused, b.wants
FROM passed_over p JOIN job j ON j.n = p.n JOIN queue q ON q.id = j.queue
JOIN stream s ON s.id = j.stream JOIN seat t ON t.id = s.seat JOIN band b ON b.id = t.band
JOIN gated g ON g.stream = j.stream AND g.rank = j.rank AND g.n = j.n WHERE p.worker = ?1

-- :name pass_over
INSERT OR REPLACE INTO passed_over (worker, n, at) VALUES (?1, ?2, ?3)

-- One that was claimed is waited for anew when it comes back; there are as many rows as workers.
-- :name waited_for
DELETE FROM passed_over WHERE n = ?1

-- :name forget_passed_over
DELETE FROM passed_over WHERE at <= ?1

-- Weights of lanes, and notes.

-- :name setting
SELECT value FROM setting WHERE kind = ?1 AND name = ?2

-- :name keep
INSERT OR REPLACE INTO setting (kind, name, value) VALUES (?1, ?2, ?3)

-- :name drop
DELETE FROM setting WHERE kind = ?1 AND name = ?2

-- :name of_kind
SELECT value FROM setting WHERE kind = ?1 ORDER BY name
