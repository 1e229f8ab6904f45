-- Gives back all slots of one replica.
-- KEYS: the sorted set of replicas, and the hash of their claims. ARGV: the replica.
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
