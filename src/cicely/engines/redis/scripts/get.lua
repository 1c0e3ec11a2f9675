-- get: reads jobs in full.
-- Keys: ids, tombs, j:<n>, runs, d:<n>, l:<n>, a:<n>, b:<n>, r:<n>, w:<n>. Work: the jobs that are named, and
-- their attempts.
-- ARGV: now, ids...
-- Returns for each: nothing; a tomb; or record, claim, end, progress, error, attempts, large body, large
-- result, what a node says of the job.
local replies = {}
for i = 2, #ARGV do
  local n = call('HGET', NS .. 'ids', ARGV[i])
  local reply = {}
  if n == 'tomb' then
    reply = { call('HGET', NS .. 'tombs', ARGV[i]) }
  elseif n then
    local record, ended = call('GET', NS .. 'j:' .. n), call('GET', NS .. 'd:' .. n)
    if record then
      local left = call('HMGET', NS .. 'l:' .. n, 'progress', 'error')
      reply = {
        record, use('told').run(call('HGET', NS .. 'runs', n)), ended, left[1], left[2], call('LRANGE', NS .. 'a:' .. n, 0, -1),
        call('GET', NS .. 'b:' .. n), call('GET', NS .. 'r:' .. n),
        use('node').told(n, record),
      }
    end
  end
  replies[i - 1] = reply
end
return replies
