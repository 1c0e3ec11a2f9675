-- configure: keeps settings, each in place of the one of its kind and name.
-- Keys: set:<kind>, meta, history, gates:<class>, gate:<key>, openings, and those of a ring. Work: the settings of the call.
-- ARGV: now, then for each kind, name, setting, and '1' where it bounds a backlog.
for i = 2, #ARGV, 4 do
  local key, name, setting = NS .. 'set:' .. ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if call('HGET', key, name) ~= setting then use('configuring').tell(ARGV[i], name, 'set') end
  call('HSET', key, name, setting)
  if ARGV[i + 3] == '1' then call('HSET', NS .. 'meta', 'bounded', '1') end
end
for i = 2, #ARGV, 4 do use('configuring').reconsider(ARGV[i], ARGV[i + 1]) end
if made.past then made.past.write() end
ring()
return 1
