-- parents: reads how the parents of a job stand.
-- Keys: ids, in:<n>, and j:<n>, d:<n>, l:<n>, r:<n>, w:<n> of the parents. Work: one page of them.
-- ARGV: now, job id, after, how many.
-- Returns for each: id, traits, state, error, result, cause, whether it is gone.
local n = call('HGET', NS .. 'ids', ARGV[2])
if not n or n == 'tomb' then return {} end
return use('parents').list(n, tonumber(ARGV[3]), tonumber(ARGV[4]))
