-- The workers that live: a worker says that it does, and whoever asks is told of all.
--
-- KEYS: the sorted set of their announcements, each scored with the second in which it ends
-- ARGV: for a worker its announcement and the seconds for which it holds; nothing for who asks
-- Returns the announcements. By Redis' clock, as those of the workers may differ.
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if ARGV[1] then
    redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
    redis.call('EXPIRE', KEYS[1], ARGV[2])
    return {}
end
return redis.call('ZRANGE', KEYS[1], 0, -1)
