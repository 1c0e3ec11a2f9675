-- enqueue: stores those of the jobs that are new, in their order, all or none.
-- Keys: ids, unique, meta, j:<n>, b:<n>, due, expiring, the ready index, tag:<tag>, blocks, count,
-- roll:<minute>, rolls, and those of a job that is not plain.
-- Work: the jobs of the call.
-- ARGV: now, how many, then for each job its card, (kind, delay_s, due_at, expires_s, expires_at, large)
-- (of one that is not plain its flow) and tail as one string; then the large bodies in their order. `large` is 1 where
-- the body is, + 32 for one that is not plain, + 64 for one that is watched.
-- Returns for each the id of the job that stands for it, false where that is the new job; or what refuses them.
local BLOCK_DIGITS = 9
local EMPTY = pack(0, 0, 0, 0, 0)

local total = tonumber(ARGV[2])

-- A single plain job, which most calls bring: the same writes without what many and special ones take.
-- Returns nothing where it is not so plain.
local function store_one(asked)
  local a, id, queue, _, _, unique, _, _, task, _, base, tags = limit(asked, 11)
  local b, kind, delay_s, due_at, expires_s, expires_at, traits = limit(asked, 6, a)
  if unique ~= '' or tags or due_at or delay_s > 0 or expires_s or expires_at or traits > 0 then return nil end
  local jobs, is_wary, is_bounded = unpack(call('HMGET', NS .. 'meta', 'jobs', 'wary', 'bounded'))
  if is_wary or is_bounded then return nil end
  if call('HEXISTS', NS .. 'ids', id) == 1 then return { id } end
  local n = string.format('%012d', (jobs or 0) + 1)
  local rank = base + math.floor(now * 1000000)
  local pair = queue .. '|' .. kind .. ':' .. task
  call('HSET', NS .. 'ids', id, n)
  call('HINCRBY', NS .. 'meta', 'jobs', 1)
  call(
    'SET', NS .. 'j:' .. n,
    EMPTY .. sub(asked, 1, a) .. pack(kind, rank, nil, nil, now, 0, nil, '') .. sub(asked, b + 1)
  )
  call('ZADD', NS .. 'ready:' .. pair .. '|', rank, n)
  call('ZADD', NS .. 'work', 0, pair)
  call('HINCRBY', NS .. 'count', queue .. '|ready', 1)
  local minute = math.floor(now / 60)
  if call('HINCRBY', NS .. 'roll:' .. minute, '0|-1|' .. queue .. '|' .. task, 1) == 1 then
    call('ZADD', NS .. 'rolls', minute, minute)
  end
  local block = sub(n, 1, BLOCK_DIGITS)
  if call('HINCRBY', NS .. 'block_jobs', block, 1) == 1 then call('ZADD', NS .. 'blocks', 0, block) end
  return { false }
end

local reply = total == 1 and store_one(ARGV[3])
if reply then
  ring()
  return reply
end

local ids = use('storing').ids(2)
local refusal = use('storing').refusal(2, ids)
if refusal then return refusal end
reply = use('storing').store(2, ids)
ring()
return reply
