-- What clients are told of a job's node.
local node = {}

-- Returns false for a job without one, else waits, held, pending, workflow, group, event, cause.
function node.told(n, record)
  local is_read, _, _, flags = pcall(limit, record, 2)
  if not is_read or type(flags) ~= 'number' or flags % 4 < 2 then return false end
  return call('HMGET', NS .. 'w:' .. n, 'waits', 'held', 'pending', 'workflow', 'group', 'event', 'cause')
end

return node
