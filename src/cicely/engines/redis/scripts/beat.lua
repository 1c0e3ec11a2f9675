-- beat: takes a heartbeat of each session, and hands back what two of them in a row did not name. A number
-- that is not above the session's last changes nothing.
-- Keys: session:<id>, held:<id>, runs, and those of a hand-back. Work: the claims that are named and held.
-- ARGV: now, plan of a hand-back, number, sessions; then for each: id, how many tokens, tokens as request:n:fence.
-- Returns for each: alive (1 or 0), cancelled tokens, lost tokens.
local plan = cmsgpack.unpack(ARGV[2])
local rows, decisions = use('rows'), use('decisions')
local number = tonumber(ARGV[3])
local at, replies = 5, {}

-- The claims that the last beat did not name, where this one follows it.
local function doubts(last, doubted)
  local tokens = {}
  if doubted and number == last + 1 then
    for token in string.gmatch(doubted, '%S+') do tokens[token] = true end
  end
  return tokens
end

local function note(key, unnamed)
  call('HSET', key, 'beat', number, 'beat_at', now)
  if #unnamed > 0 then
    call('HSET', key, 'doubted', table.concat(unnamed, ' '))
  else
    call('HDEL', key, 'doubted')
  end
end

local function beat_one(id, named)
  local key = NS .. 'session:' .. id
  local last, doubted = unpack(call('HMGET', key, 'beat', 'doubted'))
  local cancelled, lost, unnamed = {}, {}, {}
  last = tonumber(last or nil)
  if not last then
    for token in pairs(named) do lost[#lost + 1] = token end
    return { 0, cancelled, lost }
  end
  local is_doubted, doubted_jobs = doubts(last, doubted), {}
  local ns = call('SORT', NS .. 'held:' .. id)
  for i, run in ipairs(read_all(NS .. 'runs', ns)) do
    local job = run and rows.claimed(ns[i], run)
    local token = job and rows.token(job)
    if job and not named[token] and is_doubted[token] then
      doubted_jobs[#doubted_jobs + 1] = job
    elseif job then
      if not named[token] then unnamed[#unnamed + 1] = token end
      named[token] = nil
      if job.why ~= '' then cancelled[#cancelled + 1] = token end
    end
  end
  decisions.carry_out_all(doubted_jobs, plan, '')
  if number > last then note(key, unnamed) end
  for token in pairs(named) do lost[#lost + 1] = token end
  return { 1, cancelled, lost }
end

for i = 1, tonumber(ARGV[4]) do
  local id, total = ARGV[at], tonumber(ARGV[at + 1])
  local named = {}
  for j = at + 2, at + 1 + total do named[ARGV[j]] = true end
  replies[i] = beat_one(id, named)
  at = at + 2 + total
end
use('endings').write()
ring()
return replies
