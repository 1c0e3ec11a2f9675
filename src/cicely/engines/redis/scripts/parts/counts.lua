-- Jobs per queue and state, and how many have ended in all, gathered over one call and written once.
local counts, counted = {}, {}
local FINAL = { succeeded = true, failed = true, cancelled = true, expired = true }

function counts.add(queue, state, jobs)
  local states = counted[queue]
  if not states then
    states = {}
    counted[queue] = states
  end
  states[state] = (states[state] or 0) + jobs
end

function counts.move(queue, source, target, jobs)
  counts.add(queue, source, -jobs)
  counts.add(queue, target, jobs)
end

function counts.write()
  local ended = 0
  for queue, states in pairs(counted) do
    for state, jobs in pairs(states) do
      if jobs ~= 0 then call('HINCRBY', NS .. 'count', queue .. '|' .. state, jobs) end
      if FINAL[state] then ended = ended + jobs end
    end
  end
  if ended ~= 0 then call('HINCRBY', NS .. 'meta', 'ended', ended) end
  counted = {}
  if made.past then
    made.past.write()
  elseif made.tally then
    made.tally.write()
  end
end

return counts
