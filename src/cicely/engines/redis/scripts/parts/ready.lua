-- The ready index. `ready:<pair>|` holds the plain ready jobs of a queue and class (kind and task), by rank and
-- number; `work` names the pairs of queue and class that have any. Others stand in streams (see the part `gates`).
-- Blocked jobs are in none of these.
local ready, arriving, left = {}, {}, {}
local latest

local function arrivals_of(queue, kind, task)
  -- Jobs that come together are mostly alike.
  if latest and latest.queue == queue and latest.kind == kind and latest.task == task then return latest end
  local pair = queue .. '|' .. kind .. ':' .. task
  arriving[pair] = arriving[pair] or { queue = queue, kind = kind, task = task }
  latest = arriving[pair]
  return latest
end

function ready.add_plain(n, queue, kind, task, rank)
  local arrivals = arrivals_of(queue, kind, task)
  local size = #arrivals
  arrivals[size + 1], arrivals[size + 2] = text_of(rank), n
end

function ready.add(row)
  if row.flags % 64 >= 32 then
    use('gates').add(row)
  else
    ready.add_plain(row.n, row.queue, row.kind, row.task, row.rank)
  end
end

function ready.remove(row)
  if row.flags % 64 >= 32 then
    use('gates').remove(row)
    return
  end
  local pair = row.queue .. '|' .. row.kind .. ':' .. row.task
  call('ZREM', NS .. 'ready:' .. pair .. '|', row.n)
  left[pair] = true
end

-- Takes the first plain jobs of a pair, which have been read.
function ready.cut(pair, jobs)
  call('ZREMRANGEBYRANK', NS .. 'ready:' .. pair .. '|', 0, jobs - 1)
  left[pair] = true
end

function ready.write()
  for pair, arrivals in pairs(arriving) do
    many('ZADD', NS .. 'ready:' .. pair .. '|', arrivals)
    call('ZADD', NS .. 'work', 0, pair)
  end
  for pair in pairs(left) do
    if call('EXISTS', NS .. 'ready:' .. pair .. '|') == 0 then call('ZREM', NS .. 'work', pair) end
  end
  arriving, left, latest = {}, {}, nil
  -- The order of these: gates are made as valves stand, streams put where clocks say.
  if made.valves then made.valves.write() end
  if made.gates then made.gates.write() end
  if made.lanes then made.lanes.write() end
end

return ready
