-- Reads the plain ready jobs for one claim: of each queue the classes that fit, merged by rank and number. Nothing is
-- read that cannot be taken.
local abilities = use('abilities')
local streams = {}
local MOST_READ = 512

-- Reads the next jobs of a stream: without their ranks, or each with its own behind it.
local function read(stream, size)
  local first, last = stream.before, stream.before + size - 1
  if stream.width == 2 then
    stream.items = call('ZRANGE', stream.key, first, last, 'WITHSCORES')
  else
    stream.items = call('ZRANGE', stream.key, first, last)
  end
end

-- Notes which job of a stream is next; none at the end of it.
local function look(stream)
  local n = stream.items[stream.at]
  if not n then
    stream.before = stream.before + #stream.items / stream.width
    read(stream, stream.size)
    stream.at, stream.size = 1, math.min(2 * stream.size, MOST_READ)
    n = stream.items[1]
  end
  stream.n = n
end

-- A stream: the jobs that were read of it, which is next, and how many came before these.
local function stream_of(pair, size, width)
  local stream = {
    key = NS .. 'ready:' .. pair.name .. '|', pair = pair, items = {}, at = 1, before = 0, size = size, width = width,
    taken = 0,
  }
  look(stream)
  return stream
end

function streams.step(stream)
  stream.taken = stream.taken + 1
  stream.at = stream.at + stream.width
  look(stream)
end

-- The rank of the next job. Of a queue's only stream nobody asks for it.
function streams.rank(stream)
  if stream.width == 1 then
    stream.width, stream.at = 2, 2 * stream.at - 1
    read(stream, #stream.items)
  end
  return tonumber(stream.items[stream.at + 1])
end

local function pairs_of(taking, queue)
  local known = taking.queues[queue]
  if known then return known end
  known = {}
  -- '}' follows '|': the range of all names that begin with the queue.
  for _, name in ipairs(call('ZRANGEBYLEX', NS .. 'work', '[' .. queue .. '|', '(' .. queue .. '}')) do
    local kind, task = string.match(name, '|(%a+):(.*)$')
    known[#known + 1] = { name = name, queue = queue, kind = kind, task = task }
  end
  taking.queues[queue] = known
  return known
end

-- The plain streams of a queue from which an ask may take.
function streams.plain(taking, queue, ask)
  local fitting, pairs_there = {}, pairs_of(taking, queue)
  local width = #pairs_there > 1 and 2 or 1
  for _, pair in ipairs(pairs_there) do
    if ask.kinds[pair.kind] and abilities.runs(taking.session, pair.task) then
      pair.stream = pair.stream or stream_of(pair, ask.size, width)
      fitting[#fitting + 1] = pair.stream
    end
  end
  return fitting
end

function streams.is_before(stream, other)
  local rank, other_rank = streams.rank(stream), streams.rank(other)
  return rank < other_rank or (rank == other_rank and stream.n < other.n)
end

-- The stream whose job is next, and the one after it.
function streams.best(candidates)
  local best, rival
  for _, stream in ipairs(candidates) do
    if stream.n and (not best or streams.is_before(stream, best)) then
      best, rival = stream, best
    elseif stream.n and (not rival or streams.is_before(stream, rival)) then
      rival = stream
    end
  end
  return best, rival
end

return streams
