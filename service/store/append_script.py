"""The scripts that write behaviours inside Redis: each is atomic, one round trip, and its work is bounded.

`APPEND_SCRIPT` appends. It reports when a user's value must be put in order, because it is over its maximum length or
because many late behaviours arrived. The service then chooses the records to keep (service/store/retention.py: the
script cannot know which items a model knows), and `REPLACE_SCRIPT` replaces the value with them.
"""

from __future__ import annotations

from typing import Final

from contract.behaviours.actions import ACTIONS
from contract.behaviours.records import MAX_TIME_MS

SLACK: Final = 1_000  # records of one request, so that none is lost before the service can choose
MAX_LATE: Final = 16  # records older than the newest that one append may leave unsorted

_text = """
-- KEYS[1] the user's behaviours; ARGV: new records, most bytes to keep, time to live in seconds (0 = forever)
local key, new, keep, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local sub, byte, find = string.sub, string.byte, string.find
local over = keep + math.floor(keep / 96) * 24  -- put in order when 25% over, so that it is paid once in many appends
local most = 2 * keep + 24 * SLACK  -- no value grows beyond this, even if it is never put in order

local function time(text, at)
  local ms = 0
  for place = 15, 8, -1 do ms = ms * 256 + byte(text, at + place) end
  return ms
end

-- The same test as contract/behaviours/records.py: known action, a time that a calendar can represent, right checksum.
local function valid(text, at)
  local action = byte(text, at + 20)
  if action < 1 or action > ACTIONS then return false end
  if time(text, at) >= MAX_TIME_MS then return false end
  local sum = 46509
  for word = 0, 10 do
    local low, high = byte(text, at + 2 * word, at + 2 * word + 1)
    sum = sum + (2 * word + 1) * (low + 256 * high)
  end
  local low, high = byte(text, at + 22, at + 23)
  return sum % 65521 == low + 256 * high
end

-- A writer that died inside a write leaves a value that is not a whole number of records, and all records appended
-- after it out of step: keep only the valid records, at any byte.
local function healed(text)
  local records, at = {}, 1
  while at + 23 <= #text do
    if valid(text, at) then
      records[#records + 1] = sub(text, at, at + 23)
      at = at + 24
    else
      at = at + 1
    end
  end
  return table.concat(records)
end

local function stands_in(text, record)
  local at = find(text, record, 1, true)
  while at and at % 24 ~= 1 do at = find(text, record, at + 1, true) end
  return at ~= nil
end

-- Answered as it is: raised inside a script, WRONGTYPE would come out as part of another message.
local length = redis.pcall('STRLEN', key)
if type(length) == 'table' then return length end

local tail = redis.call('GETRANGE', key, -(most + 24), -1)
local rewrite = length > #tail
if length % 24 ~= 0 then tail, rewrite = healed(tail), true end

-- A few new records are looked for, many are looked up: indexing the tail costs more than some searches of it.
local known, fresh, few = {}, {}, #new <= 16 * 24
if not few then
  for at = 1, #tail, 24 do known[sub(tail, at, at + 23)] = true end
end
for at = 1, #new, 24 do
  local record = sub(new, at, at + 23)
  if not (known[record] or (few and stands_in(tail, record))) then
    known[record] = true
    fresh[#fresh + 1] = record
  end
end

local late = 0
if #tail >= 24 then
  local newest = time(tail, #tail - 23)
  for place = 1, #fresh do
    if time(fresh[place], 1) < newest then late = late + 1 end
  end
end

local added = table.concat(fresh)
if #tail + #added > most then
  redis.call('SET', key, sub(tail .. added, -keep))
elseif rewrite then
  redis.call('SET', key, tail .. added)
elseif #added > 0 then
  redis.call('APPEND', key, added)
end
if ttl > 0 then redis.call('EXPIRE', key, ttl) end
local wants_order = #tail + #added > over or late > LATE
return {#fresh, #new / 24 - #fresh, wants_order and 1 or 0}
"""
for _name, _number in (("ACTIONS", len(ACTIONS)), ("MAX_TIME_MS", MAX_TIME_MS), ("SLACK", SLACK), ("LATE", MAX_LATE)):
    _text = _text.replace(_name, str(_number))
APPEND_SCRIPT: Final = _text

REPLACE_SCRIPT: Final = """
-- KEYS[1] the user's behaviours; ARGV: SHA-1 of the bytes that were read, how many they were, what replaces them.
-- What was appended in the meantime stays behind it; where anything else has changed, nothing happens.
local value, length = redis.call('GETRANGE', KEYS[1], 0, -1), tonumber(ARGV[2])
if redis.sha1hex(string.sub(value, 1, length)) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[3] .. string.sub(value, length + 1), 'KEEPTTL')
return 1
"""
