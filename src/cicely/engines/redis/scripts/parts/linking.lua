-- What is said of new jobs beside them: labels, by their places, and edges.
local graph, rows = use('graph'), use('rows')
local linking = {}
-- Who waits and who is waited for, by their ids; the numbers of those stored, by their ids, and their nodes, in
-- their order and by their numbers.
local labels, waits, leads, numbers, nodes, node_of = {}, {}, {}, {}, {}, {}

-- Labels are place, workflow, group and whether it is held, in turns; edges are parent, child and traits.
function linking.begin(said, edges)
  for i = 1, #said, 4 do labels[said[i]] = { said[i + 1], said[i + 2], said[i + 3] } end
  for i = 1, #edges, 3 do
    leads[edges[i]] = true
    waits[edges[i + 1]] = true
  end
end

-- Notes the node of a job that is stored, if it has one; returns its flags, and whether it waits.
function linking.note(i, n, id, start)
  local label = labels[i]
  local is_held = label and label[3] and not use('workflows').is_published(label[1])
  local flags = leads[id] and rows.CHILDREN or 0
  numbers[id] = n
  if not label and not waits[id] and not leads[id] then return 0, false end
  if not label and not waits[id] and not start then return flags, false end
  -- What it asked for of its start counts anew where it comes back before its first run.
  local node = { start = start }
  if waits[id] or is_held then node.waits = '1' end
  if is_held then node.held = '1' end
  if label and label[1] ~= '' then node.workflow = label[1] end
  if label and label[2] ~= '' then node.group = label[2] end
  nodes[#nodes + 1] = n
  node_of[n] = node
  return rows.NODE + flags + (node.workflow and rows.MEMBER or 0), node.waits
end

local function list(lists, name, n)
  local members = lists[name]
  if not members then
    members = {}
    lists[name] = members
  end
  members[#members + 1] = n
  members[#members + 1] = n
end

local function write_lists(prefix, lists)
  for name, members in pairs(lists) do many('ZADD', NS .. prefix .. name, members) end
end

function linking.write()
  local of, groups, held = {}, {}, {}
  for _, n in ipairs(nodes) do
    local args, fields = {}, node_of[n]
    for name, value in pairs(fields) do args[#args + 1], args[#args + 2] = name, value end
    if #args > 0 then call('HSET', NS .. 'w:' .. n, unpack(args)) end
    if fields.workflow then list(of, fields.workflow, n) end
    if fields.group then list(groups, fields.group, n) end
    if fields.held then list(held, fields.workflow or '', n) end
  end
  write_lists('of:', of)
  write_lists('grp:', groups)
  write_lists('hold:', held)
  for workflow in pairs(of) do use('workflows').note(workflow) end
end

-- An edge out of a job that was stored just now is new and undecided: such edges are gathered by their children.
local gathered, is_linked = {}, {}

local function gather(parent, child, score)
  if is_linked[parent .. child] then return end
  is_linked[parent .. child] = true
  local into = gathered[child]
  if not into then
    into = {}
    gathered[child] = into
  end
  into[#into + 1], into[#into + 2] = score, parent
  call('ZADD', NS .. 'out:' .. parent, score, child)
end

local function write_gathered()
  for child, into in pairs(gathered) do
    many('ZADD', NS .. 'in:' .. child, into)
    call('HINCRBY', NS .. 'w:' .. child, 'pending', #into / 2)
    call('HINCRBY', NS .. 'w:' .. child, 'joins', #into / 2)
  end
end

-- Whether a job waits, as it stood before this call or is stored by it.
local waiting = {}

local function is_waiting(n)
  if waiting[n] == nil then
    local node = node_of[n]
    waiting[n] = (node and node.waits or call('HGET', NS .. 'w:' .. n, 'waits')) == '1'
  end
  return waiting[n]
end

-- The number of a job that edges name; 'tomb' for one that is gone.
local known = {}

local function number_of(id)
  if not known[id] then known[id] = numbers[id] or call('HGET', NS .. 'ids', id) end
  return known[id]
end

-- Keeps the edges of a call, and lets those of its jobs go, or cancels them, whose edges say so.
function linking.link(ids, replies, edges)
  if #edges == 0 then return end
  local stands_for, is_judged = {}, {}
  for i, id in ipairs(ids) do stands_for[id] = stands_for[id] or replies[i] or id end
  local number = call('HINCRBY', NS .. 'meta', 'edges', #edges / 3) - #edges / 3
  for i = 1, #edges, 3 do
    number = number + 1
    local parent_id, child_id = stands_for[edges[i]] or edges[i], stands_for[edges[i + 1]] or edges[i + 1]
    local parent, child = number_of(parent_id), number_of(child_id)
    if parent == 'tomb' then parent = graph.number_of_gone(parent_id) end
    if child ~= 'tomb' and is_waiting(child) then
      if numbers[parent_id] then
        gather(parent, child, number * 256 + edges[i + 2])
      else
        graph.link(parent, child, edges[i + 2], number)
        is_judged[child] = true
      end
    end
  end
  write_gathered()
  -- Those of the new jobs all of whose edges are undecided wait.
  for i, id in ipairs(ids) do
    local n = not replies[i] and waits[id] and numbers[id]
    if n and (is_judged[n] or not gathered[n]) then use('agenda').push_late({ kind = 'judge', n = n, cursor = '0', cause = '', reason = '' }) end
  end
end

return linking
