-- The record of a job, `j:<n>`: MessagePack values one after the other, the most wanted first.
--   head  fence, flags, errors, crashes, lost
--   card  id, queue, keep_s, keep_failed_s, unique, remember_s, max_receives, task, lane, base, tags
--   body  kind, rank, expires_at, due_at, created_at, attempt, started_at, reason
--   flow  of a job that is not plain only: its flow (or nil), the worker that it shuns
--   tail  what only clients read
-- The card and the tail are written by the client and never change. `base` is what the job's priority
-- adds to its rank; `attempt` and `started_at` are of the last claim that was given back. `flags` say what lies
-- apart: a large body, a node `w:<n>`, steps, edges out of the job, a workflow that it is of; and that it is not plain
-- (see the part `gates`), or watched. A flow: shape, keys, and what it costs of each key by meter.
--
-- A claim, a field of `runs`: request, session, claimed_at, why (it was cancelled, or ''), deadline_at, then
-- the record's head and the card as far as unique, the task (not in claims of format 2), then of one that is not
-- plain what it passed (see the part `flow`). A plain life never writes a record twice.
local BUCKETS_PER_S = 16
local rows = {
  CLAIM = 5, KEPT = 10, RUN = 16, FENCES = 16777216, LARGE = 1, NODE = 2, STEPS = 4, CHILDREN = 8, MEMBER = 16, GATED = 32,
  WATCHED = 64, FLAGS = 128,
}

function rows.are_flags(value)
  return type(value) == 'number' and value >= 0 and value < rows.FLAGS and value % 1 == 0
end

-- Whether one of the flags is set.
function rows.has(flags, flag)
  return flags % (2 * flag) >= flag
end

function rows.parse(n, record)
  local a, fence, flags, errors, crashes, lost = limit(record, 5)
  local b, id, queue, keep_s, keep_failed_s, unique, remember_s, max_receives, task, lane, base, tags =
    limit(record, 11, a)
  local c, kind, rank, expires_at, due_at, created_at, attempt, started_at, reason = limit(record, 8, b)
  local flow, shuns
  if flags % 64 >= 32 then
    c, flow, shuns = limit(record, 2, c)
  elseif lane ~= '' then
    -- As format 2 kept it.
    flags, shuns = flags + rows.GATED, ''
  end
  return {
    n = n, fence = fence, flags = flags, errors = errors, crashes = crashes, lost = lost,
    id = id, queue = queue, keep_s = keep_s, keep_failed_s = keep_failed_s, unique = unique,
    remember_s = remember_s, max_receives = max_receives, task = task, lane = lane, base = base,
    tags = tags, kind = kind, rank = rank, expires_at = expires_at, due_at = due_at,
    created_at = created_at, attempt = attempt, started_at = started_at, reason = reason,
    flow = flow or nil, shuns = shuns, session = '', card = sub(record, a + 1, b), tail = sub(record, c + 1),
  }
end

-- The row of a job; nil where its record is gone or cannot be read.
function rows.of(n)
  local record = call('GET', NS .. 'j:' .. n)
  if not record then return nil end
  local is_read, row = pcall(rows.parse, n, record)
  local is_whole = is_read and type(row.id) == 'string' and type(row.queue) == 'string'
    and type(row.task) == 'string' and type(row.base) == 'number' and type(row.kind) == 'string'
    and type(row.keep_s) == 'number' and type(row.created_at) == 'number' and type(row.flags) == 'number'
  if not is_whole then return nil end
  row.waits = rows.has(row.flags, rows.NODE) and call('HGET', NS .. 'w:' .. n, 'waits') == '1'
  return row
end

function rows.record(row)
  return pack(row.fence, row.flags, row.errors, row.crashes, row.lost)
    .. row.card
    .. pack(
      row.kind, row.rank, row.expires_at, row.due_at, row.created_at, row.attempt, row.started_at, row.reason
    )
    .. (row.flags % 64 >= 32 and pack(row.flow, row.shuns) or '')
    .. row.tail
end

-- What a claim passed; nothing of a plain one.
function rows.passed(run, off, flags)
  if flags % 64 < 32 or off < 0 then return nil end
  return select(2, limit(run, 1, off))
end

-- What a claim says of its job: enough to end it without reading the record.
function rows.claimed(n, run)
  local off, request, session, claimed_at, why, deadline_at, fence, flags, errors, crashes, lost, id, queue,
    keep_s, keep_failed_s, unique, task = limit(run, rows.RUN)
  return {
    n = n, request = request, session = session, started_at = claimed_at, why = why,
    deadline_at = deadline_at, fence = fence + 1, flags = flags, errors = errors, crashes = crashes,
    lost = lost, attempt = 1 + errors + crashes + lost, id = id, queue = queue, keep_s = keep_s,
    keep_failed_s = keep_failed_s, unique = unique, is_running = true, task = task, passed = rows.passed(run, off, flags),
  }
end

-- Writes a claim anew, with another deadline or the reason why it was cancelled.
function rows.rewrite_claim(run, job)
  local kept = sub(run, 1 + limit(run, rows.CLAIM))
  call(
    'HSET', NS .. 'runs', job.n,
    pack(job.request, job.session, job.started_at, job.why, job.deadline_at) .. kept
  )
end

-- Where the flags stand in a record or a claim, if they are not all set there yet, and what they are to be.
function rows.place_of_flags(packed, before, flags)
  local at = limit(packed, before)
  local known = string.byte(packed, at + 1)
  local all = bit.bor(known, flags)
  if all ~= known then return at, string.char(all) end
end

-- Sets flags in the record of a job.
function rows.flag_record(n, record, flags)
  local at, all = rows.place_of_flags(record, 1, flags)
  if at then call('SETRANGE', NS .. 'j:' .. n, at, all) end
end

-- Sets flags in the record of a job and in its claim.
function rows.flag(n, flags)
  local record, run = call('GET', NS .. 'j:' .. n), call('HGET', NS .. 'runs', n)
  if not record then return end
  rows.flag_record(n, record, flags)
  if not run then return end
  local at, all = rows.place_of_flags(run, rows.CLAIM + 1, flags)
  if at then call('HSET', NS .. 'runs', n, sub(run, 1, at) .. all .. sub(run, at + 2)) end
end

-- The instant under which a job to be deleted is listed: those of a sixteenth of a second share a list, which
-- costs a few bytes for each.
function rows.bucket(delete_at)
  return string.format('%.4f', math.ceil(delete_at * BUCKETS_PER_S) / BUCKETS_PER_S)
end

-- Fences are compared by what tokens hold of them.
function rows.token(job)
  return job.request .. ':' .. job.n .. ':' .. job.fence % rows.FENCES
end

function rows.is_claim(job, request, fence)
  return job.request == request and job.fence % rows.FENCES == fence
end

-- Bytes as MessagePack; Lua's own packer would call them text.
function rows.bin(bytes)
  local size = #bytes
  if size < 256 then return '\196' .. string.char(size) .. bytes end
  if size < 65536 then return '\197' .. struct.pack('>I2', size) .. bytes end
  return '\198' .. struct.pack('>I4', size) .. bytes
end

-- Reads what `bin` wrote, which Lua's own unpacker cannot: where it ends, and the bytes.
function rows.read_bin(packed, from)
  local kind = string.byte(packed, from + 1)
  local head, size = 2, string.byte(packed, from + 2)
  if kind == 197 then head, size = 3, struct.unpack('>I2', packed, from + 2) end
  if kind == 198 then head, size = 5, struct.unpack('>I4', packed, from + 2) end
  local last = from + head + size
  return last, sub(packed, from + head + 1, last)
end

return rows
