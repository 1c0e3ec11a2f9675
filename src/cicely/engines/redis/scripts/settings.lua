-- settings: lists the settings of a kind, and the valves of that kind that stand as new ones do not.
-- Keys: set:<kind>, gauges, holders:<key>. Work: the settings.
-- ARGV: now, kind. Returns now, then for each its name, setting or false, gauge or false, who holds it, and the
-- id of who waits for it first or ''.
local kind, seen = ARGV[2], {}
local replies = { string.format('%.17g', now) }
for _, name in ipairs(call('HKEYS', NS .. 'set:' .. kind)) do
  seen[name] = true
  replies[#replies + 1] = use('configuring').told(kind, name)
end
if kind == 'limit' or kind == 'breaker' then
  for _, key in ipairs(call('HKEYS', NS .. 'gauges')) do
    local is_breaker = use('valves').is_breaker(key)
    local name = is_breaker and sub(key, #'breaker%3A' + 1) or key
    if is_breaker == (kind == 'breaker') and not seen[name] then
      replies[#replies + 1] = use('configuring').told(kind, name)
    end
  end
end
return replies
