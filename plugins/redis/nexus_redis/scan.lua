-- Returns a page of entries in the order of their keys: first the keys, then their values.
-- KEYS: the hash of all entries, the sorted set of their keys. ARGV: the bounds of the keys, how many.
local keys = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
if #keys == 0 then return {{}, {}} end
return {keys, redis.call('HMGET', KEYS[1], unpack(keys))}
