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

-- The id of the job that waits for a limit first, '' for none.
local function first_at(gauge)
  local first = gauge and cmsgpack.unpack(gauge)[8]
  local row = first and use('rows').of(first[1])
  return row and row.id or ''
end

-- A valve as clients are told of it: name, setting or false, gauge or false, who holds it, and who waits for it first.
function configuring.told(kind, name)
  local key = key_of(kind, name)
  local gauge = key and call('HGET', NS .. 'gauges', key)
  return {
    name, call('HGET', NS .. 'set:' .. kind, name), gauge, key and call('ZCARD', NS .. 'holders:' .. key) or 0,
    first_at(gauge),
  }
end

return configuring
