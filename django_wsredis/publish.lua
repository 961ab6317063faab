-- Publish a message, and keep it in the channel's stream, in one atomic step: its id is its place in the stream.
--
-- KEYS: the channel's name, which is its stream's too; and the name of a key that makes it once only, where there is one
-- ARGV: PUBLISH or SPUBLISH; the envelope's head without an id, its head with one, all that follows the id;
--       how many entries are kept and for how many seconds (0: none); for how many seconds the key is remembered
-- Returns how many workers received it; of a repeated key nothing is done, and that is -1.
local name, once = KEYS[1], KEYS[2]
local word, head, head_with_id, tail = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local entries, seconds, key_seconds = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]

if once and redis.call('EXISTS', once) == 1 then
    return -1
end

-- What may not be published must not be kept, or it would never come. Redis 6 has no such question, and raises at the end.
if redis.acl_check_cmd and not redis.acl_check_cmd(word, name, '') then
    return redis.call(word, name, '') -- Redis says what is missing
end

local message = head .. tail
if seconds > 0 then
    local fields = {'m', message}
    -- A stream may be begun but empty: somebody waited for its first message, from a position that only this entry proves.
    if redis.call('XLEN', name) == 0 and redis.call('EXISTS', name) == 1 then
        local info = redis.call('XINFO', 'STREAM', name)
        for i = 1, #info, 2 do
            if info[i] == 'last-generated-id' then
                fields = {'m', message, 'after', info[i + 1]}
            end
        end
    end
    local id = redis.call('XADD', name, 'MAXLEN', '=', entries, '*', unpack(fields))
    local milliseconds = tonumber(string.match(id, '^%d+'))
    redis.call('XTRIM', name, 'MINID', '=', string.format('%.0f', math.max(0, milliseconds - seconds * 1000)))
    redis.call('EXPIRE', name, seconds)
    message = head_with_id .. string.char(#id) .. id .. tail
end

if once then
    redis.call('SET', once, '', 'EX', key_seconds)
end
return redis.call(word, name, message)
