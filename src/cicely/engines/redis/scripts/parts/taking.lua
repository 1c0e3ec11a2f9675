-- Hands out ready jobs. What is taken of a stream is always its beginning.
local moving, rows, counts, asks = use('moving'), use('rows'), use('counts'), use('asks')
local PROMOTED = 256
local EXPIRIES = 8
-- So many streams that several things may hold back are looked at, to know when the next may pass.
local AUDITED = 16
local LOOK_S = 1
local NONE = {}
local HEAD_BYTES = #pack(0, 0, 0, 0, 0)

-- Takes from a stream until another one's job is next (true), the ask is over (false), or nothing more of its
-- task fits (nil).
local function take_from(taking, ask, stream, rival)
  local streams, pair = use('streams'), stream.pair
  local pace_s = ask.pace[pair.task]
  local ns, from = taking.ns, taking.from
  while stream.n do
    if asks.is_full(ask) then return false end
    if ask.taken >= ask.slots and not pace_s then return nil end
    if not asks.admit(ask, pace_s) then return false end
    ns[#ns + 1], from[#from + 1] = stream.n, pair
    if stream.taken == 0 then taking.streams[#taking.streams + 1] = stream end
    streams.step(stream)
    if stream.n and rival and streams.is_before(rival, stream) then return true end
  end
  return true
end

local function without(candidates, stream)
  local others = {}
  for _, candidate in ipairs(candidates) do
    if candidate ~= stream then others[#others + 1] = candidate end
  end
  return others
end

-- Takes from one queue what an ask still wants. Slots of any task first, then short jobs as a buffer; a
-- class of which nothing more fits is left alone. Returns false when the ask is over.
local function fill(taking, ask, candidates)
  while #candidates > 0 do
    if asks.is_full(ask) then return false end
    local stream, rival = use('streams').best(candidates)
    if not stream then return true end
    local goes_on = take_from(taking, ask, stream, rival)
    if goes_on == false then return false end
    if goes_on == nil then candidates = without(candidates, stream) end
  end
  return true
end

-- Whether more than plain jobs of one lane may be taken of a queue. This is all that a claim pays where what is not
-- plain is held back.
local function is_shared(taking, queue)
  if not taking.is_gated then return false end
  local known = taking.gated[queue]
  if known == nil then
    known = call('HLEN', NS .. 'lane:' .. queue) > 1
    -- '}' follows '|'.
    local classes = known and {} or call('ZRANGEBYLEX', NS .. 'classes', '[' .. queue .. '|', '(' .. queue .. '}')
    for _, class in ipairs(classes) do
      known = known or call('ZCOUNT', NS .. 'gates:' .. class, '-inf', now) > 0
    end
    taking.gated[queue] = known
  end
  return known
end

local function answer(taking, wanted, queues)
  local ask = asks.ask(wanted)
  for _, queue in ipairs(queues) do
    local goes_on
    if is_shared(taking, queue) and use('passing').concerns(taking, queue, ask) then
      goes_on = use('passing').fill(taking, queue, ask)
    else
      goes_on = fill(taking, ask, use('streams').plain(taking, queue, ask))
    end
    if not goes_on then return end
  end
end

-- The queues that are not paused, and whether there is or was more than plain jobs.
local function open_queues(queues)
  if #queues == 0 or call('EXISTS', NS .. 'paused', NS .. 'gated') == 0 then return queues, false end
  local is_gated = call('EXISTS', NS .. 'gated') == 1
  if call('EXISTS', NS .. 'paused') == 0 then return queues, is_gated end
  local open = {}
  for i, is_paused in ipairs(call('SMISMEMBER', NS .. 'paused', unpack(queues))) do
    if is_paused == 0 then open[#open + 1] = queues[i] end
  end
  return open, is_gated
end

-- Notes a claim with which more goes: of a job with a node or steps, or with units.
local function note_beside(reply, at, n, flags, units)
  local beside = reply.beside or {}
  reply.beside = beside
  beside[#beside + 1] = { at = at, n = n, flags = flags, units = units }
end

-- Adds what a client needs of a claim: n, record, checkpoint, large body. Only who ran left a checkpoint.
local function add_claim(reply, n, record, has_run, flags, passed)
  local size = #reply
  reply[size + 1], reply[size + 2] = n, record
  reply[size + 3] = has_run and call('HGET', NS .. 'l:' .. n, 'checkpoint')
  reply[size + 4] = flags % 2 == 1 and call('GET', NS .. 'b:' .. n)
  local units = passed and passed[6]
  if flags % 32 > 1 or units then note_beside(reply, (size - 1) / 4, n, flags, units and pack(units) or false) end
end

-- The reply is whole: a last value that does not belong to four others is what goes with some claims.
local function with_extras(reply)
  if reply.beside then reply[#reply + 1] = use('parents').with_claims(reply.beside) end
  return reply
end

local function add_repeated(reply, session, request)
  for _, n in ipairs(call('SORT', NS .. 'held:' .. session.id)) do
    local run = call('HGET', NS .. 'runs', n)
    local record = run and call('GET', NS .. 'j:' .. n)
    local job = record and rows.claimed(n, run)
    if job and job.request == request then
      local _, _, flags = limit(record, 2)
      add_claim(reply, n, record, true, flags, job.passed)
    end
  end
end

-- Where the kept part of a record ends, its fence and its flags; nothing where somebody
-- damaged it.
local function sound(record, right_queue)
  local is_read, kept, fence, flags, errors, crashes, lost, id, queue, keep_s, keep_failed_s, unique =
    pcall(limit, record or '', rows.KEPT)
  if is_read and queue == right_queue and type(id) == 'string' and type(unique) == 'string'
    and type(fence) == 'number' and (flags == 0 or flags == 1 or rows.are_flags(flags)) and type(keep_s) == 'number'
    and type(keep_failed_s) == 'number' and type(errors) == 'number' and type(crashes) == 'number'
    and type(lost) == 'number' then
    return kept, fence, flags
  end
end

-- Most records are alike: never claimed, with the same flags, and the same behind the id as far as the claim keeps
-- them. Where the kept part of such a record ends; nothing of another one.
local function end_of_alike(like, record)
  if not record or sub(record, 1, HEAD_BYTES) ~= like.head then return nil end
  local is_read, off, id = pcall(limit, record, 1, HEAD_BYTES)
  if not is_read or type(id) ~= 'string' then return nil end
  local kept = off + like.size
  return sub(record, off + 1, kept) == like.behind and kept or nil
end

local function count_alike(batch)
  local alike = batch.alike
  if alike then counts.move(alike.pair.queue, 'ready', 'running', alike.jobs) end
end

-- What such records have behind their ids.
local function note_alike(batch, record, kept, pair, flags, passed)
  local head, is_gated = sub(record, 1, HEAD_BYTES), passed and true or false
  if flags % 2 == 1 or flags >= rows.WATCHED or is_gated ~= (flags >= rows.GATED) then return end
  if head ~= pack(0, flags, 0, 0, 0) then return end
  local off = limit(record, 1, HEAD_BYTES)
  count_alike(batch)
  batch.alike = {
    head = head, behind = sub(record, off + 1, kept), size = kept - off, pair = pair, flags = flags, jobs = 0,
    has_more = flags % 32 > 1, is_gated = is_gated,
  }
end

-- A record that cannot be read is moved out of the way of the others, and shown as failed.
local function park(n, pair)
  local endings, nothing = use('endings'), rows.bin('')
  local id = 'damaged-' .. n
  local kept_s = 30 * 86400
  local card = pack(id, pair.queue, kept_s, kept_s, '', 0, 0, pair.task, '', 0, nil)
  local body = pack(pair.kind, 0, nil, nil, now, 0, nil, '')
  -- The tail is an array of three: priority 0, no options, no body.
  local flags = call('EXISTS', NS .. 'out:' .. n) * rows.CHILDREN
  call('SET', NS .. 'j:' .. n, pack(0, flags, 0, 0, 0) .. card .. body .. '\147' .. pack(0) .. nothing .. nothing)
  call('HSET', NS .. 'ids', id, n)
  endings.finish(rows.of(n), 'failed', 'malformed', '', '', '')
  endings.write()
end

-- With more late jobs than one call may end, the rest is left to the next sweep, out of the streams.
local function is_late(n, record)
  local expires_at = rows.parse(n, record).expires_at
  return expires_at and expires_at <= now
end

local function records_of(ns)
  local keys = {}
  for i, n in ipairs(ns) do keys[i] = NS .. 'j:' .. n end
  return read_all(nil, keys)
end

-- What of a record goes with its claim, and what that has passed.
local function kept_of(record, kept, n, task, passed)
  if passed[6] then call('HSET', NS .. 'units:' .. passed[3], n, pack(passed[6])) end
  if passed[8] then
    call('HSET', NS .. 'drawn:' .. passed[3], n, pack(passed[8]))
    use('reservations').look_again(passed[3])
  end
  -- A plain job of a queue with several lanes is none while it runs.
  local at, all = rows.place_of_flags(record, 1, rows.GATED)
  if at then return sub(record, 1, at) .. all .. sub(record, at + 2, kept) .. task .. pack(passed) end
  return sub(record, 1, kept) .. task .. pack(passed)
end

-- Undoes what a job has passed that cannot be handed out.
local function let_go(n, queue, passed)
  if passed then
    passed[6] = false
    use('flow').give_back(n, queue, now, passed, { false, true })
  end
end

-- Takes a job that may be like none before; notes what those behind it may be like.
local function take_one(taking, batch, i)
  local n, record, pair, passed = taking.ns[i], batch.records[i], taking.from[i], taking.passed[i]
  local kept, fence, flags = sound(record, pair.queue)
  if not kept then
    let_go(n, pair.queue, passed)
    park(n, pair)
    return
  end
  if taking.has_late and is_late(n, record) then
    let_go(n, pair.queue, passed)
    return
  end
  pair.packed = pair.packed or pack(pair.task)
  local said = passed and kept_of(record, kept, n, pair.packed, passed) or sub(record, 1, kept) .. pair.packed
  local began, held = batch.began, batch.held
  began[#began + 1], held[#held + 1] = n, n
  began[#began + 1] = batch.claim .. said
  counts.move(pair.queue, 'ready', 'running', 1)
  if flags >= rows.WATCHED then use('past').started(n, record, taking.session.id) end
  add_claim(batch.reply, n, record, fence > 0, flags, passed)
  if batch.deadline_at then call('ZADD', NS .. 'late', batch.deadline_at, n) end
  if not batch.deadline_at and not taking.has_late and not (passed and passed[6]) then
    note_alike(batch, record, kept, pair, flags, passed)
  end
end

-- What claims passed, as it is written.
local written = {}

local function packed(passed)
  local text = written[passed]
  if not text then
    text = pack(passed)
    written[passed] = text
  end
  return text
end

local function take_alike(batch, n, record, kept, passed)
  local began, held, reply, alike = batch.began, batch.held, batch.reply, batch.alike
  local claimed, size = #began, #reply
  local claim = batch.claim .. sub(record, 1, kept) .. alike.pair.packed
  began[claimed + 1], began[claimed + 2] = n, passed and claim .. packed(passed) or claim
  held[#held + 1] = n
  reply[size + 1], reply[size + 2], reply[size + 3], reply[size + 4] = n, record, false, false
  if alike.has_more then note_beside(reply, (size - 1) / 4, n, alike.flags, false) end
  alike.jobs = alike.jobs + 1
end

local function write_taken(taking, reply, request, deadline_at)
  local session = taking.session
  for _, stream in ipairs(taking.streams) do use('ready').cut(stream.pair.name, stream.taken) end
  local batch = {
    began = {}, held = {}, reply = reply, records = records_of(taking.ns), deadline_at = deadline_at,
    claim = pack(request, session.id, now, '', deadline_at),
  }
  for i, n in ipairs(taking.ns) do
    local alike, record, passed = batch.alike, batch.records[i], taking.passed[i]
    local kept = alike and alike.pair == taking.from[i] and not (passed and passed[6])
      and (passed and true or false) == alike.is_gated and end_of_alike(alike, record)
    if kept then
      take_alike(batch, n, record, kept, passed)
    else
      take_one(taking, batch, i)
    end
  end
  count_alike(batch)
  many('HSET', NS .. 'runs', batch.began)
  many('SADD', NS .. 'held:' .. session.id, batch.held)
  if #batch.held > 0 then
    call('HINCRBY', NS .. 'asked:' .. session.id, request, #batch.held)
    if call('EXISTS', NS .. 'expiring') == 1 then many('ZREM', NS .. 'expiring', batch.held) end
  end
  use('ready').write()
  counts.write()
end

local taking = { BATCH = PROMOTED }

-- When the next job is due, or may pass: whichever comes first.
function taking.next_at(due_at)
  if call('EXISTS', NS .. 'mixed') == 1 then use('gates').audit(AUDITED) end
  local after = '(' .. string.format('%.17g', now)
  local at = tonumber(call('ZRANGEBYSCORE', NS .. 'openings', after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or nil)
  return due_at and at and math.min(due_at, at) or due_at or at
end

-- Who left room of a limit for a job that goes first looks again soon: what else holds that one back is not told.
function taking.looks_at(taken, due_at)
  local at = taking.next_at(due_at)
  return taken.has_kept_back and math.min(at or now + LOOK_S, now + LOOK_S) or at
end

-- A demand: request, queues, asks, visibility_s. The reply: in how many seconds the next job is due or '',
-- then four values per claim.
function taking.take(session, demand)
  local request, visibility_s = demand[1], demand[4]
  local due_at = moving.next_due_at()
  if due_at and due_at <= now then
    moving.promote(PROMOTED)
    due_at = moving.next_due_at()
  end
  local has_late = true
  for _ = 1, EXPIRIES do
    has_late = has_late and moving.expire_late(PROMOTED) == PROMOTED
  end
  local reply = { moving.seconds_until(due_at) }
  if call('HEXISTS', NS .. 'asked:' .. session.id, request) == 1 then
    add_repeated(reply, session, request)
    call('HDEL', NS .. 'session:' .. session.id, 'doubted')
    if call('EXISTS', NS .. 'gated') == 1 then reply[1] = moving.seconds_until(taking.next_at(due_at)) end
    return with_extras(reply)
  end
  local queues, is_gated = open_queues(demand[2])
  local taken = {
    session = session, queues = {}, streams = {}, ns = {}, from = {}, passed = NONE, has_late = has_late,
    is_gated = is_gated,
  }
  if is_gated then taken.passed, taken.taken, taken.cuts, taken.gated = {}, {}, {}, {} end
  for _, ask in ipairs(demand[3]) do answer(taken, ask, queues) end
  if #taken.ns > 0 then write_taken(taken, reply, request, visibility_s and now + visibility_s) end
  if is_gated then reply[1] = moving.seconds_until(taking.looks_at(taken, due_at)) end
  return with_extras(reply)
end

return taking
