-- Reads the ready index for one claim: of each queue the classes that fit, their lanes by the rank of their
-- heads, and the heads merged by rank and number. Nothing is read that cannot be taken.
local abilities = use('abilities')
local streams = {}
local LANES = 32
local MOST_READ = 512

-- A stream: where it lies, the jobs that were read of it, which is next, and how many came before these.
local function stream_of(pair, lane, score)
  return {
    key = NS .. 'ready:' .. pair.name .. '|' .. lane, pair = pair, lane = lane, score = tonumber(score), n = '',
    items = {}, at = 1, before = 0, size = pair.size, taken = 0,
  }
end

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

function streams.step(stream)
  stream.taken = stream.taken + 1
  stream.at = stream.at + 2
  look(stream)
end

-- The next page of a pair's lanes; a pair with more of them keeps a mark at the last head that it knows.
local function open_lanes(pair)
  local page = call('ZRANGE', NS .. 'lanes:' .. pair.name, pair.lanes, pair.lanes + LANES - 1, 'WITHSCORES')
  for i = 1, #page, 2 do pair.streams[#pair.streams + 1] = stream_of(pair, page[i], page[i + 1]) end
  pair.lanes = pair.lanes + LANES
  pair.frontier = #page == 2 * LANES and tonumber(page[#page]) or nil
end

local function pairs_of(taking, queue, size)
  local known = taking.queues[queue]
  if known then return known end
  known = {}
  -- '}' follows '|': the range of all names that begin with the queue.
  for _, name in ipairs(call('ZRANGEBYLEX', NS .. 'work', '[' .. queue .. '|', '(' .. queue .. '}')) do
    local kind, task = string.match(name, '|(%a+):(.*)$')
    known[#known + 1] = {
      name = name, queue = queue, kind = kind, task = task, lanes = 0, size = size, streams = {},
    }
  end
  taking.queues[queue] = known
  return known
end

-- The pairs of a queue from which an ask may take.
function streams.fitting(taking, queue, ask)
  local fitting = {}
  for _, pair in ipairs(pairs_of(taking, queue, ask.size)) do
    if ask.kinds[pair.kind] and abilities.runs(taking.session, pair.task) then
      if pair.lanes == 0 then open_lanes(pair) end
      fitting[#fitting + 1] = pair
    end
  end
  return fitting
end

function streams.is_before(stream, other)
  return stream.score < other.score or (stream.score == other.score and stream.n < other.n)
end

-- The stream whose job is next, and the one after it. A stream that was not read yet stands before its
-- equals, and is read before it is chosen.
function streams.best(candidates)
  local best, rival
  for _, pair in ipairs(candidates) do
    for _, stream in ipairs(pair.streams) do
      if stream.score and (not best or streams.is_before(stream, best)) then
        best, rival = stream, best
      elseif stream.score and (not rival or streams.is_before(stream, rival)) then
        rival = stream
      end
    end
    if pair.frontier and (not best or pair.frontier <= best.score) then
      open_lanes(pair)
      return streams.best(candidates)
    end
  end
  if best and best.n == '' then
    look(best)
    return streams.best(candidates)
  end
  return best, rival
end

return streams
