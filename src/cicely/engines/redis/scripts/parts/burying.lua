-- Deletes an ended job and all that belongs to it. What outlives it: a tomb of its id, where somebody
-- chose that, and the receipt of its end while that is young.
local rows, counts = use('rows'), use('counts')
local burying = {}
local BLOCK_DIGITS = 9
-- A job that is past its retention before one that is not is looked at again after this.
local STAY_S = 1800
-- So many of the jobs after one are looked at in a call.
local LOOKED_AT = 2000

local function remove(n, row, state)
  call(
    'UNLINK', NS .. 'j:' .. n, NS .. 'd:' .. n, NS .. 'l:' .. n, NS .. 'a:' .. n, NS .. 'b:' .. n, NS .. 'r:' .. n,
    NS .. 'blob:' .. row.id
  )
  call('HDEL', NS .. 'await', row.id)
  if state ~= 'succeeded' then call('ZREM', NS .. 'ended:' .. state, n) end
  for _, tag in ipairs(row.tags or {}) do call('ZREM', NS .. 'tag:' .. tag, n) end
  local block = sub(n, 1, BLOCK_DIGITS)
  if call('HINCRBY', NS .. 'block_jobs', block, -1) <= 0 then
    call('HDEL', NS .. 'block_jobs', block)
    call('ZREM', NS .. 'blocks', block)
  end
  counts.add(row.queue, state, -1)
end

-- Removes the edges into a job, many of them later; those out of it stay, and so does its number.
local function cut_off(n, row)
  local task = { kind = 'unlink', n = n, cursor = '0', cause = '', reason = '' }
  if call('EXISTS', NS .. 'in:' .. n) == 1 then use('agenda').push(task) end
  if call('EXISTS', NS .. 'out:' .. n) == 1 then use('graph').keep_gone(n, row.id) end
end

-- Removes what a job has beside its record.
local function remove_node(n, row)
  local key = NS .. 'w:' .. n
  local workflow, group, cause = unpack(call('HMGET', key, 'workflow', 'group', 'cause'))
  if workflow then call('ZREM', NS .. 'of:' .. workflow, n) end
  call('ZREM', NS .. 'hold:' .. (workflow or ''), n)
  if group then call('ZREM', NS .. 'grp:' .. group, n) end
  if cause then call('ZREM', NS .. 'because:' .. cause, n) end
  call('UNLINK', key, NS .. 's:' .. n, NS .. 'o:' .. n, NS .. 'broken:' .. n)
  cut_off(n, row)
end

-- Whether a job that comes after this one has not ended.
function burying.has_live_child(n)
  for _, child in ipairs(call('ZREVRANGE', NS .. 'out:' .. n, 0, LOOKED_AT - 1)) do
    if use('graph').is_live(child) then return true end
  end
  return false
end

local function put_off(n, ended)
  local before = limit(ended, 12)
  local after = limit(ended, 1, before)
  call('SET', NS .. 'd:' .. n, sub(ended, 1, before) .. pack(now + STAY_S) .. sub(ended, after + 1))
  local bucket = rows.bucket(now + STAY_S)
  call('RPUSH', NS .. 'old:' .. bucket, n)
  call('ZADD', NS .. 'old', bucket, bucket)
end

local function forget(row, state)
  if row.remember_s <= 0 then
    call('HDEL', NS .. 'ids', row.id)
    return
  end
  call('HSET', NS .. 'ids', row.id, 'tomb')
  call('HSET', NS .. 'tombs', row.id, pack(row.kind, row.task, row.queue, state))
  call('ZADD', NS .. 'forget', now + row.remember_s, row.id)
end

-- With `bucket`, only a job that is to be deleted at that instant: one that was revived and ended again stands
-- in another list.
function burying.bury(n, bucket)
  local record, ended = call('GET', NS .. 'j:' .. n), call('GET', NS .. 'd:' .. n)
  if not record or not ended then return false end
  local row = rows.parse(n, record)
  local _, state, ended_at, _, session, request, fence, _, _, _, _, _, outcome, delete_at = limit(ended, 13)
  if bucket and rows.bucket(delete_at) ~= bucket then return false end
  if bucket and rows.has(row.flags, rows.CHILDREN) and burying.has_live_child(n) then
    put_off(n, ended)
    return false
  end
  if row.flags % 32 > 1 then remove_node(n, row) end
  remove(n, row, state)
  forget(row, state)
  if request ~= '' then
    use('receipts').keep(
      request, n, fence % rows.FENCES, { outcome = outcome, session = session, since = ended_at }
    )
  end
  return true
end

return burying
