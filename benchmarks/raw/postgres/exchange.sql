-- Settles by number and token, then claims from the left edge of ready's primary key; locks of others are passed
-- over. Returns the jobs that were taken, and a row without a body that says how many tokens held.
WITH released AS (
  DELETE FROM raw.run USING unnest(%s::bigint[], %s::bytea[]) AS ended (id, token)
  WHERE run.id = ended.id AND run.token = ended.token RETURNING run.id
), finished AS (
  INSERT INTO raw.done (id, result, ended_at) SELECT id, '\xc0', now() FROM released RETURNING id
), taken AS (
  DELETE FROM raw.ready
  WHERE id = ANY (ARRAY(SELECT id FROM raw.ready ORDER BY id FOR UPDATE SKIP LOCKED LIMIT %s))
  RETURNING id, body
), held AS (
  INSERT INTO raw.run (id, token, session) SELECT id, %s, %s FROM taken
)
SELECT id, body FROM taken UNION ALL SELECT count(*), NULL FROM finished
