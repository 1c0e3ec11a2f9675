-- steer: cancels, revives or discards jobs on a person's behalf.
-- Keys: ids, those of a job that ends, runs again or is deleted, of those after it, and session:<id> of its worker.
-- Work: the jobs that are named, and 256 of those that follow.
-- ARGV: now, move, reason, ids...
-- Returns the ids that were moved.
local reason = ARGV[3]
local graph, rows, endings = use('graph'), use('rows'), use('endings')
local moves = {}

function moves.cancel(n, run, ended)
  return not ended and graph.cancel(n, run, reason, '')
end

function moves.revive(n, _, ended)
  if not ended then return false end
  local _, state = limit(ended, 1)
  local row, undoing = rows.of(n), use('undoing')
  if state == 'succeeded' or not row or undoing.has_holder(row) then return false end
  local is_node = rows.has(row.flags, rows.NODE)
  local broken = is_node and call('HGET', NS .. 'w:' .. n, 'broken')
  if broken and broken ~= '0' then return false end
  undoing.revive(row, ended, reason)
  use('past').revived(row)
  return true
end

function moves.discard(n, _, ended)
  return ended and not use('burying').has_live_child(n) and use('burying').bury(n)
end

local replies, seen = {}, {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local n = not seen[id] and call('HGET', NS .. 'ids', id)
  seen[id] = true
  if n and n ~= 'tomb' and call('EXISTS', NS .. 'j:' .. n) == 1 then
    if moves[ARGV[2]](n, call('HGET', NS .. 'runs', n), call('GET', NS .. 'd:' .. n)) then
      replies[#replies + 1] = id
    end
    -- What follows from one comes before the next.
    endings.write()
  end
end
ring()
return replies
