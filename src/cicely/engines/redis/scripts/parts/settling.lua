-- Judges outcomes by their tokens and records those that hold. Reads each claim once, all in one call.
local rows, endings = use('rows'), use('endings')
local settling = {}
local FENCES, RUN, GATED = rows.FENCES, rows.RUN, rows.GATED

-- Gives back what a claim passed that ends well.
local function conclude_flow(n, session, started_at, queue, passed, told)
  local flow = use('flow')
  if passed[4] ~= '' then flow.heed({ n = n, session = session, started_at = started_at, passed = passed }, told) end
  flow.give_back(n, queue, started_at, passed, told)
end

-- Records the outcome of a claim; nil where that does not hold.
local function conclude(n, request, fence, plan, run, payload, last_payload)
  local off, asked, session, started_at, why, deadline_at, claims, flags, errors, crashes, lost, id, queue, keep_s, _,
    unique, task = limit(run, RUN)
  if asked ~= request or (claims + 1) % FENCES ~= fence then return nil end
  if plan[1] == 'succeeded' and why == '' and not deadline_at and unique == '' then
    endings.succeed(
      n, session, request, started_at, claims + 1, flags, errors, crashes, lost, id, queue, keep_s, payload,
      task
    )
    local passed = flags >= GATED and rows.passed(run, off, flags)
    if passed then conclude_flow(n, session, started_at, queue, passed, plan[8]) end
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
