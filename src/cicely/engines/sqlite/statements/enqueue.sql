-- Storing new jobs. Indexes: job.id, tomb.id, uniq.key for what is known already.
-- Runs under the write lock; inserts only, but for the counters.

-- :name known_one
SELECT id FROM job WHERE id = ?1 UNION ALL SELECT id FROM tomb WHERE id = ?1

-- :name known_jobs
SELECT id FROM job WHERE id IN carray(?1)

-- :name known_tombs
SELECT id FROM tomb WHERE id IN carray(?1)

-- :name has_tombs
SELECT 1 FROM tomb LIMIT 1

-- :name holder
SELECT job.id FROM uniq JOIN job ON job.n = uniq.n WHERE uniq.key = ?1

-- :name last_n
SELECT (SELECT max(n) FROM job), (SELECT max(n) FROM gone), EXISTS (SELECT 1 FROM lane),
       EXISTS (SELECT 1 FROM valve WHERE backlog IS NOT NULL)

-- :name job
INSERT INTO job (n, id, class, queue, lane, priority, rank, created_at, due_at, expires_at, ageing_s,
                 keep_s, keep_failed_s, remember_s, max_receives, unique_key, tags, options, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- :name flagged_job
INSERT INTO job (n, id, class, queue, lane, priority, rank, created_at, due_at, expires_at, ageing_s,
                 keep_s, keep_failed_s, remember_s, max_receives, unique_key, tags, options, body, flags,
                 start, flow, stream)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- :name payload
INSERT INTO payload (n, body) VALUES (?, ?)

-- :name ready
INSERT INTO ready (queue, class, rank, n) VALUES (?, ?, ?, ?)

-- :name ready_alike
INSERT INTO ready (queue, class, rank, n) SELECT ?2, ?3, ?4, value FROM carray(?1)

-- :name deferred
INSERT INTO deferred (due_at, n) VALUES (?, ?)

-- :name expiring
INSERT INTO expiring (expires_at, n) VALUES (?, ?)

-- :name uniq
INSERT INTO uniq (key, n) VALUES (?, ?)

-- :name tag
INSERT OR IGNORE INTO tag (tag, n) VALUES (?, ?)

-- :name count
INSERT INTO counter (queue, state, jobs) VALUES (?1, ?2, ?3)
ON CONFLICT (queue, state) DO UPDATE SET jobs = jobs + ?3
