-- Lets many jobs go at once, where nothing is cancelled.
--
-- Plain successes, behind which all edges hold: what waits there is counted down and let go, per child and not
-- per edge. A parent whose edges may cancel something, or lead to many jobs, goes the way of all other ends.
-- `write` comes before anything else looks at edges.
local graph, rules, agenda, endings, counts = use('graph'), use('rules'), use('agenda'), use('endings'), use('counts')
local releases = {}
local HELD = 64
-- So many edges and children of all parents, and of one, are decided here in a call.
local MOST_LINKS, MOST_CHILDREN, MOST_OF_ONE = 1024, 512, 256
local VALUES_BEFORE_RANK = 17
local LAST_OF_ONE, WHOLE = tostring(MOST_OF_ONE), '%d'
-- How most waiting jobs go on behind their kind: without a rank, neither late nor due.
local UNRANKED = pack(0) .. '\192\192'
local HEAD_BYTES = #pack(0, 0, 0, 0, 0)

local nodes, children = {}, {}
local links, known = 0, 0
local holds = {}

local function holds_on_success(traits)
  if holds[traits] == nil then holds[traits] = rules.holds[graph.rule_of(traits) .. ' success'] or false end
  return holds[traits]
end

local function read_node(n)
  local waits, held, broken, event, pending, start = unpack(
    call('HMGET', NS .. 'w:' .. n, 'waits', 'held', 'broken', 'event', 'pending', 'start')
  )
  return {
    n = n, is_broken = waits == '1' and broken and broken ~= '0', is_held = held == '1',
    stays = waits ~= '1' or event, pending = tonumber(pending or 0), start = start, into = {},
  }
end

local function node_of(child)
  local node = nodes[child]
  if not node then
    node = read_node(child)
    nodes[child] = node
    known = known + 1
    children[#children + 1] = node
  end
  return node
end

-- Notes the edges out of a job; false where they are not that simple.
local function note(parent)
  if agenda.is_behind(parent) then return false end
  local found = call('ZRANGE', NS .. 'out:' .. parent, '0', LAST_OF_ONE, 'WITHSCORES')
  local count = #found / 2
  if count > MOST_OF_ONE or links + count > MOST_LINKS or known + count > MOST_CHILDREN then return false end
  for i = 1, #found, 2 do
    if not holds_on_success(found[i + 1] % 64) or node_of(found[i]).is_broken then return false end
  end
  for i = 1, #found, 2 do
    local into = nodes[found[i]].into
    into[#into + 1], into[#into + 2] = string.format(WHOLE, found[i + 1] + HELD), parent
  end
  links = links + count
  return true
end

-- Has the edges out of a job decided that has succeeded.
function releases.add(n, id)
  if note(n) then
    endings.ends[n] = { fate = 'success', id = id }
  else
    releases.write()
    endings.decide_behind(n, id, 'success')
  end
end

-- What a waiting job that is due becomes: its place among the ready ones, and its record there. Nothing where
-- somebody damaged that, it has a time of its own, or it is not plain.
local function due_now(record)
  local is_read, a, _, flags, _, _, _, _, queue, _, _, _, _, _, task, lane, base, _, kind = pcall(
    limit, record or '', VALUES_BEFORE_RANK
  )
  if not is_read or type(queue) ~= 'string' or type(task) ~= 'string' or type(lane) ~= 'string'
    or type(kind) ~= 'string' or type(base) ~= 'number' or type(flags) ~= 'number' or flags % 64 >= 32 or lane ~= ''
    then return nil end
  local after, _, expires_at, due_at = limit(record, 3, a)
  if expires_at or due_at then return nil end
  local rank = base + math.floor(now * 1000000)
  local packed = pack(rank)
  local at = { queue = queue, kind = kind, task = task, rank = rank, packed = packed }
  at.record = sub(record, 1, a) .. packed .. sub(record, 1 + limit(record, 1, a))
  if sub(record, a + 1, after) == UNRANKED and sub(record, 1, HEAD_BYTES) == pack(0, flags, 0, 0, 0) then
    local off = limit(record, 1, HEAD_BYTES)
    at.head, at.behind = sub(record, 1, HEAD_BYTES), sub(record, off + 1, after)
    at.size, at.before_rank = #at.behind, a - off
  end
  return at
end

-- The same of a record that is like the one before: between its flags and its rank, but for the id.
local function due_alike(like, record)
  if not record or sub(record, 1, HEAD_BYTES) ~= like.head then return nil end
  local is_read, off, id = pcall(limit, record, 1, HEAD_BYTES)
  if not is_read or type(id) ~= 'string' or sub(record, off + 1, off + like.size) ~= like.behind then return nil end
  local a = off + like.before_rank
  return sub(record, 1, a) .. like.packed .. sub(record, a + 2)
end

local function let_go_one(node)
  call('HDEL', NS .. 'w:' .. node.n, 'pending', 'held')
  local row = use('rows').of(node.n)
  if row then graph.let_go(row) end
end

-- Lets those go that nothing keeps any more. Without a field `pending` there are no undecided edges.
local function let_go(free)
  local keys, written, ready, at = {}, {}, use('ready'), nil
  for i, node in ipairs(free) do keys[i] = NS .. 'j:' .. node.n end
  for i, record in ipairs(read_all(nil, keys)) do
    local node = free[i]
    local ranked = not node.start and at and at.head and due_alike(at, record)
    if not ranked and not node.start then
      at = due_now(record)
      ranked = at and at.record
    end
    if ranked then
      call('HDEL', NS .. 'w:' .. node.n, 'waits', 'pending', 'held')
      ready.add_plain(node.n, at.queue, at.kind, at.task, at.rank)
      counts.move(at.queue, 'waiting', 'ready', 1)
      written[#written + 1], written[#written + 2] = keys[i], ranked
    else
      let_go_one(node)
    end
  end
  many('MSET', nil, written)
end

-- Decides what was noted.
function releases.write()
  local free = {}
  for _, node in ipairs(children) do
    -- Only edges that are known and undecided get a higher score.
    local decided = #node.into > 0 and call('ZADD', NS .. 'in:' .. node.n, 'XX', 'GT', 'CH', unpack(node.into)) or 0
    if decided > 0 and decided == node.pending and not node.stays and not node.is_held then
      free[#free + 1] = node
    elseif decided > 0 then
      call('HINCRBY', NS .. 'w:' .. node.n, 'pending', -decided)
    end
  end
  nodes, children, links = {}, {}, 0
  if #free > 0 then let_go(free) end
end

-- Lets those of some held jobs go that no edge keeps; their workflow was published.
function releases.publish(ns)
  local free = {}
  for _, n in ipairs(ns) do
    local node = read_node(n)
    if node.pending == 0 and not node.stays and not node.is_broken then
      free[#free + 1] = node
    else
      call('HDEL', NS .. 'w:' .. n, 'held')
    end
    if node.is_broken then agenda.push_late({ kind = 'judge', n = n, cursor = '0', cause = '', reason = '' }) end
  end
  let_go(free)
end

return releases
