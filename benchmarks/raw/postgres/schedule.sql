INSERT INTO raw.scheduled (due_at, id, body)
SELECT now() + interval '1 hour', number, %s FROM generate_series(%s::bigint, %s::bigint) AS number
