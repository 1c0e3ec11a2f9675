-- queues: lists every queue with its count per state.
-- Keys: count, paused. Work: the queues.
return { call('HGETALL', NS .. 'count'), call('SMEMBERS', NS .. 'paused') }
