-- The throttle of log-ins, one decision per call: the arithmetic of model/throttle.rs on Redis' own time.
-- KEYS: counts of the e-mail address, of the client's address, of the pair; until when the pair is known.
-- ARGV: what to do; whether there is a client address; whether the place is the pair's; its two `until`; now in ms
--       (empty: Redis' time); then the rules: free per e-mail address and per client address, keep, keep after waits, longest
--       wait in s, how long a pair stays known.
local act, has_address, known = ARGV[1], ARGV[2] == '1', ARGV[3] == '1'
local until_email, until_address, now = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local free_email, free_address = tonumber(ARGV[7]), tonumber(ARGV[8])
local keep, keep_waits, longest, keep_known = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local function text(n) return string.format('%.0f', n) end

local function load(key)
  local f, u, g = string.match(redis.call('GET', key) or '', '^(%d+) (%d+) (%d+)$')
  if f and tonumber(g) > now then return tonumber(f), tonumber(u), tonumber(g) end
  return 0, 0, 0
end

local function save(key, f, u, g)
  redis.call('SET', key, text(f) .. ' ' .. text(u) .. ' ' .. text(g), 'PX', text(g - now))
end

-- The count with one failure more, or the wait.
local function reserve(key, free)
  local f, u = load(key)
  if now < u then return nil, u - now end
  f = f + 1
  if f < free then return { key, f, 0, now + keep }, 0 end
  u = now + math.min(2 ^ (f - free), longest) * 1000
  return { key, f, u, u + keep_waits }, 0
end

local function release(key, reserved)
  local f, u, g = load(key)
  if f <= 1 then redis.call('DEL', key) return end
  if u == reserved then u = 0 end
  save(key, f - 1, u, g)
end

if act == 'reserve' then
  if has_address and (tonumber(redis.call('GET', KEYS[4]) or '0') or 0) > now then
    local pair, wait = reserve(KEYS[3], free_email)
    if not pair then return { 0, wait, 0, 0 } end
    save(unpack(pair))
    return { 1, 1, pair[3], 0 }
  end
  local email, wait = reserve(KEYS[1], free_email)
  if not has_address then
    if not email then return { 0, wait, 0, 0 } end
    save(unpack(email))
    return { 1, 0, email[3], 0 }
  end
  local address, wait_address = reserve(KEYS[2], free_address)
  if not email or not address then return { 0, math.max(wait, wait_address), 0, 0 } end
  save(unpack(email))
  save(unpack(address))
  return { 1, 0, email[3], address[3] }
elseif act == 'undecided' then
  if known then release(KEYS[3], until_email) return { 1, 0, 0, 0 } end
  release(KEYS[1], until_email)
  if has_address then release(KEYS[2], until_address) end
else
  if act == 'proven' and not known then
    redis.call('DEL', KEYS[1])
    if has_address then release(KEYS[2], until_address) end
  end
  if has_address then
    redis.call('DEL', KEYS[3])
    redis.call('SET', KEYS[4], text(now + keep_known), 'PX', text(keep_known))
  end
end
return { 1, 0, 0, 0 }
