-- Jobs per queue and state, gathered over one call and written once.
local counts, counted = {}, {}

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
  for queue, states in pairs(counted) do
    for state, jobs in pairs(states) do
      if jobs ~= 0 then call('HINCRBY', NS .. 'count', queue .. '|' .. state, jobs) end
    end
  end
  counted = {}
end

return counts
