-- Judges outcomes by their tokens and records those that hold. Reads each claim once, all in one call.
local rows, endings = use('rows'), use('endings')
local settling = {}
local FENCES, RUN, GATED = rows.FENCES, rows.RUN, rows.GATED
-- So many values of a record's head go before its id.
local HEAD = 5
-- So many values of a claim stand behind it, before what was passed.
local BEHIND = 5

-- The claims of a call are mostly alike: in all before and behind the id of their job. Reads what the first has there.
local function note_alike(run, fence, session, flags)
  local alike = endings.alike
  if not alike then return end
  local size = limit(run, rows.CLAIM + HEAD)
  local off = limit(run, 1, size)
  alike.fence, alike.size, alike.before = fence, size, sub(run, 1, size)
  alike.behind, alike.session, alike.is_gated = sub(run, off + 1, (limit(run, BEHIND, off))), session, flags >= GATED
end

-- What claims passed, by how that is written.
local passed_in = {}

local function passed_of(text)
  local passed = passed_in[text]
  if not passed then
    passed = cmsgpack.unpack(text)
    passed_in[text] = passed
  end
  return passed
end

-- Records the success of a claim that is like the one before; false where it is not.
local function is_concluded(alike, n, request, fence, run, payload, told)
  local size = alike.size
  if alike.request ~= request or alike.fence ~= fence or sub(run, 1, size) ~= alike.before then return false end
  local off, id = limit(run, 1, size)
  local last = off + #alike.behind
  if sub(run, off + 1, last) ~= alike.behind or (#run > last) ~= alike.is_gated then return false end
  if not endings.succeed_alike(alike, n, id, payload) then return false end
  if alike.is_gated then
    local passed = passed_of(sub(run, last + 1))
    use('flow').conclude(n, alike.session, alike.queue, alike.started_at, passed, told)
  end
  return true
end

-- Records the outcome of a claim; nil where that does not hold.
local function conclude(n, request, fence, plan, run, payload, last_payload)
  local is_success, told = plan[1] == 'succeeded', plan[8]
  local is_reserving = told and (told[8] or told[9])
  if is_success and not is_reserving and endings.alike 
    and is_concluded(endings.alike, n, request, fence, run, payload, told) then return 'a' end
  local off, asked, session, started_at, why, deadline_at, claims, flags, errors, crashes, lost, id, queue, keep_s, _,
    unique, task = limit(run, RUN)
  if asked ~= request or (claims + 1) % FENCES ~= fence then return nil end
  if is_success and why == '' and not deadline_at and unique == '' then
    local passed = flags >= GATED and rows.passed(run, off, flags)
    if is_reserving then
      local job = { n = n, id = id, session = session, flags = flags, passed = passed }
      use('reservations').heed(job, told[8], told[9])
    end
    endings.succeed(
      n, session, request, started_at, claims + 1, flags, errors, crashes, lost, id, queue, keep_s, payload,
      task
    )
    if passed then use('flow').conclude(n, session, queue, started_at, passed, told) end
    note_alike(run, fence, session, flags)
    return 'a'
  end
  if made.releases then made.releases.write() end
  local job = rows.claimed(n, run)
  job.receipt = request
  if not use('decisions').carry_out(job, plan, payload, last_payload) then
    use('receipts').keep(request, n, fence, { outcome = plan[1], session = session, since = now })
  end
  return 'a'
end

-- ARGV[at]: plans; ARGV[at + 1]: how many outcomes; then three for each: its token's n, request and
-- fence with the number of its plan; its payload; the payload of its last step.
-- Returns a letter per outcome: a(ccepted), k(nown already), s(tale).
function settling.settle(at)
  local total = tonumber(ARGV[at + 1])
  if total == 0 then return '' end
  local plans = cmsgpack.unpack(ARGV[at])
  local ns, requests, fences, choices = {}, {}, {}, {}
  for i = 1, total do
    local _, n, request, fence, choice = limit(ARGV[at + 3 * i - 1], 4)
    ns[i], requests[i], fences[i], choices[i] = n, request, fence, choice
  end
  local runs = read_all(NS .. 'runs', ns)
  local verdicts, accepted = {}, {}
  for i = 1, total do
    local n, request, fence, plan, place = ns[i], requests[i], fences[i], plans[choices[i]], at + 3 * i
    -- What follows from one outcome comes before the next, which it may have cancelled.
    if made.agenda then
      made.agenda.run()
      if use('graph').has_marked then runs[i] = call('HGET', NS .. 'runs', n) end
    end
    local verdict = runs[i] and not accepted[n]
      and conclude(n, request, fence, plan, runs[i], ARGV[place], ARGV[place + 1])
    if verdict then
      accepted[n] = i
    else
      local said = accepted[n]
      local is_repeated = said and requests[said] == request and fences[said] == fence
      local outcome = is_repeated and plans[choices[said]][1] or use('receipts').find(request, n, fence)
      verdict = outcome == plan[1] and 'k' or 's'
    end
    verdicts[i] = verdict
  end
  if made.releases then made.releases.write() end
  endings.write()
  return table.concat(verdicts)
end

return settling
