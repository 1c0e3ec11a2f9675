-- Settings by kind and name, `set:<kind>`: limits, breakers, weights of lanes, notes.
local configuring = {}

local function key_of(kind, name)
  if kind == 'breaker' then return 'breaker%3A' .. name end
  return kind == 'limit' and name
end

-- Has the gates of a setting's key open or shut as its valve says now.
function configuring.reconsider(kind, name)
  local key = key_of(kind, name)
  if key then use('gates').reconsider(use('valves').of(key)) end
end

-- Tells of a setting; of notes nothing is.
function configuring.tell(kind, name, what)
  if kind ~= 'note' then use('past').tell(kind .. '.' .. what, name) end
end

-- A valve as clients are told of it: name, setting or false, gauge or false, who holds it.
function configuring.told(kind, name)
  local key = key_of(kind, name)
  return {
    name, call('HGET', NS .. 'set:' .. kind, name), key and call('HGET', NS .. 'gauges', key),
    key and call('ZCARD', NS .. 'holders:' .. key) or 0,
  }
end

return configuring
