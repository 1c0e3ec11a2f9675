-- join: registers a session; refuses one that was closed.
-- Keys: session:<id>, tasks:<id>, sessions, closed:<id>, meta. Work: the tasks of one session.
-- ARGV: now, id, facts, lease_s, worker, queues ('' for any), has_wildcards, gear ('' for none: what it offers by resource
-- and unit, what it accepts by name and value), '1' for a supervisor, its name, tasks...
local id = ARGV[2]
if call('EXISTS', NS .. 'closed:' .. id) == 1 then return 'closed' end
if call('EXISTS', NS .. 'session:' .. id) == 1 then return 'joined' end
local number = call('HINCRBY', NS .. 'meta', 'sessions', 1)
call(
  'HSET', NS .. 'session:' .. id, 'number', number, 'facts', ARGV[3], 'lease_s', ARGV[4], 'worker', ARGV[5],
  'queues', ARGV[6], 'has_wildcards', ARGV[7], 'beat', 0, 'joined_at', now, 'beat_at', now
)
local tasks = {}
if ARGV[8] ~= '' then call('HSET', NS .. 'session:' .. id, 'gear', ARGV[8]) end
for i = 11, #ARGV do tasks[i - 10] = ARGV[i] end
many('SADD', NS .. 'tasks:' .. id, tasks)
call('ZADD', NS .. 'sessions', number, id)
if ARGV[9] == '1' then
  call('HSET', NS .. 'session:' .. id, 'leads', ARGV[10])
  use('past').tell('worker.joined', id, ARGV[10])
  use('past').write()
end
return 'joined'
