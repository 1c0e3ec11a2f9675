-- open: writes the format of an empty namespace (none for ''), and returns the format that is there.
-- Keys: meta. Work: constant.
if ARGV[2] ~= '' then call('HSETNX', NS .. 'meta', 'format', ARGV[2]) end
return call('HGET', NS .. 'meta', 'format')
