-- enqueue: stores those of the jobs that are new, in their order, all or none.
-- Keys: ids, unique, meta, j:<n>, b:<n>, due, expiring, the ready index, tag:<tag>, blocks, count.
-- Work: the jobs of the call.
-- ARGV: now, how many, then for each job its card, (kind, delay_s, due_at, expires_s, expires_at, large)
-- and tail as one string; then the large bodies in their order.
-- Returns for each the id of the job that stands for it, false where that is the new job.
local BLOCK_DIGITS = 9
local EMPTY, EMPTY_LARGE = pack(0, 0, 0, 0, 0), pack(0, 1, 0, 0, 0)

local total = tonumber(ARGV[2])

-- A single plain job, which most calls bring: the same writes without what many and special ones take.
-- Returns nothing where it is not so plain.
local function store_one(asked)
  local a, id, queue, _, _, unique, _, _, task, lane, base, tags = limit(asked, 11)
  local b, kind, delay_s, due_at, expires_s, expires_at, large = limit(asked, 6, a)
  if unique ~= '' or tags or due_at or delay_s > 0 or expires_s or expires_at or large == 1 then return nil end
  if call('HEXISTS', NS .. 'ids', id) == 1 then return { id } end
  local n = string.format('%012d', (call('HGET', NS .. 'meta', 'jobs') or 0) + 1)
  local rank = base + math.floor(now * 1000000)
  local pair = queue .. '|' .. kind .. ':' .. task
  call('HSET', NS .. 'ids', id, n)
  call('HINCRBY', NS .. 'meta', 'jobs', 1)
  call(
    'SET', NS .. 'j:' .. n,
    EMPTY .. sub(asked, 1, a) .. pack(kind, rank, nil, nil, now, 0, nil, '') .. sub(asked, b + 1)
  )
  call('ZADD', NS .. 'ready:' .. pair .. '|' .. lane, rank, n)
  call('ZADD', NS .. 'lanes:' .. pair, 'LT', rank, lane)
  call('ZADD', NS .. 'work', 0, pair)
  call('HINCRBY', NS .. 'count', queue .. '|ready', 1)
  local block = sub(n, 1, BLOCK_DIGITS)
  if call('HINCRBY', NS .. 'block_jobs', block, 1) == 1 then call('ZADD', NS .. 'blocks', 0, block) end
  return { false }
end

local reply = total == 1 and store_one(ARGV[3])
if reply then
  ring()
  return reply
end

local counts, ready = use('counts'), use('ready')
local ids = {}
for i = 1, total do
  local _, id = limit(ARGV[2 + i], 1)
  ids[i] = id
end

local known = read_all(NS .. 'ids', ids)
local next_n = tonumber(call('HGET', NS .. 'meta', 'jobs') or 0)
local first_n, body_at = next_n, 2 + total
local taken, holders, replies = {}, {}, {}
local named, records, due, expiring, tagged, blocks = {}, {}, {}, {}, {}, {}

local function store(asked, a, large, id, queue, unique, task, lane, base, tags)
  local b, kind, delay_s, due_at, expires_s, expires_at = limit(asked, 6, a)
  next_n = next_n + 1
  local n = string.format('%012d', next_n)
  due_at = due_at or now + delay_s
  if expires_s then expires_at = now + expires_s end
  local is_due = due_at <= now
  local rank = base + math.floor((is_due and now or due_at) * 1000000)
  if is_due then
    ready.add(n, queue, kind, task, lane, rank)
    counts.add(queue, 'ready', 1)
    due_at = nil
  else
    due[#due + 1], due[#due + 2] = due_at, n
    counts.add(queue, 'scheduled', 1)
  end
  if expires_at then expiring[#expiring + 1], expiring[#expiring + 2] = expires_at, n end
  for _, tag in ipairs(tags or {}) do tagged[#tagged + 1] = { tag, n } end
  named[#named + 1], named[#named + 2] = id, n
  if unique ~= '' then holders[unique] = id end
  if large == 1 then
    records[#records + 1], records[#records + 2] = NS .. 'b:' .. n, ARGV[body_at]
  end
  records[#records + 1] = NS .. 'j:' .. n
  records[#records + 1] = (large == 1 and EMPTY_LARGE or EMPTY) .. sub(asked, 1, a)
    .. pack(kind, rank, expires_at, due_at, now, 0, nil, '') .. sub(asked, b + 1)
  local block = sub(n, 1, BLOCK_DIGITS)
  blocks[block] = (blocks[block] or 0) + 1
end

for i = 1, total do
  local asked = ARGV[2 + i]
  local a, id, queue, _, _, unique, _, _, task, lane, base, tags = limit(asked, 11)
  local _, _, _, _, _, _, large = limit(asked, 6, a)
  body_at = body_at + large
  replies[i] = id
  if not known[i] and not taken[id] then
    local holder = unique ~= '' and (holders[unique] or call('HGET', NS .. 'unique', unique))
    if holder then
      replies[i] = holder
    else
      taken[id] = true
      replies[i] = false
      store(asked, a, large, id, queue, unique, task, lane, base, tags)
    end
  end
end
if next_n == first_n then return replies end

-- The first write: a full server refuses the whole call here, or nothing of it.
many('HSET', NS .. 'ids', named)
call('HSET', NS .. 'meta', 'jobs', next_n)
many('MSET', nil, records)
for unique, id in pairs(holders) do call('HSET', NS .. 'unique', unique, id) end
many('ZADD', NS .. 'due', due)
many('ZADD', NS .. 'expiring', expiring)
for _, at in ipairs(tagged) do call('ZADD', NS .. 'tag:' .. at[1], at[2], at[2]) end
for block, jobs in pairs(blocks) do
  if call('HINCRBY', NS .. 'block_jobs', block, jobs) == jobs then call('ZADD', NS .. 'blocks', 0, block) end
end
ready.write()
counts.write()
ring()
return replies
