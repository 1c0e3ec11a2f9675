-- get_blob: reads one piece of a blob; nothing where the blob is not whole.
-- Keys: blob:<job id>. Work: one piece.
-- ARGV: now, job id, digest, number of the piece.
-- Returns how many pieces there are, and the piece.
local key = NS .. 'blob:' .. ARGV[2]
local pieces = call('HGET', key, ARGV[3])
if not pieces then return {} end
return { pieces, call('HGET', key, ARGV[3] .. ':' .. ARGV[4]) }
