-- Replaces the claims of one replica, and returns what it may use of each limit.
-- KEYS: the sorted set of replicas by when their claims expire, the hash of all claims by replica, and this operation,
-- which exists if it is void.
-- ARGV: the replica, for how many ms, then for each claim its key and its seven numbers:
--   limit, in_use, wanted, unmet, clients, prompt_tokens, answer_tokens.
-- Returns nothing if it is void; else the number of replicas, then for each claim seven numbers:
--   slots; of the others in_use, prompt_tokens, answer_tokens, unmet, clients; and the slots that no replica has.

local replicas, claims, replica = KEYS[1], KEYS[2], ARGV[1]
if redis.call('EXISTS', KEYS[3]) == 1 then return {} end
-- The clock of the server, which all replicas share.
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)

local expired = redis.call('ZRANGEBYSCORE', replicas, '-inf', now)
for _, name in ipairs(expired) do
  redis.call('ZREM', replicas, name)
  redis.call('HDEL', claims, name)
end

-- By key, what the other replicas hold and want.
local others = {}
local all = redis.call('HGETALL', claims)
for at = 1, #all, 2 do
  if all[at] ~= replica then
    for key, held in pairs(cmsgpack.unpack(all[at + 1])) do
      local sum = others[key] or {0, 0, 0, 0, 0, 0}
      for index = 1, 6 do sum[index] = sum[index] + held[index] end
      others[key] = sum
    end
  end
end

local mine, answer = {}, {0}
for at = 3, #ARGV, 8 do
  local key = ARGV[at]
  local limit, in_use, wanted = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local unmet, clients = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local other = others[key] or {0, 0, 0, 0, 0, 0}
  local slots = math.max(in_use, math.min(wanted, limit - other[1]))
  mine[key] = {slots, in_use, tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7]),
    unmet + math.max(0, wanted - slots), clients}
  answer[#answer + 1] = slots
  for index = 2, 6 do answer[#answer + 1] = other[index] end
  answer[#answer + 1] = math.max(0, limit - other[1] - slots)
end

redis.call('ZADD', replicas, now + ARGV[2], replica)
redis.call('HSET', claims, replica, cmsgpack.pack(mine))
answer[1] = redis.call('ZCARD', replicas)
return answer
