-- join: registers a session; refuses one that was closed.
-- Keys: session:<id>, tasks:<id>, sessions, closed:<id>, meta. Work: the tasks of one session.
-- ARGV: now, id, facts, lease_s, worker, queues ('' for any), has_wildcards, tasks...
local id = ARGV[2]
if call('EXISTS', NS .. 'closed:' .. id) == 1 then return 'closed' end
if call('EXISTS', NS .. 'session:' .. id) == 1 then return 'joined' end
local number = call('HINCRBY', NS .. 'meta', 'sessions', 1)
call(
  'HSET', NS .. 'session:' .. id, 'number', number, 'facts', ARGV[3], 'lease_s', ARGV[4], 'worker', ARGV[5],
  'queues', ARGV[6], 'has_wildcards', ARGV[7], 'beat', 0, 'joined_at', now, 'beat_at', now
)
local tasks = {}
for i = 8, #ARGV do tasks[i - 7] = ARGV[i] end
many('SADD', NS .. 'tasks:' .. id, tasks)
call('ZADD', NS .. 'sessions', number, id)
return 'joined'
