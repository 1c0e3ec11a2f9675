-- Begins every script. KEYS[1] is the namespace in braces: the hash tag of all keys, so that they share
-- one slot of a cluster. ARGV[1] is the instant, '' for the server's own clock (tests hand in another).
-- The other parts are modules, made when they are first used: a call pays for what it needs.
local NS = KEYS[1] .. ':'
local call = redis.call
local pack, limit = cmsgpack.pack, cmsgpack.unpack_limit
local sub = string.sub

local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] + time[2] / 1000000
end

local parts, made = {}, {}

local function use(name)
  local part = made[name]
  if not part then
    if not parts[name] then parts.rare() end
    part = parts[name]()
    made[name] = part
  end
  return part
end

-- Writing a number in a command costs the server a hundred times what a text does; many are said again and again.
local texts = {}

local function text_of(number)
  local text = texts[number]
  if not text then
    text = string.format('%.17g', number)
    texts[number] = text
  end
  return text
end

-- Lua's stack bounds the arguments of one call. Even, because many come in pairs.
local MOST = 4000

-- Runs a command over all of `args`; those of MSET have no key before them.
local function many(command, key, args)
  for from = 1, #args, MOST do
    local last = math.min(from + MOST - 1, #args)
    if key then
      call(command, key, unpack(args, from, last))
    else
      call(command, unpack(args, from, last))
    end
  end
end

-- The values of some fields of a hash (HMGET) or, without a key, of some keys (MGET).
local function read_all(key, names)
  local values = {}
  for from = 1, #names, MOST do
    local last = math.min(from + MOST - 1, #names)
    local page = key and call('HMGET', key, unpack(names, from, last)) or call('MGET', unpack(names, from, last))
    if #names <= MOST then return page end
    for i = 1, #page do values[from + i - 1] = page[i] end
  end
  return values
end

-- The last step of every script that may have made work or ended jobs: wakes those who wait, if any do.
-- `claimer` has just looked for work and is passed over; `took` says whether it found any.
local function ring(claimer, took)
  if made.rings then made.rings.answer_calls() end
  if call('EXISTS', NS .. 'await', NS .. 'armed') == 0 then return end
  local ended = made.endings and made.endings.ended_ids
  if ended and #ended > 0 and call('EXISTS', NS .. 'await') == 1 then use('rings').results(ended) end
  if call('EXISTS', NS .. 'armed') == 1 then use('rings').idle(claimer, took) end
end
