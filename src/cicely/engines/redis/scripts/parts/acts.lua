-- What the tasks of the agenda do. Each takes its task, and returns what is left of it.
local graph, rows, agenda, endings = use('graph'), use('rows'), use('agenda'), use('endings')
local acts = {}

-- The edges of a sorted set from the cursor of a task on, as many as may be touched.
local function page_of(key, task)
  return call('ZRANGEBYSCORE', key, '(' .. task.cursor, '+inf', 'WITHSCORES', 'LIMIT', 0, agenda.left)
end

-- Decides the edges out of an ended job.
function acts.decide(task)
  local fate = graph.fate_of(task.n)
  if not fate then return nil end
  local most = agenda.left
  local links = page_of(NS .. 'out:' .. task.n, task)
  for i = 1, #links, 2 do
    if agenda.left <= 0 then return task end
    agenda.left = agenda.left - 1
    task.cursor = links[i + 1]
    graph.decide(task.n, links[i], tonumber(links[i + 1]), fate)
  end
  return #links == 2 * most and task or nil
end

function acts.judge(task)
  agenda.left = agenda.left - 1
  graph.judge(task.n)
  return nil
end

function acts.stand_again(task)
  agenda.left = agenda.left - 1
  use('undoing').stand_again(task.n)
  return nil
end

-- Whether a job is, or is asked to be, cancelled for this cause: it may be back meanwhile.
local function is_cancelled(n, cause)
  if call('HGET', NS .. 'w:' .. n, 'cause') ~= cause then return false end
  local ended, run = call('GET', NS .. 'd:' .. n), call('HGET', NS .. 'runs', n)
  if run then return rows.claimed(n, run).why ~= '' end
  if not ended then return false end
  local _, state = limit(ended, 1)
  return state == 'cancelled'
end

-- Cancels the parents of a job that are still live, and what those wait for.
function acts.cancel_before(task)
  endings.flush()
  if not is_cancelled(task.n, task.cause) then return nil end
  local stack = { { kind = task.kind, n = task.n, cursor = task.cursor, cause = task.cause, reason = task.reason } }
  while #stack > 0 and agenda.left > 0 do
    local top = stack[#stack]
    local link = call('ZRANGEBYSCORE', NS .. 'in:' .. top.n, '(' .. top.cursor, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if #link == 0 then
      stack[#stack] = nil
    else
      agenda.left = agenda.left - 1
      top.cursor = link[2]
      local parent = link[1]
      if graph.is_live(parent) and graph.cancel(parent, call('HGET', NS .. 'runs', parent), task.reason, task.cause) then
        stack[#stack + 1] = { kind = task.kind, n = parent, cursor = '0', cause = task.cause, reason = task.reason }
      end
    end
  end
  for i = 2, #stack do agenda.push(stack[i]) end
  return stack[1]
end

-- Lets the held jobs of a published workflow go.
function acts.publish(task)
  local key = NS .. 'hold:' .. sub(task.n, 2)
  local ns = call('ZRANGE', key, 0, math.max(0, agenda.left - 1))
  if #ns == 0 then return nil end
  agenda.left = agenda.left - #ns
  many('ZREM', key, ns)
  use('releases').publish(ns)
  return call('EXISTS', key) == 1 and task or nil
end

-- Has the ready jobs of a workflow draw what it has reserved.
function acts.bind(task)
  endings.flush()
  local workflow, most = sub(task.n, 2), agenda.left
  local found = page_of(NS .. 'of:' .. workflow, task)
  for i = 1, #found, 2 do
    use('reservations').bind_ready(found[i], workflow)
    task.cursor = found[i + 1]
  end
  agenda.left = agenda.left - #found / 2
  return #found == 2 * most and task or nil
end

-- Removes the edges into a job that was deleted.
function acts.unlink(task)
  local key = NS .. 'in:' .. task.n
  local parents = call('ZRANGE', key, 0, math.max(0, agenda.left - 1))
  if #parents == 0 then return nil end
  agenda.left = agenda.left - #parents
  call('ZREMRANGEBYRANK', key, 0, #parents - 1)
  for _, parent in ipairs(parents) do
    call('ZREM', NS .. 'out:' .. parent, task.n)
    if call('EXISTS', NS .. 'out:' .. parent) == 0 then graph.forget_gone(parent) end
  end
  return call('EXISTS', key) == 1 and task or nil
end

function acts.undo(task)
  return use('undoing').undo(task, page_of(NS .. 'out:' .. task.n, task))
end

function acts.take_along(task)
  return use('undoing').take_along(task, page_of(NS .. 'because:' .. task.cause, task))
end

return acts
