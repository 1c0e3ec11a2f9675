-- Carries out what the client decided, for the case that is found.
--
-- A plan: outcome, charge, limit, step, last step, step when cancelling, outcome then, what it tells (see the part
-- `flow`; nil for nothing); a step: state, '' to run
-- again or 'suspended', reason, delay_s, is_alone, has_started. Of a failure that blames breakers a ninth: the step
-- after a probe, its outcome, and how many of these are free (see after_probe in core/outcome.py). `charge` says which of errors, crashes and lost (1 to 3, 0 for none)
-- is raised; the last step is taken when that reached its limit. A reason WHY stands for the one that was given
-- when the job was cancelled.
local counts, rows, endings = use('counts'), use('rows'), use('endings')
local decisions = {}
local WHY = '\0'

function decisions.keep_attempt(n, attempt, fence, reason, started_at, ended_at, session, error)
  call('RPUSH', NS .. 'a:' .. n, pack(attempt, fence, reason, started_at, ended_at, session) .. error)
end

-- Has a job run another time; `tallies` are charged already. Without a delay it keeps its old place.
local function again(job, tallies, outcome, step, error)
  local n, row = job.n, rows.of(job.n)
  if not row then
    counts.add(job.queue, 'running', -1)
    return
  end
  local delay_s, is_alone, has_started = step[3], step[4], step[5]
  if has_started then
    decisions.keep_attempt(n, job.attempt, job.fence, outcome, job.started_at, now, job.session, rows.bin(error))
    use('past').went_on(job, outcome, step[2])
  end
  row.fence, row.attempt, row.started_at, row.reason = job.fence, job.attempt, job.started_at, step[2]
  row.errors, row.crashes, row.lost = tallies[1], tallies[2], tallies[3]
  if is_alone then row.kind = 'isolated' end
  row.shuns = job.shuns or ''
  if job.shuns and not rows.has(row.flags, rows.GATED) then row.flags = row.flags + rows.GATED end
  if has_started then row.expires_at = nil end
  if delay_s then
    row.due_at = now + delay_s
    row.rank = row.base + math.floor(row.due_at * 1000000)
    call('ZADD', NS .. 'due', row.due_at, n)
    counts.move(row.queue, 'running', 'scheduled', 1)
  else
    use('ready').add(row)
    counts.move(row.queue, 'running', 'ready', 1)
  end
  if row.expires_at then call('ZADD', NS .. 'expiring', row.expires_at, n) end
  call('SET', NS .. 'j:' .. n, rows.record(row))
  if error ~= '' then call('HSET', NS .. 'l:' .. n, 'error', error) end
end

-- Whether a claim was a probe that costs its job nothing.
local function is_free_probe(job, plan)
  local probe = plan[9]
  if not probe or not job.passed or not use('flow').was_probe(job, plan[8]) then return false end
  local _, outcome, most = unpack(probe)
  local last = call('LRANGE', NS .. 'a:' .. job.n, -most, -1)
  if #last < most then return true end
  for _, attempt in ipairs(last) do
    local _, _, _, word = limit(attempt, 3)
    if word ~= outcome then return true end
  end
  return false
end

-- Returns whether the job has ended. `payload` is the result of a success, else the error; `last_payload` the
-- error of the last step.
function decisions.carry_out(job, plan, payload, last_payload)
  local tallies = { job.errors, job.crashes, job.lost }
  local outcome, charge, step = plan[1], plan[2], plan[4]
  if job.why ~= '' then
    step, outcome, payload = plan[6], plan[7], ''
  elseif is_free_probe(job, plan) then
    step, outcome = plan[9][1], plan[9][2]
  elseif charge > 0 then
    tallies[charge] = tallies[charge] + 1
    if plan[3] > 0 and tallies[charge] >= plan[3] then
      step, payload = plan[5], last_payload
    end
  end
  local told = plan[8]
  if told and (job.passed or told[3] or told[6]) then use('flow').heed(job, told) end
  if told and (told[8] or told[9]) then
    use('reservations').heed(job, job.why == '' and told[8], told[9])
  end
  endings.leave_run(job.n, job.session, job.request, job.deadline_at)
  if job.passed then use('flow').give_back(job.n, job.queue, job.started_at, job.passed, plan[8]) end
  local state, reason = step[1], step[2]
  if state == '' then
    again(job, tallies, outcome, step, payload)
    return false
  end
  if state == 'suspended' then
    use('suspending').suspend(job, reason, payload)
    return false
  end
  if reason == WHY then reason = job.why end
  job.errors, job.crashes, job.lost = tallies[1], tallies[2], tallies[3]
  if state == 'succeeded' then
    endings.finish(job, state, reason, outcome, '', payload)
  else
    endings.finish(job, state, reason, outcome, payload, '')
  end
  return true
end

-- The same of each of some jobs; what follows from one comes before the next, which it may have cancelled.
function decisions.carry_out_all(jobs, plan, last_payload)
  for _, job in ipairs(jobs) do
    if made.agenda then
      made.agenda.run()
      local run = call('HGET', NS .. 'runs', job.n)
      job = run and rows.claimed(job.n, run)
    end
    if job then decisions.carry_out(job, plan, '', last_payload) end
  end
  endings.write()
end

return decisions
