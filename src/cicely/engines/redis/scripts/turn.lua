-- turn: trips or resets a breaker by hand.
-- Keys: set:breaker, gauges, holders:<key>, gates:<class>, gate:<key>, openings, and those of a ring. Work: constant.
-- ARGV: now, breaker, move. Returns 1 where that changed anything.
local valves = use('valves')
local has_changed = valves.turn(valves.of('breaker%3A' .. ARGV[2]), ARGV[3])
valves.write()
ring()
return has_changed and 1 or 0
