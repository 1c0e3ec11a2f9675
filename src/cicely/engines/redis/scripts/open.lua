-- open: writes the format of an empty namespace, and returns the format that is there.
-- Keys: meta. Work: constant.
call('HSETNX', NS .. 'meta', 'format', ARGV[2])
return call('HGET', NS .. 'meta', 'format')
