-- Schedules, by their names, and when those that are awake are due.
local ticking = {}

function ticking.put(name, schedule, next_at)
  call('HSET', NS .. 'schedules', name, schedule)
  if next_at == '' then
    call('ZREM', NS .. 'ticks', name)
  else
    call('ZADD', NS .. 'ticks', next_at, name)
  end
end

-- `kind` is '' where nothing is told.
function ticking.tell(kind, name)
  if kind == '' then return end
  use('past').tell(kind, name)
  use('past').write()
end

return ticking
