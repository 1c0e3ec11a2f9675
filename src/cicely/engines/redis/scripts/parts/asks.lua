-- What an ask of a demand still takes: slots of any task first, then short jobs as a buffer.
local asks = {}
local SMALLEST_READ, LARGEST_READ = 1, 512

-- As a demand says: kinds, slots, pace, buffer_s, limit, the most jobs that it can take.
function asks.ask(wanted)
  local ask = {
    kinds = {}, slots = wanted[2], pace = wanted[3], has_pace = next(wanted[3]) ~= nil, buffer_s = wanted[4],
    limit = wanted[5], size = math.max(SMALLEST_READ, math.min(wanted[6], LARGEST_READ)), taken = 0, spent_s = 0,
  }
  for _, kind in ipairs(wanted[1]) do ask.kinds[kind] = true end
  return ask
end

-- Counts a job of a task with this pace; false where the ask has no room for it.
function asks.admit(ask, pace_s)
  if ask.taken >= ask.slots then
    ask.spent_s = ask.spent_s + pace_s
    if ask.taken >= ask.limit or ask.spent_s > ask.buffer_s then return false end
  end
  ask.taken = ask.taken + 1
  return true
end

function asks.is_full(ask)
  return ask.taken >= ask.slots and (not ask.has_pace or ask.taken >= ask.limit)
end

return asks
