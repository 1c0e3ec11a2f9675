-- The ready index. A stream holds the ready jobs of one queue, class (kind and task) and lane, by rank
-- and number; `lanes:<pair>` orders the lanes of a queue and class by their heads; `work` names the
-- pairs of queue and class that have ready jobs. Blocked jobs are in none of these.
local ready, arriving, left = {}, {}, {}
local latest

local function arrivals_of(queue, kind, task, lane, rank)
  -- Jobs that come together are mostly alike.
  if latest and latest.queue == queue and latest.kind == kind and latest.task == task and latest.lane == lane then
    return latest
  end
  local pair = queue .. '|' .. kind .. ':' .. task
  local stream = pair .. '|' .. lane
  if not arriving[stream] then
    arriving[stream] = { queue = queue, kind = kind, task = task, lane = lane, pair = pair, least = rank }
  end
  latest = arriving[stream]
  return latest
end

function ready.add(n, queue, kind, task, lane, rank)
  local arrivals = arrivals_of(queue, kind, task, lane, rank)
  if rank < arrivals.least then arrivals.least = rank end
  local size = #arrivals
  arrivals[size + 1], arrivals[size + 2] = rank, n
end

function ready.remove(n, queue, kind, task, lane)
  local pair = queue .. '|' .. kind .. ':' .. task
  call('ZREM', NS .. 'ready:' .. pair .. '|' .. lane, n)
  left[pair .. '|' .. lane] = { pair, lane }
end

-- Takes the first jobs of a stream, which have been read.
function ready.cut(pair, lane, jobs)
  call('ZREMRANGEBYRANK', NS .. 'ready:' .. pair .. '|' .. lane, 0, jobs - 1)
  left[pair .. '|' .. lane] = { pair, lane }
end

local function write_arrivals(stream, arrivals)
  many('ZADD', NS .. 'ready:' .. stream, arrivals)
  call('ZADD', NS .. 'lanes:' .. arrivals.pair, 'LT', arrivals.least, arrivals.lane)
  call('ZADD', NS .. 'work', 0, arrivals.pair)
end

-- Brings lanes and pairs in line with a stream that was taken from.
local function write_left(stream, pair, lane)
  local head = call('ZRANGE', NS .. 'ready:' .. stream, 0, 0, 'WITHSCORES')
  if head[1] then
    call('ZADD', NS .. 'lanes:' .. pair, head[2], lane)
    return
  end
  call('ZREM', NS .. 'lanes:' .. pair, lane)
  if call('EXISTS', NS .. 'lanes:' .. pair) == 0 then call('ZREM', NS .. 'work', pair) end
end

function ready.write()
  for stream, arrivals in pairs(arriving) do write_arrivals(stream, arrivals) end
  for stream, at in pairs(left) do write_left(stream, at[1], at[2]) end
  arriving, left, latest = {}, {}, nil
end

return ready
