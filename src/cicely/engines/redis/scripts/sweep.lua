-- sweep: every duty in bounded steps, each from the head of an ordered index.
-- Keys: session:<id>, held:<id>, late, due, expiring, old, old:<instant>, forget, tombs, ids, blobs, intents,
-- late_intents, workflows, sent, schedules, ticks, and those of jobs that move or go. Work: `batch` steps of each duty, and what the silent sessions hold.
-- ARGV: now, batch, '1' where overdue claims were taken back just now, plan of a loss, its last payload, how
-- many ended jobs may stay (0 for any), then id and beat of each silent session.
-- Returns rescued, then {'late', overdue claims}, or {'swept', promoted, expired, deleted, whether there is
-- more, next_due_in_s, now, the schedules that are due, the number of the last event}.
local batch = tonumber(ARGV[2])
local loss = cmsgpack.unpack(ARGV[4])
local rescued = 0
for i = 7, #ARGV, 2 do
  local id = ARGV[i]
  if call('HGET', NS .. 'session:' .. id, 'beat') == ARGV[i + 1] then
    local jobs = use('closing').held_by(id)
    use('decisions').carry_out_all(jobs, loss, ARGV[5])
    use('closing').close(id, 'worker.lost')
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

-- How many ended jobs are more than may stay.
local function surplus()
  local most = tonumber(ARGV[6])
  if most == 0 then return 0 end
  return tonumber(call('HGET', NS .. 'meta', 'ended') or 0) - most
end

-- What is past its retention, and beyond the bound of their number those that are next to be.
local function delete_old()
  local left, deleted, too_many = batch, 0, surplus()
  while left > 0 do
    local bucket, delete_at = unpack(call('ZRANGE', NS .. 'old', 0, 0, 'WITHSCORES'))
    if not bucket then return deleted, false end
    local most = left
    if tonumber(delete_at) > now then most = math.min(left, too_many - deleted) end
    if most <= 0 then return deleted, false end
    local key = NS .. 'old:' .. bucket
    local ns = call('LRANGE', key, 0, most - 1)
    call('LTRIM', key, most, -1)
    if call('EXISTS', key) == 0 then call('ZREM', NS .. 'old', bucket) end
    for _, n in ipairs(ns) do
      if use('burying').bury(n, bucket) then deleted = deleted + 1 end
    end
    left = left - math.max(1, #ns)
  end
  return deleted, true
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

local has_intents = use('agenda').has_intents()
if has_intents then use('agenda').carry_on(batch) end
local promoted = use('moving').promote(batch)
local expired = use('moving').expire_late(batch)
local has_more_reserved = call('EXISTS', NS .. 'reserved') == 1 and use('reservations').end_some(batch)
local deleted, has_more_old = delete_old()
local deleted_together, has_more_workflows = use('workflows').delete_old(batch)
use('endings').write()
forget()
use('suspending').forget_events(batch)
local has_more_past = use('past').forget(batch)
ring()
local has_more = has_more_past or has_more_reserved or promoted == batch or expired == batch or has_more_old or has_more_workflows
  or (has_intents and use('agenda').has_intents())

-- When the next job or schedule is due, whichever comes first.
local function next_instant()
  local due_at, tick_at = use('taking').next_at(use('moving').next_due_at()), call('ZRANGE', NS .. 'ticks', 0, 0, 'WITHSCORES')[2]
  tick_at = tick_at and tonumber(tick_at)
  return due_at and tick_at and math.min(due_at, tick_at) or due_at or tick_at
end

local due = {}
for i, name in ipairs(call('ZRANGEBYSCORE', NS .. 'ticks', '-inf', now, 'LIMIT', 0, batch)) do
  due[i] = call('HGET', NS .. 'schedules', name)
end
return {
  rescued, 'swept', promoted, expired, deleted + deleted_together, has_more and 1 or 0,
  use('moving').seconds_until(next_instant()), string.format('%.17g', now), due,
  use('past').newest(),
}
