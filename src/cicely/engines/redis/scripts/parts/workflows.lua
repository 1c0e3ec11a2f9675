-- Workflows: publishing one, and deleting it when all its jobs are past their retention.
--
-- `wf:<workflow>`: published; phase: '0' while some of its jobs may live, '1' when all are being deleted, '2' when
-- they are because nobody published it; cursor: its jobs up to this number were seen to be old. `of:<workflow>`
-- lists its jobs, `hold:<workflow>` those that are held, `workflows` when each is looked at.
local rows, endings = use('rows'), use('endings')
local workflows = {}
local LOOK_EVERY_S, SOON_S, DAY_S = 1800, 60, 86400
local LIVES, LEAVES, ABANDONED = '0', '1', '2'
local NEVER_PUBLISHED = 'its workflow was never published'

function workflows.is_published(name)
  return call('HGET', NS .. 'wf:' .. name, 'published') == '1'
end

-- Has a workflow looked at in time; the jobs without one are nobody's to delete.
function workflows.note(name)
  if name ~= '' then call('ZADD', NS .. 'workflows', 'NX', now + LOOK_EVERY_S, name) end
end

function workflows.look_again(name, at, phase, cursor)
  if name == '' then return end
  call('HSET', NS .. 'wf:' .. name, 'phase', phase, 'cursor', cursor)
  call('ZADD', NS .. 'workflows', string.format('%.17g', at), name)
end

-- Lets the held jobs of a workflow go, those of later calls as well.
function workflows.publish(name)
  call('HSET', NS .. 'wf:' .. name, 'published', '1')
  workflows.note(name)
  use('agenda').push({ kind = 'publish', n = '@' .. name, cursor = '0', cause = '', reason = '' })
  use('agenda').run()
end

-- When to look again where one of these jobs has to stay, else nil.
local function stays_until(ns)
  for _, n in ipairs(ns) do
    local ended = call('GET', NS .. 'd:' .. n)
    if not ended or use('burying').has_live_child(n) then return now + LOOK_EVERY_S end
    local _, _, _, _, _, _, _, _, _, _, _, _, _, delete_at = limit(ended, 13)
    if delete_at > now then return math.max(delete_at, now + SOON_S) end
  end
end

local function is_abandoned(name)
  local n = call('ZRANGE', NS .. 'hold:' .. name, 0, 0)[1]
  local row = n and rows.of(n)
  return row and row.created_at <= now - DAY_S
end

local function drop(name)
  call('UNLINK', NS .. 'wf:' .. name, NS .. 'of:' .. name, NS .. 'hold:' .. name)
  call('ZREM', NS .. 'workflows', name)
end

local function bury_all(ns)
  for _, n in ipairs(ns) do use('burying').bury(n) end
end

-- Deletes the jobs of a workflow that nobody published, wherever they stand.
local function delete_abandoned(name, batch)
  local ns = call('ZRANGE', NS .. 'of:' .. name, 0, batch - 1)
  endings.is_silent = true
  for _, n in ipairs(ns) do
    local run, row = call('HGET', NS .. 'runs', n), rows.of(n)
    if run then
      local job = rows.claimed(n, run)
      endings.leave_run(n, job.session, job.request, job.deadline_at)
      if job.passed then use('flow').give_back(n, job.queue, job.started_at, job.passed) end
      endings.finish(job, 'cancelled', NEVER_PUBLISHED, '', '', '')
    elseif row and call('EXISTS', NS .. 'd:' .. n) == 0 then
      endings.leave_waiting(row)
      endings.finish(row, 'cancelled', NEVER_PUBLISHED, '', '', '')
    end
    endings.write()
  end
  endings.is_silent = false
  bury_all(ns)
  if #ns < batch then
    drop(name)
  else
    workflows.look_again(name, now, ABANDONED, '0')
  end
  return #ns
end

-- Looks at the workflow whose turn it is; returns how many jobs went.
local function delete_first(name, batch)
  local phase, cursor = unpack(call('HMGET', NS .. 'wf:' .. name, 'phase', 'cursor'))
  if phase == ABANDONED or is_abandoned(name) then return delete_abandoned(name, batch) end
  cursor = cursor or '0'
  local ns = call('ZRANGEBYSCORE', NS .. 'of:' .. name, '(' .. cursor, '+inf', 'LIMIT', 0, batch)
  local until_at = stays_until(ns)
  if until_at then
    workflows.look_again(name, until_at, LIVES, '0')
    return 0
  end
  local leaves, is_last = phase == LEAVES, #ns < batch
  if leaves then bury_all(ns) end
  if is_last and leaves then
    drop(name)
  elseif is_last and #ns == 0 and cursor == '0' then
    -- Published before its jobs come, perhaps: kept for a day.
    workflows.look_again(name, now + DAY_S, LEAVES, '0')
  elseif is_last or leaves then
    workflows.look_again(name, now, LEAVES, '0')
  else
    workflows.look_again(name, now, LIVES, ns[#ns])
  end
  return leaves and #ns or 0
end

local function first_due()
  local name, at = unpack(call('ZRANGE', NS .. 'workflows', 0, 0, 'WITHSCORES'))
  return name and tonumber(at) <= now and name
end

-- Returns how many jobs went, and whether there is more.
function workflows.delete_old(batch)
  local name = first_due()
  if not name then return 0, false end
  local deleted = delete_first(name, batch)
  return deleted, first_due() and true
end

return workflows
