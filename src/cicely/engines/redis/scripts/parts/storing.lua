-- Stores those of some jobs that are new, in their order, all or none.
local BLOCK_DIGITS = 9
local storing = {}
local WAITING, NOBODY = 'waiting', '\160'
local QUEUE, BREAKER = 'queue%3A', 'breaker%3A'
-- Heads of records, by their flags.
local heads = {}

-- What is said of jobs beside them, where anything is.
local linking
local total, body_at, replies, next_n
local taken, holders = {}, {}
local named, records, due, expiring, tagged, blocks, lanes_of = {}, {}, {}, {}, {}, {}, {}
local is_wary, has_gated
local last_queue, last_lane
local enqueued, counted, counted_queue, counted_task = {}, nil, nil, nil

-- Notes the lanes of queues.
local function note_lane(queue, lane)
  if queue == last_queue and lane == last_lane then return end
  last_queue, last_lane = queue, lane
  lanes_of[queue] = lanes_of[queue] or {}
  lanes_of[queue][lane] = true
end

local function count(queue, task)
  if queue ~= counted_queue or task ~= counted_task then
    counted_queue, counted_task, counted = queue, task, queue .. '|' .. task
  end
  enqueued[counted] = (enqueued[counted] or 0) + 1
end

local function head_of(flags)
  local head = heads[flags]
  if not head then
    head = pack(0, flags, 0, 0, 0)
    heads[flags] = head
  end
  return head
end

-- What a record has between its card and its tail, of a plain one. Those of a call are mostly alike.
local last_kind, last_rank, last_expires_at, last_due_at, last_body

local function body_of(kind, rank, expires_at, due_at)
  if rank ~= last_rank or kind ~= last_kind or expires_at ~= last_expires_at or due_at ~= last_due_at then
    last_kind, last_rank, last_expires_at, last_due_at = kind, rank, expires_at, due_at
    last_body = pack(kind, rank, expires_at, due_at, now, 0, nil, '')
  end
  return last_body
end

local function store(
  i, asked, a, b, traits, id, queue, unique, task, lane, base, tags, kind, delay_s, due_at, expires_s, expires_at
)
  local is_gated, flow, beside = traits % 64 >= 32, nil, ''
  if is_gated then
    local before = b
    b, flow = limit(asked, 1, b)
    -- Whom it shuns comes last: nobody.
    flow, beside, has_gated = flow or nil, sub(asked, before + 1, b) .. NOBODY, true
  end
  note_lane(queue, lane)
  count(queue, task)
  next_n = next_n + 1
  local n = string.format('%012d', next_n)
  local flags, is_waiting = 0, false
  if linking then
    local has_start = delay_s > 0 or due_at or expires_s or expires_at
    flags, is_waiting = linking.note(i, n, id, has_start and pack(delay_s, due_at, expires_s, expires_at) or nil)
  end
  due_at = due_at or now + delay_s
  if expires_s then expires_at = now + expires_s end
  local is_due = due_at <= now
  local rank = base + math.floor((is_due and now or due_at) * 1000000)
  if is_waiting then
    -- Its place in line comes with its release.
    due_at, expires_at, rank = nil, nil, 0
    use('counts').add(queue, WAITING, 1)
  elseif is_due then
    if is_gated then
      local workflow = linking and linking.workflow_of(i)
      local draws = workflow and use('gates').draws(workflow, queue, kind, task, lane, flow)
      if draws then beside = sub(beside, 1, -2) .. pack(draws) end
      use('gates').arrive(n, rank, queue, kind, task, lane, flow, draws)
    else
      use('ready').add_plain(n, queue, kind, task, rank)
    end
    use('counts').add(queue, 'ready', 1)
    due_at = nil
  else
    due[#due + 1], due[#due + 2] = due_at, n
    use('counts').add(queue, 'scheduled', 1)
  end
  if expires_at then expiring[#expiring + 1], expiring[#expiring + 2] = expires_at, n end
  for _, tag in ipairs(tags or {}) do tagged[#tagged + 1] = { tag, n } end
  named[#named + 1], named[#named + 2] = id, n
  if unique ~= '' then holders[unique] = id end
  if traits % 2 == 1 then
    records[#records + 1], records[#records + 2] = NS .. 'b:' .. n, ARGV[body_at]
  end
  records[#records + 1] = NS .. 'j:' .. n
  records[#records + 1] = head_of(flags + traits) .. sub(asked, 1, a) .. body_of(kind, rank, expires_at, due_at)
    .. beside .. sub(asked, b + 1)
  local block = sub(n, 1, BLOCK_DIGITS)
  blocks[block] = (blocks[block] or 0) + 1
end

local function write()
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
  for name, jobs in pairs(enqueued) do
    use('tally').add(math.floor(now / 60), use('tally').ENQUEUED .. '|-1|' .. name, jobs)
  end
  if linking then linking.write() end
  if has_gated or is_wary then
    for queue, names in pairs(lanes_of) do use('lanes').know(queue, names) end
  end
  use('ready').write()
  use('counts').write()
end

-- The ids of the jobs that begin at ARGV[at + 1], after how many they are.
function storing.ids(at)
  local ids = {}
  for i = 1, tonumber(ARGV[at]) do
    local _, id = limit(ARGV[at + i], 1)
    ids[i] = id
  end
  return ids
end

-- The keys whose backlog a job counts for: that of its queue and those of its limits.
local function backlog_keys(asked)
  local a, _, queue = limit(asked, 11)
  local b, _, _, _, _, _, traits = limit(asked, 6, a)
  local keys = { [QUEUE .. queue] = true }
  local flow = traits % 64 >= 32 and select(2, limit(asked, 1, b))
  for key in string.gmatch(flow and flow[2] or '', '[^,]+') do
    if sub(key, 1, #BREAKER) ~= BREAKER then keys[key] = true end
  end
  return keys
end

-- How many jobs of a key are ready.
local function ready_of(key)
  local queued = tonumber(call('HGET', NS .. 'queued', key) or 0)
  if sub(key, 1, #QUEUE) ~= QUEUE then return queued end
  return tonumber(call('HGET', NS .. 'count', sub(key, #QUEUE + 1) .. '|ready') or 0)
end

-- What refuses the jobs that are not known, where one of their keys has too many ready ones: the key, how many
-- these are and may be, and how many are refused. Nothing while no limit bounds that.
function storing.refusal(at, ids)
  if not call('HGET', NS .. 'meta', 'bounded') then return nil end
  local known, wanted, given, keys = read_all(NS .. 'ids', ids), {}, {}, {}
  for i = 1, #ids do
    local asked = ARGV[at + i]
    local _, _, _, _, _, unique = limit(asked, 5)
    local is_held = unique ~= '' and (keys[unique] or call('HEXISTS', NS .. 'unique', unique) == 1)
    if not known[i] and not given[ids[i]] and not is_held then
      given[ids[i]], keys[unique] = true, unique ~= ''
      for key in pairs(backlog_keys(asked)) do wanted[key] = (wanted[key] or 0) + 1 end
    end
  end
  for key, jobs in pairs(wanted) do
    local kept = call('HGET', NS .. 'set:limit', key)
    local most = kept and cmsgpack.unpack(kept).backlog
    local count = most and ready_of(key)
    if most and count + jobs > most then return { 0, key, count, most, jobs } end
  end
end

-- Returns for each job the id of the one that stands for it, false where that is the new job.
function storing.store(at, ids, said)
  linking = said
  total, body_at, replies = #ids, at + 1 + #ids, {}
  local known = read_all(NS .. 'ids', ids)
  next_n, is_wary = unpack(call('HMGET', NS .. 'meta', 'jobs', 'wary'))
  next_n = tonumber(next_n or 0)
  local first_n = next_n
  for i = 1, total do
    local asked = ARGV[at + i]
    local a, id, queue, _, _, unique, _, _, task, lane, base, tags = limit(asked, 11)
    local b, kind, delay_s, due_at, expires_s, expires_at, traits = limit(asked, 6, a)
    replies[i] = id
    if not known[i] and not taken[id] then
      local holder = unique ~= '' and (holders[unique] or call('HGET', NS .. 'unique', unique))
      if holder then
        replies[i] = holder
      else
        taken[id] = true
        replies[i] = false
        store(
          i, asked, a, b, traits, id, queue, unique, task, lane, base, tags, kind, delay_s, due_at, expires_s, expires_at
        )
      end
    end
    body_at = body_at + traits % 2
  end
  if next_n > first_n then write() end
  return replies
end

return storing
