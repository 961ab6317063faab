-- Read what a channel's stream holds, and tell whether nothing is missing.
--
-- KEYS: the stream
-- ARGV: the position after which to read, or '' for the newest; how many entries at most; the oldest time of the newest
--       (milliseconds of age); for how many seconds to begin a stream that is not there (0: not at all); how many bytes
--       and entries at most to return, though at least one entry
-- Returns {1 if nothing after the position is missing, the stream's end, the entries from old to new}.
local name, since, count = KEYS[1], ARGV[1], tonumber(ARGV[2])
local max_age, begin_seconds = tonumber(ARGV[3]), tonumber(ARGV[4])
local max_bytes, max_entries = tonumber(ARGV[5]), tonumber(ARGV[6])

local function cut(entries)
    local bytes = 0
    for i, entry in ipairs(entries) do
        bytes = bytes + #entry[2][2]
        if (bytes > max_bytes and i > 1) or i > max_entries then
            local first = {}
            for j = 1, i - 1 do
                first[j] = entries[j]
            end
            return first
        end
    end
    return entries
end

if redis.call('EXISTS', name) == 0 then
    if begin_seconds == 0 then
        return {since == '' and 1 or 0, '', {}}
    end
    -- Empty, but with an end: a position from which nothing can be missed. It needs some 300 bytes.
    local id = redis.call('XADD', name, '*', 'm', '')
    redis.call('XTRIM', name, 'MAXLEN', '=', 0)
    redis.call('EXPIRE', name, begin_seconds)
    return {since == '' and 1 or 0, id, {}}
end

local last
local info = redis.call('XINFO', 'STREAM', name)
for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
        last = info[i + 1]
    end
end

if since == '' then
    local oldest = '-'
    if max_age > 0 then
        local now = redis.call('TIME')
        oldest = string.format('%.0f', math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - max_age))
    end
    local newest = count > 0 and redis.call('XREVRANGE', name, '+', oldest, 'COUNT', count) or {}
    local entries = {}
    for i = #newest, 1, -1 do
        entries[#entries + 1] = newest[i]
    end
    return {1, last, cut(entries)}
end

local entries = redis.call('XRANGE', name, '(' .. since, '+', 'COUNT', count)
-- A position is sound if its entry is still there, or is the stream's end, or the first entry says that it came after it.
local first = entries[1] and entries[1][2]
local is_whole = since == last or (first and first[3] == 'after' and first[4] == since)
    or #redis.call('XRANGE', name, since, since) == 1
return {is_whole and 1 or 0, last, cut(entries)}
