-- sessions: lists the open sessions, oldest first.
-- Keys: sessions, session:<id>, held:<id>. Work: the open sessions.
local replies = {}
for i, id in ipairs(call('ZRANGE', NS .. 'sessions', 0, -1)) do
  local facts = call('HMGET', NS .. 'session:' .. id, 'facts', 'beat', 'joined_at', 'beat_at')
  facts[5] = call('SCARD', NS .. 'held:' .. id)
  replies[i] = facts
end
return replies
