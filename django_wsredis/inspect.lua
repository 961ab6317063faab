-- Tell what a channel's stream holds, without its messages.
--
-- KEYS: the stream
-- Returns {how many entries, the id of the oldest, that of the newest, milliseconds to live, the time in milliseconds}.
local name = KEYS[1]
local oldest = redis.call('XRANGE', name, '-', '+', 'COUNT', 1)[1]
local newest = redis.call('XREVRANGE', name, '+', '-', 'COUNT', 1)[1]
local now = redis.call('TIME')
return {
    redis.call('XLEN', name), oldest and oldest[1] or '', newest and newest[1] or '', redis.call('PTTL', name),
    now[1] * 1000 + math.floor(now[2] / 1000)
}
