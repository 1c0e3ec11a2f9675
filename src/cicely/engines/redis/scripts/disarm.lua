-- disarm: has an ear hear no more.
-- Keys: session:<id>, armed; or await. Work: the jobs that were awaited.
-- ARGV: now, ear, session or '', awaited job ids...
local ear, id = ARGV[2], ARGV[3]
if id ~= '' and call('HGET', NS .. 'session:' .. id, 'ear') == ear then
  call('HSET', NS .. 'session:' .. id, 'armed', '0')
  call('ZREM', NS .. 'armed', id)
end
for i = 4, #ARGV do
  local kept = {}
  for other in string.gmatch(call('HGET', NS .. 'await', ARGV[i]) or '', '%S+') do
    if other ~= ear then kept[#kept + 1] = other end
  end
  if #kept > 0 then
    call('HSET', NS .. 'await', ARGV[i], table.concat(kept, ' '))
  else
    call('HDEL', NS .. 'await', ARGV[i])
  end
end
return 1
