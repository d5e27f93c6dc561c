-- One key of a client: in flight ('F' and its owner), or an answer ('K' and the rest).
-- KEYS: its name. ARGV: what to do; the owner's mark; for how long in ms; the answer.
local act, mark, ms, answer = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = redis.call('GET', KEYS[1])
if act == 'begin' then
  if known then return known end
  redis.call('SET', KEYS[1], mark, 'PX', ms)
elseif act == 'keep' then
  -- Without a mark the lease ran out and nobody else came: the answer is still the first one.
  if not known or known == mark then redis.call('SET', KEYS[1], answer, 'PX', ms) end
elseif known == mark then
  redis.call('DEL', KEYS[1])
end
return false
