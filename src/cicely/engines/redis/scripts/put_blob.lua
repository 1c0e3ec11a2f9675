-- put_blob: keeps one piece of a blob; the last piece makes it whole.
-- Keys: blob:<job id>, blobs. Work: one piece.
-- ARGV: now, job id, digest, number of the piece, its bytes, how many pieces there are ('' before the last),
-- the blob's place in `blobs`, when to look whether its job was stored.
local key = NS .. 'blob:' .. ARGV[2]
call('HSET', key, ARGV[3] .. ':' .. ARGV[4], ARGV[5])
call('ZADD', NS .. 'blobs', now + ARGV[8], ARGV[7])
if ARGV[6] ~= '' then call('HSET', key, ARGV[3], ARGV[6]) end
return 1
