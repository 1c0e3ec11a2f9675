-- Deletes an ended job and all that belongs to it. What outlives it: a tomb of its id, where somebody
-- chose that, and the receipt of its end while that is young.
local rows, counts = use('rows'), use('counts')
local burying = {}
local BLOCK_DIGITS = 9

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

local function forget(row, state)
  if row.remember_s <= 0 then
    call('HDEL', NS .. 'ids', row.id)
    return
  end
  call('HSET', NS .. 'ids', row.id, 'tomb')
  call('HSET', NS .. 'tombs', row.id, pack(row.kind, row.task, row.queue, state))
  call('ZADD', NS .. 'forget', now + row.remember_s, row.id)
end

function burying.bury(n, is_over)
  local record, ended = call('GET', NS .. 'j:' .. n), call('GET', NS .. 'd:' .. n)
  if not record or not ended then return false end
  local row = rows.parse(n, record)
  local _, state, ended_at, _, session, request, fence, _, _, _, _, _, outcome, delete_at = limit(ended, 13)
  -- A revived job that ended again stands in a later list.
  if is_over and delete_at > now then return false end
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
