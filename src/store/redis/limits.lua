-- Decides by several token buckets in one step: the arithmetic of model/gcra.rs on Redis' own time.
-- Numbers here are doubles, exact up to 2^53. So a time is a pair, as there: whole microseconds, and what is over in units
-- of 1/limit microseconds. A bucket is its debt: the time until it is full.
-- KEYS: the buckets. A value is "micros part limit burst period held_back": when it will be full, and the quota it was
--       charged under.
-- ARGV: now in microseconds (empty: Redis' time); how long to keep a full bucket, in ms; then for each bucket ten: limit,
--       burst, period, held back, time in which it fills (a pair), time of its cost (a pair), tokens to take ahead, whether
--       it is a shadow.
-- Answers three numbers for each bucket: its debt before the cost (a pair), tokens taken ahead.
local EACH = 10
local LARGEST_STEP = 60000000
local now, keep_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local function less(a, a_part, b, b_part) return a < b or (a == b and a_part < b_part) end

-- gcra's fill_micros, step by step.
local function fill(limit, burst, period, held) return (limit + burst) * period / limit - held end

local function asked(i)
  local at = 2 + (i - 1) * EACH
  local function arg(n) return tonumber(ARGV[at + n]) end
  return {
    limit = arg(1), burst = arg(2), period = arg(3), held = arg(4), full = arg(5), full_part = arg(6),
    cost = arg(7), cost_part = arg(8), ahead = arg(9), shadow = ARGV[at + 10] == '1',
  }
end

-- What is kept under a key; nothing when it holds something else, of whatever type: it is written over then.
local function kept(key)
  local value = redis.pcall('GET', key)
  if type(value) ~= 'string' then return nil end
  local m, part, limit, burst, period, held = string.match(value, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  if not m then return nil end
  m, part, limit, burst, period, held =
    tonumber(m), tonumber(part), tonumber(limit), tonumber(burst), tonumber(period), tonumber(held)
  if part >= limit or fill(limit, burst, period, held) <= 0 then return nil end
  return m, part, limit, burst, period, held
end

-- The debt of a bucket under the quota in force. Where that is not what is kept (another quota, a clock put back by much),
-- it is written whatever is decided: else each refusal would begin anew, and nothing would flow in.
local function load(key, b)
  b.debt, b.part = 0, 0
  local m, part, limit, burst, period, held = kept(key)
  if not m or not less(now, 0, m, part) then return end
  b.debt, b.part = m - now, part
  if limit ~= b.limit or burst ~= b.burst or period ~= b.period or held ~= b.held then
    local share = math.min((b.debt + part / limit) / fill(limit, burst, period, held), 1)
    b.debt, b.part = math.ceil(share * fill(b.limit, b.burst, b.period, b.held)), 0
    if not less(b.debt, b.part, b.full, b.full_part) then b.debt, b.part = b.full, b.full_part end
    b.changed = true
  elseif less(b.full + LARGEST_STEP, b.full_part, b.debt, b.part) then
    b.debt, b.part, b.changed = b.full, b.full_part, true
  end
end

local function plus(b, m, part, more, more_part)
  part = part + more_part
  if part >= b.limit then return m + more + 1, part - b.limit end
  return m + more, part
end

-- Whole tokens, at most `ahead`, that fit above a charged bucket; and the bucket with them.
local function take_ahead(b)
  local left, left_part = b.full - b.charged, b.full_part - b.charged_part
  if left_part < 0 then left, left_part = left - 1, left_part + b.limit end
  local function time_of(tokens)
    local units = tokens * b.period
    local part = math.fmod(units, b.limit)
    return (units - part) / b.limit, part
  end
  -- An estimate that rounding moves by one at most; then exactly.
  local tokens = math.min(b.ahead, math.floor((left + left_part / b.limit) * b.limit / b.period))
  while tokens > 0 and less(left, left_part, time_of(tokens)) do tokens = tokens - 1 end
  while tokens < b.ahead and not less(left, left_part, time_of(tokens + 1)) do tokens = tokens + 1 end
  b.charged, b.charged_part = plus(b, b.charged, b.charged_part, time_of(tokens))
  return tokens
end

local function save(key, b, debt, part)
  if debt == 0 and part == 0 then
    redis.call('DEL', key)
    return
  end
  local value = string.format('%.0f %.0f %.0f %.0f %.0f %.0f', now + debt, part, b.limit, b.burst, b.period, b.held)
  redis.call('SET', key, value, 'PX', string.format('%.0f', math.ceil((debt + 1) / 1000) + keep_ms))
end

local buckets, pass = {}, true
for i, key in ipairs(KEYS) do
  local b = asked(i)
  load(key, b)
  b.charged, b.charged_part = plus(b, b.debt, b.part, b.cost, b.cost_part)
  b.fits = not less(b.full, b.full_part, b.charged, b.charged_part)
  if not b.fits and not b.shadow then pass = false end
  buckets[i] = b
end

local answer = {}
for i, key in ipairs(KEYS) do
  local b, ahead = buckets[i], 0
  if pass and b.fits then
    if b.ahead > 0 then ahead = take_ahead(b) end
    save(key, b, b.charged, b.charged_part)
  elseif b.changed then
    save(key, b, b.debt, b.part)
  end
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3] = b.debt, b.part, ahead
end
return answer
