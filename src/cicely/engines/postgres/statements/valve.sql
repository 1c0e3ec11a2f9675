-- Limits and breakers: where they stand, who holds what, and what running claims took. Indexes: valve.key,
-- holder_valve, holder_n, acquired (n, request), taken_worker. Locks: the flow lock (see stream.sql) for all
-- that changes something; reading in a snapshot takes none.

-- :name guards
SELECT key, id, setting, gauge, (SELECT count(*) FROM holder WHERE holder.valve = valve.id)
FROM valve WHERE key = ANY(%(keys)b::text[])

-- :name guards_by_id
SELECT key, id, setting, gauge FROM valve WHERE id = ANY(%(ids)b::int[])

-- :name add
INSERT INTO valve (key) VALUES (%(key)s) ON CONFLICT (key) DO NOTHING

-- :name gauges
UPDATE valve SET gauge = i.gauge FROM unnest(%(ids)b::int[], %(gauges)b::bytea[]) AS i (id, gauge)
WHERE valve.id = i.id

-- :name count
SELECT valve, count(*) FROM holder WHERE valve = ANY(%(ids)b::int[]) AND at >= %(since)s GROUP BY valve

-- :name hold
INSERT INTO holder (part, valve, at, n, request)
SELECT (SELECT last_value FROM holder_turn), i.valve, %(now)s, i.n, i.request
FROM unnest(%(valves)b::int[], %(holders)b::bigint[], %(requests)b::bytea[]) AS i (valve, n, request)

-- :name let_go
WITH gone AS (
    DELETE FROM holder WHERE n = ANY(%(ns)b::bigint[]) RETURNING n, valve, at, request
), woken AS (
    UPDATE park SET open_at = 0 WHERE valve IN (SELECT valve FROM gone) AND open_at > 0
)
SELECT n, valve, at, request FROM gone

-- :name let_go_request
WITH gone AS (
    DELETE FROM holder WHERE n = %(n)s AND request = %(request)s RETURNING valve, at
), woken AS (
    UPDATE park SET open_at = 0 WHERE valve IN (SELECT valve FROM gone) AND open_at > 0
)
SELECT valve, at FROM gone

-- :name holders
SELECT j.id, coalesce(s.key, ''), h.at FROM holder h JOIN job j ON j.n = h.n
LEFT JOIN run r ON r.n = h.n LEFT JOIN session s ON s.id = r.session
WHERE h.valve = %(valve)s ORDER BY h.at, h.n LIMIT %(limit)s

-- What claims took that end now; where they stand is locked.
-- :name held
SELECT r.n, CASE WHEN r.charged > 0 THEN (SELECT id FROM lane WHERE queue = j.queue AND name = j.lane) END,
       j.flow, r.charged, r.claimed_at
FROM run r JOIN job j ON j.n = r.n WHERE r.n = ANY(%(ns)b::bigint[])

-- :name id_of
SELECT id FROM job WHERE n = %(n)s

-- --- settings ------------------------------------------------------------------------------------

-- :name configured
INSERT INTO valve (key, setting, backlog) VALUES (%(key)s, %(setting)s, %(backlog)s)
ON CONFLICT (key) DO UPDATE SET setting = excluded.setting, backlog = excluded.backlog

-- :name unset
UPDATE valve SET setting = NULL, backlog = NULL WHERE key = %(key)s AND setting IS NOT NULL RETURNING id

-- :name bound_queue
INSERT INTO queue (name, is_bounded) VALUES (%(name)s, %(is_bounded)s)
ON CONFLICT (name) DO UPDATE SET is_bounded = excluded.is_bounded

-- :name known
SELECT key FROM valve WHERE setting IS NOT NULL OR gauge IS NOT NULL ORDER BY key

-- :name keep
INSERT INTO setting (kind, name, value) VALUES (%(kind)s, %(name)s, %(value)s)
ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value

-- :name setting
SELECT value FROM setting WHERE kind = %(kind)s AND name = %(name)s

-- :name setting_of
SELECT setting FROM valve WHERE key = %(key)s

-- :name drop
DELETE FROM setting WHERE kind = %(kind)s AND name = %(name)s RETURNING name

-- :name of_kind
SELECT value FROM setting WHERE kind = %(kind)s ORDER BY name

-- --- what claims acquire -------------------------------------------------------------------------

-- :name claim
SELECT r.request, r.fence, s.key FROM run r JOIN session s ON s.id = r.session
WHERE r.n = %(n)s FOR UPDATE OF r

-- :name acquired
SELECT uses, at FROM acquired WHERE n = %(n)s AND request = %(request)s

-- :name acquire
INSERT INTO acquired (n, request, uses, at) VALUES (%(n)s, %(request)s, %(uses)s, %(now)s)

-- :name holds_something
UPDATE run SET traits = traits | 64::smallint WHERE n = %(n)s AND traits & 64 = 0

-- :name release
DELETE FROM acquired WHERE n = %(n)s AND request = %(request)s

-- :name release_all
DELETE FROM acquired WHERE n = ANY(%(ns)b::bigint[])

-- --- resources -----------------------------------------------------------------------------------

-- :name taken
SELECT units FROM taken WHERE worker = %(worker)s

-- :name take_units
INSERT INTO taken (n, worker, units, workflow, drawn)
SELECT n, %(worker)s, units, workflow, drawn
FROM unnest(%(ns)b::bigint[], %(units)b::bytea[], %(workflows)b::text[], %(drawn)b::bytea[])
     AS i (n, units, workflow, drawn)

-- :name free_units
DELETE FROM taken WHERE n = ANY(%(ns)b::bigint[])

-- :name passed_over
SELECT p.n, p.at, j.flow, q.paused, j.stream, (
    SELECT b.wants FROM stream s JOIN gate g ON g.id = s.gate JOIN band b ON b.id = g.band WHERE s.id = j.stream
) FROM passed_over p JOIN job j ON j.n = p.n
JOIN queue q ON q.id = j.queue JOIN ready r
  ON r.queue = j.queue AND r.stream = coalesce(j.stream, 0) AND r.class = j.class AND r.rank = j.rank AND r.n = j.n
WHERE p.worker = %(worker)s

-- :name pass_over
INSERT INTO passed_over (worker, n, at) VALUES (%(worker)s, %(n)s, %(now)s)
ON CONFLICT (worker) DO UPDATE SET n = excluded.n, at = excluded.at

-- :name is_taken
DELETE FROM passed_over WHERE n = ANY(%(ns)b::bigint[])

-- :name forget_passed_over
DELETE FROM passed_over WHERE at <= %(before)s

-- --- backlogs ------------------------------------------------------------------------------------

-- :name backlogs
SELECT key, id, backlog FROM valve WHERE key = ANY(%(keys)b::text[]) AND backlog IS NOT NULL

-- :name ready_in_queue
SELECT coalesce(sum(ready), 0)::bigint FROM (
    SELECT ready FROM counter WHERE queue = (SELECT id FROM queue WHERE name = %(name)s)
    UNION ALL
    SELECT ready FROM delta WHERE queue = (SELECT id FROM queue WHERE name = %(name)s)
) AS c

-- :name ready_of_key
SELECT count(*) FROM (
    SELECT FROM gate g JOIN band b ON b.id = g.band JOIN stream s ON s.gate = g.id
    JOIN ready r ON r.queue = b.queue AND r.stream = s.id AND r.class = b.class
    WHERE %(valve)s::int = ANY(g.keys) LIMIT %(limit)s
) AS page

-- --- claims and jobs -----------------------------------------------------------------------------

-- :name extras
SELECT j.id, j.flow, t.units FROM job j LEFT JOIN taken t ON t.n = j.n WHERE j.n = ANY(%(ns)b::bigint[])

-- :name place
SELECT queue, lane, class, flow FROM job WHERE n = %(n)s

-- :name restand
UPDATE job SET stream = %s, traits = traits & ~48::smallint | %s::smallint WHERE n = %s
