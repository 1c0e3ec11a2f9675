-- arm: has an ear hear of new work for a session, or of the ends of jobs.
-- Keys: session:<id>, tasks:<id>, armed; or await. Work: the jobs that are awaited.
-- ARGV: now, ear, session or '', '1' to ring at once, awaited job ids...
local MOST_EARS = 16
local ear, id = ARGV[2], ARGV[3]
if id ~= '' then
  local number = call('HGET', NS .. 'session:' .. id, 'number')
  if number then
    call('HSET', NS .. 'session:' .. id, 'ear', ear, 'armed', '1')
    -- A supervisor waits for cancellations only.
    if call('EXISTS', NS .. 'tasks:' .. id) == 1 then call('ZADD', NS .. 'armed', number, id) end
  end
end
for i = 5, #ARGV do
  local ears = call('HGET', NS .. 'await', ARGV[i])
  if not ears then
    call('HSET', NS .. 'await', ARGV[i], ear)
  elseif not string.find(ears, ear, 1, true) then
    local kept = {}
    for other in string.gmatch(ears, '%S+') do kept[#kept + 1] = other end
    if #kept >= MOST_EARS then table.remove(kept, 1) end
    kept[#kept + 1] = ear
    call('HSET', NS .. 'await', ARGV[i], table.concat(kept, ' '))
  end
end
if ARGV[4] == '1' then call('PUBLISH', NS .. 'ear:' .. ear, '1') end
return 1
