-- What running attempts leave. One seek in run per token, locked in the order of n.

-- :name holds
SELECT n, request, fence FROM run WHERE n = ANY(%(ns)b::bigint[]) ORDER BY n FOR UPDATE

-- :name live
INSERT INTO live (n, progress, checkpoint) VALUES (%s, %s, %s)
ON CONFLICT (n) DO UPDATE SET progress = coalesce(excluded.progress, live.progress),
                              checkpoint = coalesce(excluded.checkpoint, live.checkpoint)

-- :name deadline
UPDATE run SET deadline_at = %s WHERE n = %s
