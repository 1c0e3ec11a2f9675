-- The counts of the minute, gathered over one call and written once. The same rules as core/rollup.py.
--
-- `roll:<minute>`: how many by word, bucket (-1 for those that did not run), queue and task; and behind 's' how long
-- these ran, in microseconds. `rolls` lists the minutes. Words are said by their codes.
local tally = { ENQUEUED = 0, SUCCEEDED = 1, LONG_RUN_US = 1000000 }
local LAST_BUCKET, LARGEST_MS = 61, 1073741824
local minute = math.floor(now / 60)
local cells, sums, latest = {}, {}, nil

local function bucket_of(us)
  local ms = math.floor(us / 1000)
  if ms <= 0 then return 0 end
  if ms >= LARGEST_MS then return LAST_BUCKET end
  local _, exponent = math.frexp(ms)
  local k = exponent - 1
  return 1 + 2 * k + (2 * ms >= 3 * 2 ^ k and 1 or 0)
end

function tally.add(at, field, count)
  local counted = cells[at]
  if not counted then
    counted = {}
    cells[at] = counted
  end
  counted[field] = (counted[field] or 0) + count
end

-- Counts a job that did not run.
function tally.count(code, queue, task)
  tally.add(minute, code .. '|-1|' .. queue .. '|' .. task, 1)
end

-- Counts jobs that ran since then; returns for how many microseconds. Those of a call mostly began together.
function tally.ran(code, queue, task, started_at, jobs)
  local like = latest
  if not like or like.started_at ~= started_at or like.task ~= task or like.queue ~= queue or like.code ~= code then
    local us = math.max(0, math.floor((now - started_at) * 1000000 + 0.5))
    local name = '|' .. queue .. '|' .. task
    like = { code = code, queue = queue, task = task, started_at = started_at, us = us, count = 0 }
    like.field, like.total = code .. '|' .. bucket_of(us) .. name, 's' .. code .. name
    latest = like
    sums[#sums + 1] = like
  end
  like.count = like.count + (jobs or 1)
  return like.us
end

function tally.write()
  local totals = {}
  for _, like in ipairs(sums) do
    tally.add(minute, like.field, like.count)
    totals[like.total] = (totals[like.total] or 0) + like.count * like.us
  end
  for at, counted in pairs(cells) do
    local key, is_new = NS .. 'roll:' .. at, false
    for field, count in pairs(counted) do
      if call('HINCRBY', key, field, count) == count then is_new = true end
    end
    if is_new then call('ZADD', NS .. 'rolls', at, at) end
  end
  for field, us in pairs(totals) do
    if us > 0 then call('HINCRBY', NS .. 'roll:' .. minute, field, string.format('%.0f', us)) end
  end
  cells, sums, latest = {}, {}, nil
end

return tally
