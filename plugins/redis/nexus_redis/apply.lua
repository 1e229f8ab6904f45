-- Makes all changes of a batch, or none; made again with the same operation, it only repeats its answer.
-- KEYS: the hash of all entries, the sorted set of their keys, the answer of this operation.
-- ARGV: how long to keep the answer in ms, then for each change its letter, its key and its numbers.
-- Answers "ok" and the total of each change, "limit" or "number" with the index of a change, or "void", in lines.

local MAX_DIGITS, LAST_PLACE, MAX_ADJUSTED = 60, -119, 60
local CHUNK = 14  -- digits that a double adds exactly

local function trailing_zeros(digits)
  return #string.match(string.reverse(digits), '^0*')
end

local function is_exact(digits, exponent)
  local significant = #digits - trailing_zeros(digits)
  return significant == 0 or (significant <= MAX_DIGITS
    and exponent + #digits - significant >= LAST_PLACE
    and exponent + #digits - 1 <= MAX_ADJUSTED)
end

-- A number is its sign, its digits without leading zeros, and the exponent of the last one, which is never positive.
local function number(text)
  local sign, whole, rest = string.match(text, '^([+-]?)(%d*)(.*)$')
  if not sign then return nil end
  local fraction, tail = string.match(rest, '^%.(%d*)(.*)$')
  if not fraction then fraction, tail = '', rest end
  if whole == '' and fraction == '' then return nil end
  local exponent = 0
  if tail ~= '' then
    local written = string.match(tail, '^[eE]([+-]?%d+)$')
    if not written then return nil end
    exponent = tonumber(written)
  end
  exponent = exponent - #fraction
  return {sign = sign == '-' and -1 or 1, digits = string.match(whole .. fraction, '^0*(.*)$'), exponent = exponent}
end

-- Of a stored number, which may be any text: without what makes its digits many.
local function stored(text)
  local read = number(text)
  if not read then return nil end
  if read.digits == '' then
    read.exponent = math.max(math.min(read.exponent, 0), LAST_PLACE)
    return read
  end
  if not is_exact(read.digits, read.exponent) then return nil end
  local cut = math.max(#read.digits - MAX_DIGITS, LAST_PLACE - read.exponent)
  cut = math.max(math.min(cut, trailing_zeros(read.digits)), 0)
  read.digits, read.exponent = string.sub(read.digits, 1, #read.digits - cut), read.exponent + cut
  if read.exponent > 0 then
    read.digits, read.exponent = read.digits .. string.rep('0', read.exponent), 0
  end
  return read
end

-- Adds or subtracts the digits of two numbers of one width; a difference below zero leaves a borrow.
local function combine(a, b, factor)
  local carry, out = 0, {}
  for last = #a, 1, -CHUNK do
    local sum = tonumber(string.sub(a, last - CHUNK + 1, last))
      + factor * tonumber(string.sub(b, last - CHUNK + 1, last)) + carry
    carry = math.floor(sum / 1e14)
    table.insert(out, 1, string.format('%014.0f', sum - carry * 1e14))
  end
  return table.concat(out), carry
end

local function add(a, b)
  local exponent = math.min(a.exponent, b.exponent)
  local x = a.digits .. string.rep('0', a.exponent - exponent)
  local y = b.digits .. string.rep('0', b.exponent - exponent)
  local width = (math.floor(math.max(#x, #y) / CHUNK) + 1) * CHUNK
  x, y = string.rep('0', width - #x) .. x, string.rep('0', width - #y) .. y
  local sign, digits, borrow = a.sign, nil, 0
  if a.sign == b.sign then
    digits = combine(x, y, 1)
  else
    digits, borrow = combine(x, y, -1)
    if borrow < 0 then sign, digits = b.sign, combine(y, x, -1) end
  end
  return {sign = sign, digits = string.match(digits, '^0*(.*)$'), exponent = exponent}
end

local function text(sum)
  local digits, exponent = sum.digits, sum.exponent
  local cut = math.max(math.min(#digits - MAX_DIGITS, -exponent, trailing_zeros(digits)), 0)
  digits, exponent = string.sub(digits, 1, #digits - cut), exponent + cut
  digits = string.rep('0', 1 - exponent - #digits) .. digits
  local sign = (sum.sign < 0 and sum.digits ~= '') and '-' or ''
  if exponent == 0 then return sign .. digits end
  return sign .. string.sub(digits, 1, exponent - 1) .. '.' .. string.sub(digits, exponent)
end

local function exceeds(sum, limit)
  local above = add(sum, {sign = -limit.sign, digits = limit.digits, exponent = limit.exponent})
  return above.sign > 0 and above.digits ~= ''
end

local entries, order, operation = KEYS[1], KEYS[2], KEYS[3]
local made = redis.call('GET', operation)
if made then return made end

local written, keys, answer = {}, {}, {'ok'}
local at = 2
local function write(key, value)
  if written[key] == nil then table.insert(keys, key) end
  written[key] = value
end

while at <= #ARGV do
  local letter, key = ARGV[at], ARGV[at + 1]
  if letter == 'P' then
    write(key, ARGV[at + 2])
    table.insert(answer, '')
    at = at + 3
  elseif letter == 'D' then
    write(key, false)
    table.insert(answer, '')
    at = at + 2
  else
    local value = written[key]
    if value == nil then value = redis.call('HGET', entries, key) end
    local before = stored(value or '0')
    local total = before and add(before, number(ARGV[at + 2]))
    if not total or not is_exact(total.digits, total.exponent) then return 'number\n' .. #answer end
    at = at + 3
    if letter == 'L' then
      if exceeds(total, number(ARGV[at])) then return 'limit\n' .. #answer .. '\n' .. text(before) end
      at = at + 1
    end
    local sum = text(total)
    write(key, sum)
    table.insert(answer, sum)
  end
end

-- A full or read-only server refuses this first write, so that nothing has changed.
answer = table.concat(answer, '\n')
redis.call('SET', operation, answer, 'PX', ARGV[1])
for _, key in ipairs(keys) do
  local value = written[key]
  if value then
    redis.call('HSET', entries, key, value)
    redis.call('ZADD', order, 0, key)
  else
    redis.call('HDEL', entries, key)
    redis.call('ZREM', order, key)
  end
end
return answer
