-- steps: reads the recorded steps of a job, oldest first.
-- Keys: ids, o:<n>, s:<n>. Work: one page of them.
-- ARGV: now, job id, after, how many.
-- Returns keys and values.
local n = call('HGET', NS .. 'ids', ARGV[2])
local keys = n and call('LRANGE', NS .. 'o:' .. n, ARGV[3], ARGV[3] + ARGV[4] - 1) or {}
return { keys, read_all(NS .. 's:' .. (n or ''), keys) }
