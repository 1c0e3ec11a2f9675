-- sweep: every duty in bounded steps, each from the head of an ordered index.
-- Keys: session:<id>, held:<id>, late, due, expiring, old, old:<instant>, forget, tombs, ids, blobs, and those
-- of jobs that move or go. Work: `batch` steps of each duty, and what the silent sessions hold.
-- ARGV: now, batch, '1' where overdue claims were taken back just now, plan of a loss, its last payload, then
-- id and beat of each silent session.
-- Returns rescued, then {'late', overdue claims}, or {'swept', promoted, expired, deleted, whether there is
-- more, next_due_in_s}.
local batch = tonumber(ARGV[2])
local loss = cmsgpack.unpack(ARGV[4])
local rescued = 0
for i = 6, #ARGV, 2 do
  local id = ARGV[i]
  if call('HGET', NS .. 'session:' .. id, 'beat') == ARGV[i + 1] then
    local jobs = use('closing').held_by(id)
    for _, job in ipairs(jobs) do use('decisions').carry_out(job, loss, '', ARGV[5]) end
    use('endings').write()
    use('closing').close(id)
    rescued = rescued + #jobs
  end
end

if ARGV[3] ~= '1' then
  local late = use('overdue').list(batch)
  if #late > 0 then
    ring()
    return { rescued, 'late', late }
  end
end

local function delete_old()
  local left, deleted = batch, 0
  while left > 0 do
    local bucket = call('ZRANGEBYSCORE', NS .. 'old', '-inf', now, 'LIMIT', 0, 1)[1]
    if not bucket then break end
    local key = NS .. 'old:' .. bucket
    local ns = call('LRANGE', key, 0, left - 1)
    call('LTRIM', key, left, -1)
    if call('EXISTS', key) == 0 then call('ZREM', NS .. 'old', bucket) end
    for _, n in ipairs(ns) do
      if use('burying').bury(n, true) then deleted = deleted + 1 end
    end
    left = left - math.max(1, #ns)
  end
  return deleted, left <= 0
end

local function forget()
  for _, id in ipairs(call('ZRANGEBYSCORE', NS .. 'forget', '-inf', now, 'LIMIT', 0, batch)) do
    call('ZREM', NS .. 'forget', id)
    call('HDEL', NS .. 'tombs', id)
    if call('HGET', NS .. 'ids', id) == 'tomb' then call('HDEL', NS .. 'ids', id) end
  end
  -- A blob whose job was never stored, or went without it.
  for _, place in ipairs(call('ZRANGEBYSCORE', NS .. 'blobs', '-inf', now, 'LIMIT', 0, batch)) do
    call('ZREM', NS .. 'blobs', place)
    local size, at = struct.unpack('>I4', place)
    local id, digest = sub(place, at, at + size - 1), sub(place, at + size)
    local n = call('HGET', NS .. 'ids', id)
    if not n or n == 'tomb' then
      local key = NS .. 'blob:' .. id
      for i = 0, (tonumber(call('HGET', key, digest) or 1) - 1) do call('HDEL', key, digest .. ':' .. i) end
      call('HDEL', key, digest)
    end
  end
end

local promoted = use('moving').promote(batch)
local expired = use('moving').expire_late(batch)
local deleted, has_more_old = delete_old()
use('counts').write()
forget()
ring()
local has_more = promoted == batch or expired == batch or has_more_old
return { rescued, 'swept', promoted, expired, deleted, has_more and 1 or 0, use('moving').seconds_until(use('moving').next_due_at()) }
