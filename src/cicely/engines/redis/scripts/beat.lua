-- beat: counts a heartbeat of each session, and hands back what it does not know to be its own.
-- Keys: session:<id>, held:<id>, runs, and those of a hand-back. Work: the claims that are named and held.
-- ARGV: now, plan of a hand-back, sessions; then for each: id, how many tokens, tokens as request:n:fence.
-- Returns for each: alive (1 or 0), cancelled tokens, lost tokens.
local plan = cmsgpack.unpack(ARGV[2])
local rows, decisions = use('rows'), use('decisions')
local at, replies = 4, {}

local function beat_one(id, named)
  local key = NS .. 'session:' .. id
  local lease_s = tonumber(call('HGET', key, 'lease_s') or nil)
  local cancelled, lost = {}, {}
  if not lease_s then
    for token in pairs(named) do lost[#lost + 1] = token end
    return { 0, cancelled, lost }
  end
  call('HINCRBY', key, 'beat', 1)
  call('HSET', key, 'beat_at', now)
  local known_before = now - lease_s * 2 / 3
  local ns = call('SORT', NS .. 'held:' .. id)
  for i, run in ipairs(read_all(NS .. 'runs', ns)) do
    local job = run and rows.claimed(ns[i], run)
    local token = job and rows.token(job)
    if job and not named[token] and job.started_at < known_before then
      decisions.carry_out(job, plan, '', '')
    elseif job then
      named[token] = nil
      if job.why ~= '' then cancelled[#cancelled + 1] = token end
    end
  end
  for token in pairs(named) do lost[#lost + 1] = token end
  return { 1, cancelled, lost }
end

for i = 1, tonumber(ARGV[3]) do
  local id, total = ARGV[at], tonumber(ARGV[at + 1])
  local named = {}
  for j = at + 2, at + 1 + total do named[ARGV[j]] = true end
  replies[i] = beat_one(id, named)
  at = at + 2 + total
end
use('endings').write()
ring()
return replies
