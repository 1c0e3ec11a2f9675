-- What is said of new jobs beside them: labels, by their places, and edges.
local graph, rows = use('graph'), use('rows')
local linking = {}
-- Who waits and who is waited for, by their ids; the numbers of those stored, by their ids; those of them that
-- have nodes, in their order; their nodes and what they asked for of their start, by their numbers.
local labels, waits, leads, numbers, nodes, node_of, start_of = {}, {}, {}, {}, {}, {}, {}

-- Labels: those there are, each as workflow, group and whether it is held; then which of them each job has, 0 for
-- none. Edges are parent, child and traits in turns.
function linking.begin(labelled, edges)
  local kinds, places = unpack(labelled)
  for i = 1, #places do labels[i] = kinds[places[i]] end
  for i = 1, #edges, 3 do
    leads[edges[i]] = true
    waits[edges[i + 1]] = true
  end
end

local published = {}

local function is_published(workflow)
  if published[workflow] == nil then published[workflow] = use('workflows').is_published(workflow) end
  return published[workflow]
end

-- Jobs with the same labels share what their nodes say, and lists; some of them wait.
local NONE = { '', '', false }
local alike = {}

local function node_like(label, is_waiting)
  label = label or NONE
  local both = alike[label]
  if not both then
    both = {}
    alike[label] = both
  end
  local node = both[is_waiting]
  if not node then
    local workflow, group, is_held = label[1], label[2], label[3] and not is_published(label[1])
    local fields = {}
    node = {
      waits = is_waiting or is_held, is_held = is_held, workflow = workflow, group = group, fields = fields,
      members = {},
    }
    if node.waits then fields[1], fields[2] = 'waits', '1' end
    if is_held then fields[#fields + 1], fields[#fields + 2] = 'held', '1' end
    if workflow ~= '' then fields[#fields + 1], fields[#fields + 2] = 'workflow', workflow end
    if group ~= '' then fields[#fields + 1], fields[#fields + 2] = 'group', group end
    both[is_waiting] = node
  end
  return node
end

-- The workflow of a new job, or nothing.
function linking.workflow_of(i)
  return labels[i] and labels[i][1] ~= '' and labels[i][1]
end

-- Notes the node of a job that is stored, if it has one; returns its flags, and whether it waits.
function linking.note(i, n, id, start)
  local label, is_waiting = labels[i], waits[id] or false
  local flags = leads[id] and rows.CHILDREN or 0
  numbers[id] = n
  if not label and not is_waiting and not (leads[id] and start) then return flags, false end
  local node = node_like(label, is_waiting)
  local members = node.members
  members[#members + 1] = n
  members[#members + 1] = n
  nodes[#nodes + 1] = n
  node_of[n] = node
  -- What it asked for of its start counts anew where it comes back before its first run.
  start_of[n] = start
  return rows.NODE + flags + (node.workflow ~= '' and rows.MEMBER or 0), node.waits
end

-- Writes what is told of the new jobs together; `link` writes their nodes.
function linking.write()
  for _, both in pairs(alike) do
    for _, node in pairs(both) do
      if node.workflow ~= '' then
        many('ZADD', NS .. 'of:' .. node.workflow, node.members)
        use('workflows').note(node.workflow)
      end
      if node.group ~= '' then many('ZADD', NS .. 'grp:' .. node.group, node.members) end
      if node.is_held then many('ZADD', NS .. 'hold:' .. node.workflow, node.members) end
    end
  end
end

-- New edges out of jobs that live and do not run are undecided: they are gathered by their children, and by their
-- parents.
local gathered, leaving = {}, {}

-- Most have one edge into them; of more, `has` says whose they are.
local function is_gathered(into, parent)
  if not into.has then
    into.has = {}
    for i = 2, #into, 2 do into.has[into[i]] = true end
  end
  if into.has[parent] then return true end
  into.has[parent] = true
  return false
end

local function gather(parent, child, number, traits)
  local into, score = gathered[child], string.format('%d', number * 256 + traits)
  if not into then
    gathered[child] = { score, parent }
  elseif is_gathered(into, parent) then
    return
  else
    into[#into + 1], into[#into + 2] = score, parent
  end
  local out = leaving[parent]
  if out then
    out[#out + 1], out[#out + 2] = score, child
  else
    leaving[parent] = { score, child }
  end
end

local function write_gathered()
  for parent, out in pairs(leaving) do many('ZADD', NS .. 'out:' .. parent, out) end
  for child, into in pairs(gathered) do
    many('ZADD', NS .. 'in:' .. child, into)
    if not node_of[child] then
      local count = text_of(#into / 2)
      call('HINCRBY', NS .. 'w:' .. child, 'pending', count)
      call('HINCRBY', NS .. 'w:' .. child, 'joins', count)
    end
  end
end

local function write_nodes()
  for _, n in ipairs(nodes) do
    local key, fields, into = NS .. 'w:' .. n, node_of[n].fields, gathered[n]
    if into then
      local count = text_of(#into / 2)
      call('HSET', key, 'pending', count, 'joins', count, unpack(fields))
    elseif #fields > 0 then
      call('HSET', key, unpack(fields))
    end
    if start_of[n] then call('HSET', key, 'start', start_of[n]) end
  end
end

-- Whether a job waits, as it stood before this call or is stored by it.
local waiting = {}

local function is_waiting(n)
  local node = node_of[n]
  if node then return node.waits end
  if waiting[n] == nil then waiting[n] = call('HGET', NS .. 'w:' .. n, 'waits') == '1' end
  return waiting[n]
end

-- The number of a job that edges name; 'tomb' for one that is gone.
local known = {}

-- Notes the numbers of jobs that were stored before this call.
function linking.know(names, ns)
  for i, id in ipairs(names) do known[id] = ns[i] end
end

local function number_of(id)
  if numbers[id] then return numbers[id] end
  if not known[id] then known[id] = call('HGET', NS .. 'ids', id) end
  return known[id]
end

-- --- edges out of jobs that were stored before this call ------------------------------------------
-- By their children, and those in their order: parent, traits and number in turns.
local older, children, parents, is_parent = {}, {}, {}, {}

local function put_off(parent, child, traits, number)
  if not older[child] then
    older[child] = {}
    children[#children + 1] = child
  end
  local links = older[child]
  local size = #links
  links[size + 1], links[size + 2], links[size + 3] = parent, traits, number
  if not is_parent[parent] then
    is_parent[parent] = true
    parents[#parents + 1] = parent
  end
end

-- Those parents that are nodes, live and do not run; they are marked as parents.
local function mark_idle()
  local keys, idle = {}, {}
  for i, n in ipairs(parents) do keys[2 * i - 1], keys[2 * i] = NS .. 'j:' .. n, NS .. 'd:' .. n end
  local said, runs = read_all(nil, keys), read_all(NS .. 'runs', parents)
  for i, n in ipairs(parents) do
    local record = said[2 * i - 1]
    local is_read, _, _, flags = pcall(limit, record or '', 2)
    if is_read and not said[2 * i] and not runs[i] and rows.are_flags(flags) and rows.has(flags, rows.NODE) then
      idle[n] = true
      if not rows.has(flags, rows.CHILDREN) then rows.flag_record(n, record, rows.CHILDREN) end
    end
  end
  return idle
end

-- Gathers the new edges into one job; those that are not that simple are added to `others`.
local function link_older(child, links, idle, others)
  local ns = {}
  for i = 1, #links, 3 do ns[#ns + 1] = links[i] end
  for from = 1, #ns, MOST do
    local last = math.min(from + MOST - 1, #ns)
    for i, score in ipairs(call('ZMSCORE', NS .. 'in:' .. child, unpack(ns, from, last))) do
      local at = 3 * (from + i) - 5
      local parent, traits, number = links[at], links[at + 1], links[at + 2]
      if not score and idle[parent] then
        gather(parent, child, number, traits)
      elseif not score then
        others[#others + 1] = { parent, child, traits, number }
      end
    end
  end
end

local function sort_edges(ids, replies, edges)
  local stands_for = {}
  for i, id in ipairs(ids) do stands_for[id] = stands_for[id] or replies[i] or id end
  local number = call('HINCRBY', NS .. 'meta', 'edges', #edges / 3) - #edges / 3
  for i = 1, #edges, 3 do
    number = number + 1
    local parent_id, child_id = stands_for[edges[i]] or edges[i], stands_for[edges[i + 1]] or edges[i + 1]
    local parent, child = number_of(parent_id), number_of(child_id)
    if parent == 'tomb' then parent = graph.number_of_gone(parent_id) end
    if child ~= 'tomb' and is_waiting(child) then
      if numbers[parent_id] then
        gather(parent, child, number, edges[i + 2])
      else
        put_off(parent, child, edges[i + 2], number)
      end
    end
  end
end

-- Keeps the nodes and edges of a call, and lets those of its jobs go, or cancels them, whose edges say so.
function linking.link(ids, replies, edges)
  local others, is_judged = {}, {}
  if #edges > 0 then sort_edges(ids, replies, edges) end
  local idle = #parents > 0 and mark_idle()
  for _, child in ipairs(children) do link_older(child, older[child], idle, others) end
  write_gathered()
  write_nodes()
  for _, link in ipairs(others) do
    graph.link(unpack(link))
    is_judged[link[2]] = true
  end
  -- Those of the new jobs all of whose edges are undecided wait.
  for i, id in ipairs(ids) do
    local n = not replies[i] and waits[id] and numbers[id]
    if n and (is_judged[n] or not gathered[n]) then
      use('agenda').push_late({ kind = 'judge', n = n, cursor = '0', cause = '', reason = '' })
    end
  end
end

return linking
