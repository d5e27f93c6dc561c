-- Says that a replica is here and counts those that said so lately, on Redis' own time.
-- KEYS: a sorted set, replicas by when they last said so (ms). ARGV: this one's name; for how long it counts, in ms.
local lasting = tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(n) return string.format('%.0f', n) end
local said = redis.pcall('ZADD', KEYS[1], text(now), ARGV[1])
if type(said) == 'table' and said.err then -- it holds something else, which is nobody's
  redis.call('DEL', KEYS[1])
  redis.call('ZADD', KEYS[1], text(now), ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - lasting))
-- From a clock that has been put back.
redis.call('ZREMRANGEBYSCORE', KEYS[1], text(now + lasting), '+inf')
redis.call('PEXPIRE', KEYS[1], text(lasting))
return redis.call('ZCARD', KEYS[1])
