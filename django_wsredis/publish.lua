-- Keep a message and publish it in one atomic step, so that its id is its place in the stream.
-- KEYS[1]: the channel's name, which is its stream's too
-- ARGV: the envelope's head without an id, its head with one, all that follows the id, seconds to keep it
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '=', '1', '*', 'm', ARGV[1] .. ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return redis.call('PUBLISH', KEYS[1], ARGV[2] .. string.char(#id) .. id .. ARGV[3])
