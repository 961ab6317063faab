-- Read what a channel's stream holds, and tell whether nothing is missing.
--
-- KEYS: the stream
-- ARGV: the position after which to read, or '' for the newest; how many entries at most; the oldest time of the newest
--       (milliseconds of age); for how many seconds to begin a stream that is not there (0: not at all); how many bytes
--       and entries at most to read, though at least one entry; in front of which entry to look for the newest, or ''
-- Returns {1 if nothing after the position is missing, the stream's end, the entries from old to new}. Where the newest
-- are more than may be read at once these are none, and two more follow, to call it again: in front of which entry it
-- goes on, and how many are still to be found there.
local name, since, count = KEYS[1], ARGV[1], tonumber(ARGV[2])
local max_age, begin_seconds = tonumber(ARGV[3]), tonumber(ARGV[4])
local max_bytes, max_entries = tonumber(ARGV[5]), tonumber(ARGV[6])
local before = ARGV[7]

-- Read a page, in small steps: what is beyond it costs time as well, in which Redis serves nobody else.
-- Returns its entries, and whether the stream has no more of them.
local function page(command, from, to)
    local entries, bytes, step = {}, 0, 1
    local length = math.min(count, max_entries)
    while #entries < length and bytes <= max_bytes do
        local wanted = math.min(step, length - #entries)
        local found = redis.call(command, name, from, to, 'COUNT', wanted)
        for _, entry in ipairs(found) do
            bytes = bytes + #entry[2][2]
            if bytes > max_bytes and #entries > 0 then
                return entries, false
            end
            entries[#entries + 1] = entry
        end
        if #found < wanted then
            return entries, true
        end
        from, step = '(' .. found[#found][1], math.min(step * 2, 16)
    end
    return entries, false
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
    -- Found from the newest on, but sent from the oldest on.
    local newest, is_all = page('XREVRANGE', before == '' and '+' or '(' .. before, oldest)
    local first = newest[#newest]
    if first and not is_all and #newest < count then
        return {1, last, {}, first[1], count - #newest}
    end
    if not first and before ~= '' then -- there is no older one, or not any more
        return {1, last, (page('XRANGE', before, '+'))}
    end
    local entries = {}
    for i = #newest, 1, -1 do
        entries[#entries + 1] = newest[i]
    end
    return {1, last, entries}
end

local entries = page('XRANGE', '(' .. since, '+')
-- A position is sound if its entry is still there, or is the stream's end, or the first entry says that it came after it.
local first = entries[1] and entries[1][2]
local is_whole = since == last or (first and first[3] == 'after' and first[4] == since)
    or #redis.call('XRANGE', name, since, since) == 1
return {is_whole and 1 or 0, last, entries}
