-- Reads the plain ready jobs for one claim: of each queue the classes that fit, merged by rank and number. Nothing is
-- read that cannot be taken.
local abilities = use('abilities')
local streams = {}
local MOST_READ = 512

local function read_on(stream)
  stream.before = stream.before + #stream.items / 2
  stream.items = call('ZRANGE', stream.key, stream.before, stream.before + stream.size - 1, 'WITHSCORES')
  stream.at = 1
  stream.size = math.min(2 * stream.size, MOST_READ)
end

-- Notes which job of a stream is next, and its rank; neither at the end of it.
local function look(stream)
  if stream.at > #stream.items then read_on(stream) end
  stream.n = stream.items[stream.at]
  stream.score = stream.n and tonumber(stream.items[stream.at + 1])
end

-- A stream: the jobs that were read of it, which is next, and how many came before these.
local function stream_of(pair, size)
  local stream = {
    key = NS .. 'ready:' .. pair.name .. '|', pair = pair, items = {}, at = 1, before = 0, size = size, taken = 0,
  }
  look(stream)
  return stream
end

function streams.step(stream)
  stream.taken = stream.taken + 1
  stream.at = stream.at + 2
  look(stream)
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
  local fitting = {}
  for _, pair in ipairs(pairs_of(taking, queue)) do
    if ask.kinds[pair.kind] and abilities.runs(taking.session, pair.task) then
      pair.stream = pair.stream or stream_of(pair, ask.size)
      fitting[#fitting + 1] = pair.stream
    end
  end
  return fitting
end

function streams.is_before(stream, other)
  return stream.score < other.score or (stream.score == other.score and stream.n < other.n)
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
