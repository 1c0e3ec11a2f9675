-- signal: gives an event to the oldest job that waits for it, or keeps it.
-- Keys: sent, mail:<event>, waiters:<event>, and those of the job. Work: constant.
-- ARGV: now, id, name, key, value.
-- Returns the job's id, or ''.
local id = use('suspending').signal(ARGV[2], ARGV[3], ARGV[4], ARGV[5])
ring()
return id
