#!lua name=optimus

--[[ OPTIMUS: where each message stands, and the only ways to change it.

Many submitters, agents and operators share this data. Any of them may die between two calls, repeat
a call whose answer was lost, or act on an outdated view. So every change is one function here, and
Redis runs one function at a time. Each function looks before it writes: the same call changes
nothing the second time, and says so. One file, because Redis loads it as one.

The states of a message, each written in exactly one place:

                          cut, to a node
              ┌────────────────────────────────┐
     RPUSH    │     cut              assign    ▼      commit               settle
   ────────▶ inbox ────────▶ lot, ready ─────▶ lot, assigned ─────▶ committed ─────────▶ gone, its
              │                ▲  ▲    ▲          │    │               │                 id is
              │                │  │    └─ parked ◀┤park│               │                 remembered
              │                │  └── reassign ───┘    │ refuse        │                  ▲
              ▼                │      epoch + 1        ▼               │                  │
        known already:         ├───── retry ───── quarantine ── drop ─────│──────────────────┘
        dropped                └────── lose, uncommit, absent ─────────┘
                                             a new lot

Operators: `operate` deletes a message from the inbox, a lot, held or quarantine (gone, its id
remembered); holds it (from the inbox or a lot to held); releases it (from held to a new lot);
requeues it (from held, quarantine or an assigned lot to a new lot). In the inbox and at a node no
function reaches the message. There the operator's will is noted as an *order*. In the inbox, cut
carries it out. At a node, its Mail Agent does, and reports it by obey. If the message comes back to
Redis first, lose, uncommit or absent carries the order out.

Submission is one RPUSH and no function. Redis checks the caller's ACL for every command inside a
function too, so a user of a function that stores a message could overwrite any message. RPUSH to
one key can only add. So the inbox holds whatever submitters have pushed: an id twice, when an
answer was lost; an id that was disowned meanwhile; malformed entries. They are sorted out when a
lot is cut from the inbox's head.

The client in Rust reads m:, node:<node>:mail and :deferred, quarantine:why, and counts by their
names, and writes none but the inbox.

Keys. All start with the shard's prefix, which is KEYS[1] of every call, so that one call stays in
one hash slot.

   spool                 string  the spool's identity, a ULID: made once, for the first client that
                                 connects, and never changed
   inbox                 list    submitted messages that are in no lot: id and message in one, see
                                 message.rs. The oldest comes first.
   inbox:taken           number  number of entries that cut and tidy have taken from it. So each
                                 entry has a number that stays, and a page can start behind the last
                                 entry that was read, however many are cut meanwhile.
   malformed             list    the first MALFORMED_BYTES of malformed entries, for a person to
                                 look at. The last MALFORMED_MAX of them are kept, until
                                 MALFORMED_MS after the last one came.
   inbox:orders          hash    id -> delete|hold, for a message in the inbox. cut carries it out.
   inbox:ordered         hash    id -> time (ms) of that order; of the same ids
   held                  hash    id -> time (ms) of the hold. Such a message is in no lot and takes
                                 no node's credit.
   disowned              zset    id -> max(now, time in the id) (ms), as of disown. An id is removed
                                 no sooner than REMEMBER_MS after that, and only when the inbox is
                                 empty: a copy there might have come before.
   m:<id>                string  the message: see message.rs. Written by cut, removed by settle and
                                 drop, never changed.
   lot:<n>               hash    state ready|assigned|parked, epoch, cut (ms), node when assigned,
                                 lane when parked
   lot:<n>:ids           hash    id -> '' of each message that is not committed. A small hash takes
                                 a third of a set's memory and keeps the order of arrival.
   lots:next             number  the last lot number given out
   lots:ready            zset    lots that wait for a node, lowest number first
   lanes                 zset    lane -> time (ms) of its beginning. Lanes are the destinations, by
                                 domain, for which lots are parked. After LANES_MAX of them, lane
                                 * is for all others.
   lane:<lane>           zset    the parked lots of a lane, lowest number first. They wait until a
                                 node has room for the destination.
   nodes                 set     nodes that have a lot or committed mail
   node:<node>:lots      zset    the lots assigned to the node
   node:<node>:mail      hash    queue id -> id and commit number of a message that is committed to
                                 the node and not settled. Values of earlier versions lack the
                                 number.
   node:<node>:deferred  zset    id -> next attempt (ms), for a committed message that rests in the
                                 node's deferred queue; or +inf, for one in its hold queue until the
                                 administrator releases it
   node:<node>:orders    hash    id -> delete|hold|release|requeue, for a message committed to the
                                 node. The node's own Postfix must do it. If the message comes back
                                 to Redis first, it is done here. The order ends when it is carried
                                 out, and with the message.
   node:<node>:ordered   hash    id -> time (ms) of the order, for the same ids
   node:<node>:agent     hash    two subjects; removed 400 days after the last change.
                                 Of the Mail Agent that arrived last: start, which fences earlier
                                 ones; seen, the time (ms) of the arrival; and fenced, the start of
                                 the Mail Agent before the node moved.
                                 Of the node: commits, the last commit number given out; mark, the
                                 number up to which all are released, as its disk has safely noted;
                                 floor, the last number given out before its disk was put back;
                                 nonce, generation, place, host and live (ms) of the pickup-rs that
                                 serves its queue, see attend and lose; refused and refused_at (ms),
                                 the host of a copy and the time of its last call; rivals, the
                                 nonces refused since the node attended last; copies, the nonces of
                                 certain copies;
                                 ahead and ahead_since (ms), while a Redis that was put back waits
                                 for the latest state of the node's disk.
   quarantine            zset    id -> time (ms) of the refusal, for a message in quarantine
   quarantine:why        hash    id -> reason
   done:<id's first 6>   hash    id -> s (settled or dropped) or d (deleted by an operator), for ids
                                 of the same 17 minutes. Removed 24.5 to 25 hours after its last
                                 change, or after the time in the ids if that is later.
   counts                hash    event -> lifetime counter; for people, nothing decides by it

Invariants

   I1  An id in lot:<n>:ids, node:<node>:mail, held or quarantine is in exactly one of them, once,
       and m:<id> exists.
   I2  An id in done: or disowned is in none of them, and m:<id> doesn't exist. A disowned id never
       enters.
   I3  No lot is empty. A lot is in exactly one of lots:ready, node:<node>:lots and lane:<lane>, as
       its state says. The lanes that have lots are in lanes, and no others.
   I4  A function that takes a lot from its node raises its epoch in the same step. So (lot, epoch)
       names one tenure of one node, and a commit under an ended tenure is fenced.
   I5  An id in node:<node>:deferred is in node:<node>:mail. It takes none of the node's credit.
   I6  An entry leaves the inbox only in the step that writes it elsewhere, or that finds it known
       or malformed.
   I7  An id in inbox:orders is in the inbox and in no other place, and isn't remembered. An id in
       node:<node>:orders is in node:<node>:mail.

The limit of I2: a settled id is remembered for REMEMBER_MS. If the answer to a push was lost, a
second copy follows within seconds. This copy is sent again if it is cut later than that. All Info
Agents would have to stop just between the two, for a day, while the first copy is delivered.

A function may assume I1 to I5 and I7, and arguments of the right form, since only this project's
clients call it. It must not assume that anything its caller saw is still so. An error in mid-call
(as a key whose type another program changed) does not undo earlier writes. Therefore cut lists its
lot only when nothing more of that can fail, then writes the messages, and removes the inbox's
entries last. settle remembers the id before it erases anything. A crash leaves all of a function's
writes or none: they reach the append-only file as one transaction.

A notice (PUBLISH on <prefix>notices) means only "look now": `inbox` (sent by submitters),
`cut <n>`, `ready <n>`, `assigned <node>`, `ordered <node>`. Nothing relies on it. Of a small lot
that was just cut the notice is `assigned <node> <n> <id>...` (decision 0036).

A call may name its spool by a second key, <prefix>spool:<identity>. If this Redis has another
identity, or none since it was emptied, the function does nothing and answers the error OTHERSPOOL.

Every function takes now (Unix ms) as its first argument; '' means Redis's own clock, and only tests
pass another value.
]]

local LOT_MAX = 10000          -- ids in a lot, whatever a cut asks for: bounds a reply of fetch
-- Bytes that one cut moves, unless its first message alone is larger: some 20 ms
local CUT_BYTES = 4 * 1024 * 1024
local SMALL_LOT = 8            -- ids that the notice of an assigned lot may carry
local ID_BYTES = 26            -- a ULID's text
-- Bytes of entries that one peek reads, as estimated from the entries before
local PEEK_BYTES = 4 * 1024 * 1024
-- Entries that peek reads by one command. Each command walks the list from one end: some 100 us to
-- the middle of 100,000. With 16 at once, 16 of the largest might follow 16 short ones.
local PEEK_AT_ONCE = 4
local MALFORMED_BYTES = 64 * 1024
local MALFORMED_MAX = 1000
local MALFORMED_MS = 30 * 24 * 3600 * 1000
-- Entries in one call of a batch function: some 15 ms of Redis's one thread
local BATCH_MAX = 1000
local LOTS_PER_CALL = 100      -- lots that one reassign or fetch touches
local LANE_LOTS_MAX = 10000     -- lots of one lane in a reply
local LANES_MAX = 20           -- lanes by name: a node reads all of them at each look
local OTHERS = '*'             -- the lane of all other destinations
local LOSE_PER_CALL = 500      -- messages that one lose moves; also the size of the lots it makes
local AGENTS_PER_CALL = 1000   -- agents that one directory or reap looks at
-- The one reason that refuse can verify; as Damage::Missing in message.rs
local MISSING = 'the message is missing'
local REASON_MAX = 500         -- bytes of a reason that are kept
local DISOWN_MS = 24 * 3600 * 1000  -- age up to which an id can be disowned
-- Time for which settled and disowned ids are remembered, from now or from the time in the id
local REMEMBER_MS = 25 * 3600 * 1000
local RENEW_MS = 1800 * 1000   -- shortfall of that time without a renewal, which saves writes
local WATCH_MS = 60000         -- a Scheduler that lets more time pass was away
local NONCES_MAX = 16          -- nonces of copies of one node that are remembered
local AHEAD_MS = 10000         -- time that a Redis put back waits for a disk's latest state
local AGENT_S = 400 * 24 * 3600 -- time for which node:<node>:agent is kept
-- Time that an ended Mail Agent stays listed. crates/settings keeps agents.node_loss_grace_s below
-- it, or a dead node would never be given up.
local GONE_MS = 30 * 24 * 3600 * 1000

-- redis.call doesn't exist yet while the library is loaded.
local function call(...) return redis.call(...) end

local function message(p, id) return p .. 'm:' .. id end
local function lot(p, n) return p .. 'lot:' .. n end
local function ids(p, n) return p .. 'lot:' .. n .. ':ids' end
local function lots_of(p, node) return p .. 'node:' .. node .. ':lots' end
local function mail_of(p, node) return p .. 'node:' .. node .. ':mail' end
local function deferred_of(p, node) return p .. 'node:' .. node .. ':deferred' end
local function lane_of(p, lane) return p .. 'lane:' .. lane end
local function orders_of(p, node) return p .. 'node:' .. node .. ':orders' end
local function ordered_of(p, node) return p .. 'node:' .. node .. ':ordered' end
local function agent_of(p, node) return p .. 'node:' .. node .. ':agent' end

-- Parts of a value in node:<node>:mail.
local function id_of(value) return value and value:sub(1, ID_BYTES) end
local function number_of(value) return tonumber(value:sub(ID_BYTES + 1)) or 0 end
local function committed(p, node, queue_id)
  return id_of(call('HGET', mail_of(p, node), queue_id))
end

-- Enters a commit under this queue id, with the next number.
local function enter(p, node, queue_id, id)
  local number = call('HINCRBY', agent_of(p, node), 'commits', 1)
  call('HSET', mail_of(p, node), queue_id, id .. number)
  return number
end

local function done(p, id) return p .. 'done:' .. id:sub(1, 6) end

local function time_ms(now)
  if now ~= '' then return tonumber(now) end
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function count(p, what, by)
  if by > 0 then call('HINCRBY', p .. 'counts', what, by) end
end

-- Adds the number of each of these answers to the counter of its name.
local function count_answers(p, answers, ...)
  local times = {}
  for _, answer in ipairs(answers) do times[answer] = (times[answer] or 0) + 1 end
  for _, what in ipairs({ ... }) do count(p, what, times[what] or 0) end
end

local function publish(p, text) call('PUBLISH', p .. 'notices', text) end

-- Splits the arguments from `first` on into entries of `width`. An error reply when there are too
-- many, or a part of one.
local function entries(args, first, width)
  local total = (#args - first + 1) / width
  if total ~= math.floor(total) or total > BATCH_MAX then
    local most = 'CALLER at most ' .. BATCH_MAX .. ' entries of ' .. width .. ' arguments'
    return nil, redis.error_reply(most)
  end
  local list = {}
  for i = first, #args, width do
    list[#list + 1] = { unpack(args, i, i + width - 1) }
  end
  return list
end

-- Lots --------------------------------------------------------------------------------------------

local function new_lot(p, now)
  local n = call('INCR', p .. 'lots:next')
  call('HSET', lot(p, n), 'state', 'ready', 'epoch', 1, 'cut', now)
  return n
end

local function make_ready(p, n)
  call('HSET', lot(p, n), 'state', 'ready')
  call('ZADD', p .. 'lots:ready', n, n)
  publish(p, 'ready ' .. n)
end

-- The notice says what the node must know of the lot, so that it need not ask.
local function hand_over(p, n, node, contents)
  call('SADD', p .. 'nodes', node)
  call('ZADD', lots_of(p, node), n, n)
  call('HSET', lot(p, n), 'state', 'assigned', 'node', node)
  publish(p, 'assigned ' .. node .. (contents or ''))
end

local function leave_lane(p, n, lane)
  call('ZREM', lane_of(p, lane), n)
  if call('EXISTS', lane_of(p, lane)) == 0 then call('ZREM', p .. 'lanes', lane) end
end

-- Removes a lot from the index of its state.
local function unlist(p, n)
  local at = call('HMGET', lot(p, n), 'state', 'node', 'lane')
  if at[1] == 'ready' then call('ZREM', p .. 'lots:ready', n) end
  if at[1] == 'assigned' then call('ZREM', lots_of(p, at[2]), n) end
  if at[1] == 'parked' then leave_lane(p, n, at[3]) end
end

local function take_out(p, n, id)
  call('HDEL', ids(p, n), id)
  if call('EXISTS', ids(p, n)) == 0 then
    unlist(p, n)
    call('DEL', lot(p, n))
  end
end

-- Whether the lot is assigned to this node under this epoch, and has the id.
local function holds(p, n, epoch, node, id)
  local at = call('HMGET', lot(p, n), 'state', 'epoch', 'node')
  return at[1] == 'assigned' and at[2] == epoch and at[3] == node
    and call('HEXISTS', ids(p, n), id) == 1
end

local function forget_if_idle(p, node)
  if call('EXISTS', lots_of(p, node), mail_of(p, node)) == 0 then
    call('SREM', p .. 'nodes', node)
  end
end

-- Messages ----------------------------------------------------------------------------------------

local DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

-- Whether one text comes before another by its bytes, as ids do by their time. `<` would follow the
-- locale of Redis.
local function precedes(a, b)
  for i = 1, math.min(#a, #b) do
    local of_a, of_b = a:byte(i), b:byte(i)
    if of_a ~= of_b then return of_a < of_b end
  end
  return #a < #b
end

local function is_id(text)
  return #text == ID_BYTES and text:find('^[0-7][0-9A-HJKMNP-TV-Z]*$') ~= nil
end

-- Time in an id (ms): the first ten characters of a ULID.
local function made_ms(id)
  local ms = 0
  for i = 1, 10 do ms = ms * 32 + DIGITS:find(id:sub(i, i), 1, true) - 1 end
  return ms
end

-- Remembers an id for longer than it can be disowned, also one from a fast clock.
local function remember(p, now, id, how)
  local wanted_ms = REMEMBER_MS + math.max(0, made_ms(id) - now)
  call('HSET', done(p, id), id, how or 's')
  -- Each renewal is one more line in the append-only file, so they are few.
  if call('PTTL', done(p, id)) < wanted_ms - RENEW_MS then
    call('PEXPIRE', done(p, id), wanted_ms)
  end
end

local function is_disowned(p, id) return call('ZSCORE', p .. 'disowned', id) end

local function remembered(p, id)
  return call('HEXISTS', done(p, id), id) == 1 or is_disowned(p, id)
end

local function stored(p, id) return call('EXISTS', message(p, id)) == 1 end

local function inbox_order(p, id) return call('HGET', p .. 'inbox:orders', id) end
local function end_inbox_order(p, id)
  call('HDEL', p .. 'inbox:orders', id)
  call('HDEL', p .. 'inbox:ordered', id)
end

-- disown(now, id) -> known | disowned | too_late
-- Decides a submission in doubt. After `disowned` no cut will ever store this id, whether it is in
-- the inbox or comes later. `too_late`: the message may have been settled and forgotten since. An
-- id is remembered until it is DISOWN_MS old by its own time, whatever clock made it: see remember.
local function disown(keys, args)
  local p, now, id = keys[1], time_ms(args[1]), args[2]
  if is_disowned(p, id) then return 'disowned' end
  if stored(p, id) or remembered(p, id) or inbox_order(p, id) then return 'known' end
  if made_ms(id) < now - DISOWN_MS then return 'too_late' end
  call('ZADD', p .. 'disowned', math.max(now, made_ms(id)), id)
  count(p, 'disowned', 1)
  return 'disowned'
end

-- The inbox ---------------------------------------------------------------------------------------

local function taken(p) return tonumber(call('GET', p .. 'inbox:taken') or 0) end

-- Sorts the inbox's first entries by their fate: at most `size` of them and CUT_BYTES, but at least
-- one. With `stops`, only those before the first that belongs in a lot.
local function sift(p, size, stops)
  local found = {
    fresh = {}, delete = {}, hold = {}, ordered = {}, malformed = {}, known = 0, entries = 0,
  }
  local is_here, bytes = {}, 0
  while found.entries < size do
    local entry = call('LINDEX', p .. 'inbox', found.entries)
    bytes = bytes + #(entry or '')
    if not entry or (found.entries > 0 and bytes > CUT_BYTES) then break end
    local id = entry:sub(1, ID_BYTES)
    if not is_id(id) then
      found.malformed[#found.malformed + 1] = entry
    else
      local order = inbox_order(p, id)
      if order then found.ordered[#found.ordered + 1] = id end
      if is_here[id] or stored(p, id) or remembered(p, id) then
        found.known = found.known + 1
      elseif stops and not order then
        break
      else
        local kind = found[order or 'fresh']
        is_here[id] = true
        kind[#kind + 1] = { id = id, value = entry:sub(ID_BYTES + 1) }
      end
    end
    found.entries = found.entries + 1
  end
  return found
end

-- Forgets old disowned ids when the inbox is empty: no copy is left there that they must stop.
local function forget_disowned(p, now)
  call('ZREMRANGEBYSCORE', p .. 'disowned', '-inf', now - REMEMBER_MS)
end

-- Keeps malformed entries, within limits: any submitter can push them.
local function keep_malformed(p, list)
  if #list == 0 then return end
  for _, entry in ipairs(list) do call('RPUSH', p .. 'malformed', entry:sub(1, MALFORMED_BYTES)) end
  count(p, 'malformed_given_up', math.max(0, call('LLEN', p .. 'malformed') - MALFORMED_MAX))
  call('LTRIM', p .. 'malformed', -MALFORMED_MAX, -1)
  call('PEXPIRE', p .. 'malformed', MALFORMED_MS)
end

-- Carries out the orders among the sifted entries, and removes the entries from the inbox. After an
-- earlier error they stay there as known ones: a later cut drops them. Answers the number of
-- entries left.
local function take_in(p, now, found)
  for _, it in ipairs(found.delete) do remember(p, now, it.id, 'd') end
  for _, it in ipairs(found.hold) do
    call('HSET', p .. 'held', it.id, now)
    call('SET', message(p, it.id), it.value)
  end
  for _, id in ipairs(found.ordered) do end_inbox_order(p, id) end
  keep_malformed(p, found.malformed)
  call('SET', p .. 'inbox:taken', taken(p) + found.entries)
  call('LTRIM', p .. 'inbox', found.entries, -1)
  local left = call('LLEN', p .. 'inbox')
  if left == 0 then forget_disowned(p, now) end
  count(p, 'submitted', #found.fresh + #found.hold + #found.delete)
  count(p, 'repeated', found.known)
  count(p, 'malformed', #found.malformed)
  return left
end

-- Makes a lot. It is listed last: after an error before that nobody sees it, and the next attempt
-- removes it.
local function make_lot(p, now, n, node, fresh)
  call('DEL', lot(p, n), ids(p, n))
  call('HSET', lot(p, n), 'state', 'ready', 'epoch', 1, 'cut', now)
  local contents = { n }
  for _, it in ipairs(fresh) do
    call('HSET', ids(p, n), it.id, '')
    if #fresh <= SMALL_LOT then contents[#contents + 1] = it.id end
  end
  if node == '' then return make_ready(p, n) end
  hand_over(p, n, node, #fresh <= SMALL_LOT and ' ' .. table.concat(contents, ' '))
end

-- cut(now, n, size, node or '') -> {cut, messages, entries left} | {nothing, 0, entries left} |
--    {already} | {early}
-- Makes lot n of the inbox's first entries, and assigns it to the node at once or makes it ready.
-- This needs n to be the next number: of several callers at once, and of a call and its repetition,
-- one succeeds. `nothing`: no entry was a message for a lot, so n is still the next number.
local function cut(keys, args)
  local p, now = keys[1], time_ms(args[1])
  local n, size, node = tonumber(args[2]), tonumber(args[3]), args[4]
  local last = tonumber(call('GET', p .. 'lots:next') or 0)
  if n ~= last + 1 then return { n <= last and 'already' or 'early' } end
  local found = sift(p, math.min(size, LOT_MAX), false)
  local is_lot = #found.fresh > 0
  if is_lot then make_lot(p, now, n, node, found.fresh) end
  for _, it in ipairs(found.fresh) do call('SET', message(p, it.id), it.value) end
  if is_lot then call('SET', p .. 'lots:next', n) end
  local left = take_in(p, now, found)
  if is_lot then publish(p, 'cut ' .. n) end
  return { is_lot and 'cut' or 'nothing', #found.fresh, left }
end

-- tidy(now, size) -> {entries taken, entries left}: takes from the inbox's head the entries that
-- belong in no lot.
local function tidy(keys, args)
  local p, now, size = keys[1], time_ms(args[1]), tonumber(args[2])
  local found = sift(p, math.min(size, LOT_MAX), true)
  if found.entries == 0 then return { 0, call('LLEN', p .. 'inbox') } end
  return { found.entries, take_in(p, now, found) }
end

local function assign_one(p, n, node)
  local at = call('HMGET', lot(p, n), 'state', 'epoch', 'node')
  if not at[1] then return { 'gone' } end
  if at[1] == 'assigned' then
    if at[3] == node then return { 'already', at[2] } end
    return { 'taken' }
  end
  unlist(p, n)
  hand_over(p, n, node)
  call('HDEL', lot(p, n), 'lane')
  return { 'assigned', at[2] }
end

-- assign(now, {n, node}...) -> {{assigned | already, epoch} | {taken} | {gone}...}
local function assign(keys, args)
  local list, wrong = entries(args, 2, 2)
  if wrong then return wrong end
  local answer = {}
  for i, entry in ipairs(list) do answer[i] = assign_one(keys[1], unpack(entry)) end
  return answer
end

-- Mail Agents -------------------------------------------------------------------------------------

-- A node has one Mail Agent, and for a moment two: a cut-off or slow one, and its successor.
-- `start` is a number from register that grows with each. So the node's lots are the later one's
-- from its arrival on: no earlier one changes anything that the later one has read since.
--
-- So every function by which a Mail Agent changes its node's lots or mail takes its start, as a
-- fencing token. Other callers also change a node's lots or mail. These guards fence them:
--
--   cut, assign        Info Agents: the lot's number and state. The node may hand the lot back.
--   reassign with ''   a Scheduler: the lot's epoch rises, which fences the lot's node
--   lose               a Scheduler: the grace since the last arrival and attendance
--   operate            an operator: the place where the message was seen, and an order for a node
--   attend             pickup-rs: its generation and nonce
--   register, renew, leave   an agent: its generation in the directory
--   suspect            a Scheduler: start and taken, as it saw them in the directory
--   supervise          a Scheduler: start, and the Scheduler that it saw there

-- arrive(now, node, start) -> arrived | already | superseded: the node's Mail Agent is about to
-- compare its disk with Redis. From then on lose leaves the node's commits alone, for its grace. A
-- Mail Agent arrives again while pickup-rs answers it and can't attend itself.
local function arrive(keys, args)
  local p, now, node, start = keys[1], time_ms(args[1]), args[2], tonumber(args[3])
  local at = call('HMGET', agent_of(p, node), 'start', 'seen', 'fenced')
  local last, seen, fenced = tonumber(at[1] or 0), tonumber(at[2] or 0), tonumber(at[3] or 0)
  if last > start or fenced >= start then return 'superseded' end
  if last == start and seen >= now then return 'already' end
  call('HSET', agent_of(p, node), 'start', start, 'seen', math.max(now, seen))
  call('EXPIRE', agent_of(p, node), AGENT_S)
  return 'arrived'
end

-- An error reply when a later Mail Agent of the node has arrived, or the node has moved to another
-- host; otherwise nil.
local function superseded(p, node, start)
  local at = call('HMGET', agent_of(p, node), 'start', 'fenced')
  local last, fenced = tonumber(at[1] or 0), tonumber(at[2] or 0)
  if last <= tonumber(start) and fenced < tonumber(start) then return nil end
  return redis.error_reply('SUPERSEDED by a later Mail Agent of ' .. node)
end

-- fetch(now, node, start, after) -> {more 0|1, {n, epoch, {id...}}...} | SUPERSEDED: the node's
-- lots with numbers above `after`. Reads only.
local function fetch(keys, args)
  local p, node, start, after = keys[1], unpack(args, 2)
  local late = superseded(p, node, start)
  if late then return late end
  local above = '(' .. after
  local numbers =
    call('ZRANGE', lots_of(p, node), above, '+inf', 'BYSCORE', 'LIMIT', 0, LOTS_PER_CALL)
  local answer, total = { 0 }, 0
  for _, n in ipairs(numbers) do
    if total >= LOT_MAX then break end
    local held = call('HKEYS', ids(p, n))
    total = total + #held
    answer[#answer + 1] = { n, call('HGET', lot(p, n), 'epoch'), held }
  end
  if #numbers == LOTS_PER_CALL or #answer - 1 < #numbers then answer[1] = 1 end
  return answer
end

-- pull(now, node, start, {n}...)
--   -> {{assigned | already, epoch} | {taken} | {gone}...} | SUPERSEDED
-- Parked lots for which the node has room, as its Mail Agent finds.
local function pull(keys, args)
  local p, node, start = keys[1], args[2], args[3]
  local list, wrong = entries(args, 4, 1)
  wrong = wrong or superseded(p, node, start)
  if wrong then return wrong end
  local answer = {}
  for i, entry in ipairs(list) do answer[i] = assign_one(p, entry[1], node) end
  return answer
end

-- Reason for which the caller may not commit or refuse an id.
local function not_yours(p, id)
  if stored(p, id) then return 'fenced' end
  return remembered(p, id) and 'settled' or 'unknown'
end

local function end_order(p, node, id)
  call('HDEL', orders_of(p, node), id)
  call('HDEL', ordered_of(p, node), id)
end

local function erase(p, now, node, queue_id, id, how)
  remember(p, now, id, how)
  call('HDEL', mail_of(p, node), queue_id)
  call('ZREM', deferred_of(p, node), id)
  end_order(p, node, id)
  call('UNLINK', message(p, id))
end

-- A queue id names one file. When it comes again with another message, the first message's file is
-- gone: delivered, or deleted before. Only the node knows which, so it must settle or uncommit the
-- first message before.
local function commit_one(p, node, id, n, epoch, queue_id)
  local before = call('HGET', mail_of(p, node), queue_id)
  if id_of(before) == id then
    local what = call('HGET', orders_of(p, node), id)
    return (what == 'delete' or what == 'hold') and 'ordered' or 'already', number_of(before)
  end
  if not holds(p, n, epoch, node, id) then return not_yours(p, id), 0 end
  if before then return 'occupied', 0 end
  local number = enter(p, node, queue_id, id)
  take_out(p, n, id)
  return 'committed', number
end

-- commit(now, node, start, {id, n, epoch, queue id}...)
--   -> {{committed | already | ordered, number} | {occupied | fenced | settled | unknown, 0}...} |
--   SUPERSEDED
-- The one decision: this message is this node's, under this queue id, and no other node's.
-- `ordered`: it was committed so before, and an operator's order stops it. `occupied`: another
-- message is committed under this queue id.
local function commit(keys, args)
  local p, node, start = keys[1], args[2], args[3]
  local list, wrong = entries(args, 4, 4)
  wrong = wrong or superseded(p, node, start)
  if wrong then return wrong end
  local answer, words = {}, {}
  for i, entry in ipairs(list) do
    local word, number = commit_one(p, node, unpack(entry))
    answer[i], words[i] = { word, number }, word
  end
  count_answers(p, words, 'committed', 'fenced')
  return answer
end

-- Makes a parked lot without messages.
local function new_parked(p, now, domain)
  local is_known = call('ZSCORE', p .. 'lanes', domain)
  local lane = (is_known or call('ZCARD', p .. 'lanes') < LANES_MAX) and domain or OTHERS
  local n = new_lot(p, now)
  call('HSET', lot(p, n), 'state', 'parked', 'lane', lane)
  call('ZADD', p .. 'lanes', 'NX', now, lane)
  call('ZADD', lane_of(p, lane), n, n)
  return n
end

-- park(now, node, start, domain, {id, n, epoch}...)
--   -> {parked | fenced | settled | unknown...} | SUPERSEDED
-- The destination has its share of the node's window. So these messages wait in one new lot, in the
-- destination's lane, until a node has room for it.
local function park(keys, args)
  local p, now, node, start, domain = keys[1], time_ms(args[1]), unpack(args, 2, 4)
  local list, wrong = entries(args, 5, 3)
  wrong = wrong or superseded(p, node, start)
  if wrong then return wrong end
  local answer, to = {}, nil
  for i, entry in ipairs(list) do
    local id, n, epoch = unpack(entry)
    if holds(p, n, epoch, node, id) then
      to = to or new_parked(p, now, domain)
      take_out(p, n, id)
      call('HSET', ids(p, to), id, '')
      answer[i] = 'parked'
    else
      answer[i] = not_yours(p, id)
    end
  end
  count_answers(p, answer, 'parked')
  forget_if_idle(p, node)
  return answer
end

-- settle(now, node, start, {queue id, id}...) -> {settled | already | unknown...} | SUPERSEDED
-- The queue file is gone. The id is compared too, because Postfix uses queue ids again and clients
-- repeat calls.
local function settle(keys, args)
  local p, now, node, start = keys[1], time_ms(args[1]), args[2], args[3]
  local list, wrong = entries(args, 4, 2)
  wrong = wrong or superseded(p, node, start)
  if wrong then return wrong end
  local answer = {}
  for i, entry in ipairs(list) do
    local queue_id, id = unpack(entry)
    if committed(p, node, queue_id) == id then
      erase(p, now, node, queue_id, id)
      answer[i] = 'settled'
    else
      answer[i] = remembered(p, id) and 'already' or 'unknown'
    end
  end
  count_answers(p, answer, 'settled')
  forget_if_idle(p, node)
  return answer
end

-- obey(now, node, start, {queue id, id, what}...) -> {obeyed | already...} | SUPERSEDED
-- The node's Postfix has carried out the order, so it ends. A deleted message leaves Redis in the
-- same step. `already`: the order has ended before, or another one has taken its place.
local function obey(keys, args)
  local p, now, node, start = keys[1], time_ms(args[1]), args[2], args[3]
  local list, wrong = entries(args, 4, 3)
  wrong = wrong or superseded(p, node, start)
  if wrong then return wrong end
  local answer, deleted = {}, 0
  for i, entry in ipairs(list) do
    local queue_id, id, what = unpack(entry)
    answer[i] = 'already'
    if committed(p, node, queue_id) == id and call('HGET', orders_of(p, node), id) == what then
      answer[i] = 'obeyed'
      if what == 'delete' then
        erase(p, now, node, queue_id, id, 'd')
        deleted = deleted + 1
      else
        end_order(p, node, id)
      end
    end
  end
  count_answers(p, answer, 'obeyed')
  count(p, 'settled', deleted)
  forget_if_idle(p, node)
  return answer
end

-- defer(now, node, start, {queue id, id, next attempt ms or +inf}...)
--   -> {deferred | already | unknown...} | SUPERSEDED
-- The message rests in the node's Postfix: deferred until then, or with +inf on hold.
local function defer(keys, args)
  local p, node, start = keys[1], args[2], args[3]
  local list, wrong = entries(args, 4, 3)
  wrong = wrong or superseded(p, node, start)
  if wrong then return wrong end
  local answer = {}
  for i, entry in ipairs(list) do
    local queue_id, id, next_ms = unpack(entry)
    if committed(p, node, queue_id) ~= id then
      answer[i] = 'unknown'
    else
      local changed = call('ZADD', deferred_of(p, node), 'CH', next_ms, id) == 1
      answer[i] = changed and 'deferred' or 'already'
    end
  end
  return answer
end

-- refuse(now, node, start, id, n, epoch, reason)
--   -> refused | present | already | fenced | settled | unknown | SUPERSEDED
-- The message itself is at fault: it waits in quarantine for a person, with the reason. `present`:
-- nothing is changed, because the message was reported missing and is here.
local function refuse(keys, args)
  local p, now, node, start = keys[1], time_ms(args[1]), args[2], args[3]
  local id, n, epoch, reason = unpack(args, 4)
  local late = superseded(p, node, start)
  if late then return late end
  if not holds(p, n, epoch, node, id) then
    return call('ZSCORE', p .. 'quarantine', id) and 'already' or not_yours(p, id)
  end
  if reason == MISSING and stored(p, id) then return 'present' end
  call('HSET', p .. 'quarantine:why', id, reason:sub(1, REASON_MAX))
  call('ZADD', p .. 'quarantine', now, id)
  take_out(p, n, id)
  forget_if_idle(p, node)
  count(p, 'refused', 1)
  return 'refused'
end

local function keep_no_longer(p, id)
  call('ZREM', p .. 'quarantine', id)
  call('HDEL', p .. 'quarantine:why', id)
end

-- retry(now, {id}...) -> {retried | already | missing | settled | unknown...}
-- Moves messages from quarantine to a new lot. `already`: it isn't in quarantine but on its way.
-- `missing`: the quarantine has the id without a message, which can only be dropped.
local function retry(keys, args)
  local p, now = keys[1], time_ms(args[1])
  local list, wrong = entries(args, 2, 1)
  if wrong then return wrong end
  local answer, n = {}, nil
  for i, entry in ipairs(list) do
    local id = entry[1]
    local is_kept, is_stored = call('ZSCORE', p .. 'quarantine', id), stored(p, id)
    if is_kept and is_stored then
      n = n or new_lot(p, now)
      call('HSET', ids(p, n), id, '')
      keep_no_longer(p, id)
      answer[i] = 'retried'
    elseif is_kept then
      answer[i] = 'missing'
    elseif is_stored then
      answer[i] = 'already'
    else
      answer[i] = remembered(p, id) and 'settled' or 'unknown'
    end
  end
  if n then make_ready(p, n) end
  count_answers(p, answer, 'retried')
  return answer
end

-- Removes messages from quarantine for good, and remembers their ids as settled. `kept`: it isn't
-- in quarantine but on its way.
local function give_up(keys, args, what)
  local p, now = keys[1], time_ms(args[1])
  local list, wrong = entries(args, 2, 1)
  if wrong then return wrong end
  local answer, given_up = {}, 0
  for i, entry in ipairs(list) do
    local id = entry[1]
    if call('ZSCORE', p .. 'quarantine', id) then
      remember(p, now, id)
      keep_no_longer(p, id)
      call('UNLINK', message(p, id))
      answer[i], given_up = 'dropped', given_up + 1
    elseif stored(p, id) then
      answer[i] = 'kept'
    else
      answer[i] = remembered(p, id) and 'already' or 'unknown'
    end
  end
  count(p, what, given_up)
  return answer
end

-- drop(now, {id}...) -> {dropped | already | kept | unknown...}: an operator's decision.
local function drop(keys, args) return give_up(keys, args, 'dropped') end

-- make_room(now, {id}...) -> {dropped | already | kept | unknown...}: a Scheduler's decision, when
-- the quarantine is over a limit.
local function make_room(keys, args) return give_up(keys, args, 'given_up') end

-- reassign(now, node, start or '') -> {lots made ready, more 0|1} | SUPERSEDED: takes a node's
-- uncommitted lots from it. With a start the node's own Mail Agent hands them back. Repeat while
-- there is more.
local function reassign(keys, args)
  local p, node, start = keys[1], args[2], args[3]
  local late = start ~= '' and superseded(p, node, start)
  if late then return late end
  local numbers = call('ZRANGE', lots_of(p, node), 0, LOTS_PER_CALL - 1)
  for _, n in ipairs(numbers) do
    call('HINCRBY', lot(p, n), 'epoch', 1)
    call('HDEL', lot(p, n), 'node')
    call('ZREM', lots_of(p, node), n)
    make_ready(p, n)
  end
  count(p, 'reassigned', #numbers)
  forget_if_idle(p, node)
  return { #numbers, call('EXISTS', lots_of(p, node)) }
end

-- Carries out an operator's order for a message that comes back from a node. A message that the
-- node's Postfix had on hold stays so, unless an order says otherwise. Answers `held` or `deleted`;
-- nil when the message must be sent.
local function carry_out(p, now, node, id, is_on_hold)
  local what = call('HGET', orders_of(p, node), id) or is_on_hold and 'hold'
  end_order(p, node, id)
  if what == 'hold' then
    call('HSET', p .. 'held', id, now)
    return 'held'
  elseif what == 'delete' then
    remember(p, now, id, 'd')
    call('UNLINK', message(p, id))
    return 'deleted'
  end
end

-- Moves a message from the node's table into lot n or a new one, and answers `sent` and the lot's
-- number. If the message is stopped: `held` or `deleted`, and n.
local function put_back(p, now, node, queue_id, id, sent, n)
  call('HDEL', mail_of(p, node), queue_id)
  local is_on_hold = call('ZSCORE', deferred_of(p, node), id) == 'inf'
  call('ZREM', deferred_of(p, node), id)
  local stopped = carry_out(p, now, node, id, is_on_hold)
  if stopped then return stopped, n end
  n = n or new_lot(p, now)
  call('HSET', ids(p, n), id, '')
  return sent, n
end

-- uncommit(now, node, start, why, {queue id, id}...)
--   -> {uncommitted | held | deleted | already...} | SUPERSEDED
-- The queue file is gone, and nothing proves that the message was sent: it goes to a new lot, for
-- any node. `held`, `deleted`: an order, or for `held` the node's own hold, stopped the message.
-- `why` is the counter: `uncommitted` when the file was never released, `resent` when the message
-- may have been sent.
local function uncommit(keys, args)
  local p, now, node, start, why = keys[1], time_ms(args[1]), unpack(args, 2, 4)
  local list, wrong = entries(args, 5, 2)
  wrong = wrong or superseded(p, node, start)
  if wrong then return wrong end
  local answer, n, moved = {}, nil, 0
  for i, entry in ipairs(list) do
    local queue_id, id = unpack(entry)
    answer[i] = 'already'
    if committed(p, node, queue_id) == id then
      answer[i], n = put_back(p, now, node, queue_id, id, 'uncommitted', n)
      if answer[i] == 'uncommitted' then moved = moved + 1 end
    end
  end
  if n then make_ready(p, n) end
  count(p, why, moved)
  count_answers(p, answer, 'held', 'deleted')
  forget_if_idle(p, node)
  return answer
end

-- Proof of delivery ------------------------------------------------------------------------------

-- Before a node releases files, it writes the *mark* on its disk: the number up to which all
-- commits are released. A disk that was put back to an earlier state has an earlier mark. A commit
-- above it was not released as far as that disk knows, and its file may never have been there.

local function numbers(p, node)
  local at = call('HMGET', agent_of(p, node), 'commits', 'mark', 'floor')
  return tonumber(at[1] or 0), tonumber(at[2] or 0), tonumber(at[3] or 0)
end

-- pickup-rs, which serves the node's queue directory, attends every one to three seconds. It shows
-- its last *nonce* and gives a new one; both are on the disk before. Nonces of one disk grow. A
-- copy and its original start from one state of a disk. The first of them to attend is the node,
-- and the other one is known as a copy at its first call.
--
-- While one place attends, other places and other states of the disk are refused. Later an old
-- nonce from the same host is a disk that was put back; from another host it is a copy. A clone of
-- a whole machine claims the same host. It is known as a copy once the place that was live attends
-- again after the clone's refusal: then both existed at one time. A refused pickup-rs never gives
-- another nonce, so a copy is known again by its nonce.
--
-- A nonce in Redis that is older than both of the disk shows that Redis was put back. Then Redis
-- can't tell the node from copies that it had refused. So it waits, and takes the disk with the
-- latest state of all that call.

-- Boot of a machine: the first word of a place.
local function boot(place) return place:match('^%S*') end

-- Whether the node is at another host or boot than before, and so has another Mail Agent.
local function has_moved(at, place, host)
  return at.place and at.place ~= place and (at.host ~= host or boot(at.place) ~= boot(place))
end

local function attendance(p, node)
  local key = agent_of(p, node)
  local is = call('HMGET', key, 'nonce', 'generation', 'place', 'host', 'live', 'start', 'rivals',
    'copies', 'ahead', 'ahead_since')
  return { nonce = is[1], generation = tonumber(is[2] or 0), place = is[3], host = is[4],
    live = tonumber(is[5] or 0), start = is[6], rivals = is[7] or '', copies = is[8] or '',
    ahead = is[9], ahead_since = tonumber(is[10] or 0) }
end

-- A list of nonces, the latest first. The oldest are forgotten.
local function has(nonces, nonce) return nonces:find(nonce, 1, true) ~= nil end
local function with(nonces, nonce)
  if has(nonces, nonce) then return nonces end
  return (nonce .. ' ' .. nonces):sub(1, NONCES_MAX * (ID_BYTES + 1))
end

-- Whether a disk that is ahead of Redis must wait, since another one may be further ahead. After
-- the wait Redis takes the furthest, which has the same time again to call. If it doesn't, the wait
-- begins anew.
local function must_wait(key, at, now, last)
  local waited = now - at.ahead_since
  local is_new = not at.ahead or waited < 0 or waited >= 2 * AHEAD_MS
  if is_new then call('HSET', key, 'ahead_since', now) end
  if is_new or precedes(at.ahead, last) then call('HSET', key, 'ahead', last) end
  return is_new or waited < AHEAD_MS or precedes(last, at.ahead)
end

-- Notes copies, now that a place is the node. If it was the node all the time, each rival refused
-- meanwhile existed beside it, and so is a copy.
local function note_copies(key, at, was_here)
  local copies = at.copies
  if was_here then
    for rival in at.rivals:gmatch('%S+') do copies = with(copies, rival) end
  end
  if copies ~= at.copies then call('HSET', key, 'copies', copies) end
  if at.rivals ~= '' then call('HDEL', key, 'rivals') end
  if at.ahead then call('HDEL', key, 'ahead', 'ahead_since') end
end

-- attend(now, node, generation or 0, last nonce, nonce, mark, place, host, live for ms, leaves 0|1)
--   -> {attended, generation, floor, ''} | {superseded | wait, 0, 0, ''} |
--   {occupied | elsewhere, 0, 0, host}
-- With generation 0 a pickup-rs begins, and is given a new generation. The same pair of nonces
-- again changes nothing else. `superseded`: another process has begun since. Two refusals, after
-- which pickup-rs serves nothing: `occupied`, the node is served at another place now; `elsewhere`,
-- it was served at another place last. `wait`: Redis was put back; ask again. When the node moves
-- to another host, its former Mail Agent is fenced. `mark` is the mark that the disk has safely. If
-- Redis knows a higher one, or the nonce is an old one, the disk was put back: absence proves
-- nothing about earlier commits. A mark above all numbers given out shows an earlier state of
-- Redis: no number is given out twice. A `live` further off than the given time was written by a
-- clock that was ahead of this one, and counts as over.
local function attend(keys, args)
  local p, now, node, generation = keys[1], time_ms(args[1]), args[2], tonumber(args[3])
  local last, nonce, mark = args[4], args[5], tonumber(args[6])
  local place, host, live_ms, leaves = unpack(args, 7)
  local key, at = agent_of(p, node), attendance(p, node)
  local current, is_live = at.generation, now < at.live and at.live <= now + live_ms
  if generation ~= 0 and generation ~= current then return { 'superseded', 0, 0, '' } end
  local is_ahead = at.nonce and precedes(at.nonce, last)
  local continues = not at.nonce or at.nonce == last or at.nonce == nonce or is_ahead
  local refusal = at.nonce and is_live and not (continues and at.place == place) and 'occupied'
    or not continues and (at.host ~= host or has(at.copies, nonce)) and 'elsewhere'
  if refusal then
    call('HSET', key, 'refused', host, 'refused_at', now)
    if refusal == 'occupied' then call('HSET', key, 'rivals', with(at.rivals, nonce)) end
    return { refusal, 0, 0, at.host }
  end
  local commits, before, floor = numbers(p, node)
  call('HSET', key, 'commits', math.max(commits, mark))
  if is_ahead and must_wait(key, at, now, last) then return { 'wait', 0, 0, '' } end
  if mark < before or (not continues and mark <= commits) then
    floor = commits
    count(p, 'put_back', 1)
  end
  note_copies(key, at, generation ~= 0 and continues)
  if generation == 0 or not continues then current = current + 1 end
  if at.start and has_moved(at, place, host) then call('HSET', key, 'fenced', at.start) end
  call('HSET', key, 'nonce', nonce, 'generation', current, 'place', place, 'host', host,
    'live', leaves == '1' and now or now + live_ms, 'mark', mark, 'floor', floor)
  call('EXPIRE', key, AGENT_S)
  return { 'attended', current, floor, '' }
end

-- absent(now, node, start, mark, {queue id, id}...)
--   -> {settled | resent | held | deleted | already...} | SUPERSEDED
-- A scan of the queue, after the node's table was read and after the node has attended, lacks the
-- file. If the commit's number is covered by the disk's mark, and the disk wasn't put back since,
-- Postfix is done with the message: settled. Otherwise nothing proves that: the message goes to a
-- new lot, to be sent again, unless it is stopped as in uncommit.
local function absent(keys, args)
  local p, now, node, start, mark = keys[1], time_ms(args[1]), args[2], args[3], tonumber(args[4])
  local list, wrong = entries(args, 5, 2)
  wrong = wrong or superseded(p, node, start)
  if wrong then return wrong end
  local _, _, floor = numbers(p, node)
  local answer, n = {}, nil
  for i, entry in ipairs(list) do
    local queue_id, id = unpack(entry)
    local value = call('HGET', mail_of(p, node), queue_id)
    if id_of(value) ~= id then
      answer[i] = 'already'
    elseif number_of(value) > floor and number_of(value) <= mark then
      erase(p, now, node, queue_id, id)
      answer[i] = 'settled'
    else
      answer[i], n = put_back(p, now, node, queue_id, id, 'resent', n)
    end
  end
  if n then make_ready(p, n) end
  count_answers(p, answer, 'settled', 'resent', 'held', 'deleted')
  forget_if_idle(p, node)
  return answer
end

local function rename_one(p, node, queue_id, id, now_id, floor)
  local there = call('HGET', mail_of(p, node), now_id)
  if id_of(there) == id and (queue_id ~= now_id or number_of(there) > floor) then
    return 'already', number_of(there)
  end
  local value = call('HGET', mail_of(p, node), queue_id)
  if id_of(value) ~= id then return 'unknown', 0 end
  if there and id_of(there) ~= id then return 'occupied', 0 end
  call('HDEL', mail_of(p, node), queue_id)
  if number_of(value) <= floor then return 'renamed', enter(p, node, now_id, id) end
  call('HSET', mail_of(p, node), now_id, value)
  return 'renamed', number_of(value)
end

-- rename(now, node, start, {queue id, id, queue id now}...)
--   -> {{renamed | already, number} | {occupied | unknown, 0}...} | SUPERSEDED
-- The message's file is there under another name: Postfix renames files of short queue ids whose
-- inode has changed. A commit from before the disk was put back gets a new number, so that the
-- file's absence will prove a delivery.
local function rename(keys, args)
  local p, node, start = keys[1], args[2], args[3]
  local list, wrong = entries(args, 4, 3)
  wrong = wrong or superseded(p, node, start)
  if wrong then return wrong end
  local _, _, floor = numbers(p, node)
  local answer = {}
  for i, entry in ipairs(list) do
    local queue_id, id, now_id = unpack(entry)
    answer[i] = { rename_one(p, node, queue_id, id, now_id, floor) }
  end
  return answer
end

-- lose(now, node, grace ms, has agent 0|1) -> {resent, held, deleted, more 0|1} | alive: the node
-- won't come back, so its committed messages go to a new lot, to be sent again, unless they are
-- stopped as in uncommit. Answers how many went each way. Repeat while there is more. `alive`:
-- a Mail Agent of the node arrived, or its pickup-rs attended, less than the grace ago, whatever
-- the caller saw before. While pickup-rs attends, the node's Postfix runs and sends what it has. A
-- node whose Mail Agent lives is lost only if its pickup-rs has attended before: versions that
-- don't attend give no sign of their Postfix's end.
local function lose(keys, args)
  local p, now, node, grace_ms = keys[1], time_ms(args[1]), args[2], tonumber(args[3])
  local last = call('HMGET', agent_of(p, node), 'seen', 'live')
  if args[4] == '1' and not last[2] then return 'alive' end
  local seen, live = tonumber(last[1] or 0), tonumber(last[2] or 0)
  if now - math.max(seen, live) < grace_ms then return 'alive' end
  local pairs_ = call('HRANDFIELD', mail_of(p, node), LOSE_PER_CALL, 'WITHVALUES')
  if #pairs_ == 0 then
    forget_if_idle(p, node)
    return { 0, 0, 0, 0 }
  end
  local lost = {}
  for i = 1, #pairs_, 2 do lost[#lost + 1] = { id = id_of(pairs_[i + 1]), queue_id = pairs_[i] } end
  table.sort(lost, function(a, b) return precedes(a.id, b.id) end)
  local n, times = nil, { resent = 0, held = 0, deleted = 0 }
  for _, it in ipairs(lost) do
    local word
    word, n = put_back(p, now, node, it.queue_id, it.id, 'resent', n)
    times[word] = times[word] + 1
  end
  if n then make_ready(p, n) end
  for word, by in pairs(times) do count(p, word, by) end
  forget_if_idle(p, node)
  return { times.resent, times.held, times.deleted, call('EXISTS', mail_of(p, node)) }
end

-- Operators ---------------------------------------------------------------------------------------

-- A caller names a message by its id and the place where it was seen: inbox; lot and number; mail,
-- node and queue id; held; quarantine. If the message has left that place, the answer is `moved`,
-- and the caller must look again.

local function is_at(p, id, at, where, queue_id)
  if at == 'inbox' then return not stored(p, id) and not remembered(p, id) end
  if at == 'lot' then return call('HEXISTS', ids(p, where), id) == 1 end
  if at == 'mail' then return committed(p, where, queue_id) == id end
  if at == 'held' then return call('HEXISTS', p .. 'held', id) == 1 end
  return call('ZSCORE', p .. 'quarantine', id)
end

local function orders_at(p, at, where)
  return at == 'inbox' and p .. 'inbox:orders' or orders_of(p, where)
end

-- Takes a message from its place. The caller must put it elsewhere in the same step.
local function take_from(p, id, at, where)
  if at == 'held' then return call('HDEL', p .. 'held', id) end
  if at == 'quarantine' then return keep_no_longer(p, id) end
  local node = call('HGET', lot(p, where), 'node')
  take_out(p, where, id)
  if node then forget_if_idle(p, node) end
end

-- Notes an order for a message in the inbox or at a node. `ordered`: the node's Postfix must do it.
local function order(p, now, what, id, at, where)
  local key = orders_at(p, at, where)
  local before = call('HGET', key, id)
  if before == 'delete' then return what == 'delete' and 'already' or 'gone' end
  if at == 'mail' then
    call('HSET', key, id, what)
    if before ~= what then call('HSET', ordered_of(p, where), id, now) end
    return 'ordered'
  end
  if what == 'delete' or what == 'hold' then
    call('HSET', key, id, what)
    if before ~= what then call('HSET', p .. 'inbox:ordered', id, now) end
  else
    end_inbox_order(p, id)
  end
  if before == what or (not before and what ~= 'delete' and what ~= 'hold') then
    return 'already'
  end
  return what
end

local function not_there(p, id, what)
  if stored(p, id) then return 'moved' end
  if what == 'delete' and call('HGET', done(p, id), id) == 'd' then return 'already' end
  return remembered(p, id) and 'gone' or 'unknown'
end

local acts = {}

function acts.delete(p, now, id, at, where)
  remember(p, now, id, 'd')
  take_from(p, id, at, where)
  call('UNLINK', message(p, id))
  return 'delete'
end

function acts.hold(p, now, id, at, where)
  if at == 'held' then return 'already' end
  if at == 'quarantine' then return 'kept' end
  take_from(p, id, at, where)
  call('HSET', p .. 'held', id, now)
  return 'hold'
end

function acts.release(p, _, id, at)
  if at == 'quarantine' then return 'kept' end
  return at == 'held' and 'release' or 'already'
end

function acts.requeue(p, _, id, at, where)
  if not stored(p, id) then return 'missing' end
  local is_free = at == 'lot' and call('HGET', lot(p, where), 'state') ~= 'assigned'
  return is_free and 'already' or 'requeue'
end

-- operate(now, delete|hold|release|requeue, {id, at, where, queue id}...)
--   -> {delete | hold | release | requeue | ordered | already | kept | missing | moved | gone |
--   unknown...}
-- The act's own name means that it is done. `already`: nothing was left to do; also for deleting a
-- message that an operator deleted before. `kept`: the message is in quarantine, which this act
-- doesn't end. `missing`: there is no message. `gone`: settled, deleted or disowned.
local function operate(keys, args)
  local p, now, what = keys[1], time_ms(args[1]), args[2]
  local list, wrong = entries(args, 3, 4)
  if wrong then return wrong end
  local answer, n, ordered = {}, nil, {}
  for i, entry in ipairs(list) do
    local id, at, where, queue_id = unpack(entry)
    if not is_at(p, id, at, where, queue_id) then
      answer[i] = not_there(p, id, what)
    elseif at == 'inbox' or at == 'mail' then
      answer[i] = order(p, now, what, id, at, where)
      if answer[i] == 'ordered' then ordered[where] = true end
    else
      answer[i] = acts[what](p, now, id, at, where)
      if answer[i] == 'release' or answer[i] == 'requeue' then
        take_from(p, id, at, where)
        n = n or new_lot(p, now)
        call('HSET', ids(p, n), id, '')
      end
    end
  end
  if n then make_ready(p, n) end
  for node in pairs(ordered) do publish(p, 'ordered ' .. node) end
  count_answers(p, answer, 'delete', 'hold', 'release', 'requeue', 'ordered')
  return answer
end

-- standing(now) -> {held, ordered in the inbox, ordered at nodes}
local function standing(keys)
  local p, at_nodes = keys[1], 0
  for _, node in ipairs(call('SMEMBERS', p .. 'nodes')) do
    at_nodes = at_nodes + call('HLEN', orders_of(p, node))
  end
  return { call('HLEN', p .. 'held'), call('HLEN', p .. 'inbox:orders'), at_nodes }
end

-- Functions that change nothing -------------------------------------------------------------------

local function lot_size(p, n) return call('HLEN', ids(p, n)) end

local function describe_node(p, node)
  local numbers = call('ZRANGE', lots_of(p, node), 0, -1)
  local pending = 0
  for _, n in ipairs(numbers) do pending = pending + lot_size(p, n) end
  local on_hold = call('ZCOUNT', deferred_of(p, node), '+inf', '+inf')
  local deferred = call('ZCARD', deferred_of(p, node)) - on_hold
  return { node, #numbers, pending, call('HLEN', mail_of(p, node)), deferred, on_hold }
end

-- {entries, time (ms) of the first's submission or nil, malformed entries, the next lot's number}
local function describe_inbox(p)
  local head = (call('LINDEX', p .. 'inbox', 0) or ''):sub(1, ID_BYTES)
  local next_lot = tonumber(call('GET', p .. 'lots:next') or 0) + 1
  local malformed = call('LLEN', p .. 'malformed')
  return { call('LLEN', p .. 'inbox'), is_id(head) and made_ms(head), malformed, next_lot }
end

-- overview(now, limit) -> {now, inbox, ready lots, {{n, ids}... the first `limit` of these},
--   quarantine, {{node, lots, ids in them, committed, of these deferred, of these on hold}...}}
local function overview(keys, args)
  local p, now, limit = keys[1], time_ms(args[1]), tonumber(args[2])
  local ready, nodes = {}, {}
  for i, number in ipairs(call('ZRANGE', p .. 'lots:ready', 0, limit - 1)) do
    ready[i] = { number, lot_size(p, number) }
  end
  for i, node in ipairs(call('SMEMBERS', p .. 'nodes')) do nodes[i] = describe_node(p, node) end
  local waiting, quarantine = call('ZCARD', p .. 'lots:ready'), call('ZCARD', p .. 'quarantine')
  return { now, describe_inbox(p), waiting, ready, quarantine, nodes }
end

-- lanes(now, limit) -> {{lane, lots, {{n, ids}... the first `limit` of these}}...}, the oldest lane
-- first
local function lanes(keys, args)
  local p, limit = keys[1], math.min(tonumber(args[2]), LANE_LOTS_MAX)
  local answer = {}
  for i, lane in ipairs(call('ZRANGE', p .. 'lanes', 0, -1)) do
    local first = {}
    for at, n in ipairs(call('ZRANGE', lane_of(p, lane), 0, limit - 1)) do
      first[at] = { n, lot_size(p, n) }
    end
    answer[i] = { lane, call('ZCARD', lane_of(p, lane)), first }
  end
  return answer
end

-- Hands the inbox's entries from index `at` on to `see`: at most `size`, and PEEK_BYTES by the
-- largest entry so far, but at least one. Redis doesn't tell an entry's length, and copies each
-- that is read. So one is read first, and then, while entries are short, more at once.
local function walk(p, at, size, see)
  local read, bytes, largest, step = 0, 0, 1, 1
  while read < size and bytes < PEEK_BYTES do
    local fit = math.floor((PEEK_BYTES - bytes) / largest)
    step = math.max(1, math.min(step, size - read, fit))
    local some = call('LRANGE', p .. 'inbox', at + read, at + read + step - 1)
    for _, entry in ipairs(some) do
      bytes, largest = bytes + #entry, math.max(largest, #entry)
      see(entry)
    end
    if #some < step then return end
    read, step = read + step, math.min(step * 2, PEEK_AT_ONCE)
  end
end

-- peek(now, from, count, ends) -> {number of the first, {id, bytes of its message, the first `ends`
-- of these, the last `ends`}...}: the inbox's entries from the number `from` on, or from its head
-- when that entry has been taken. Fewer than `count` when they are large; none after the last.
local function peek(keys, args)
  local p, from, size, ends = keys[1], tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  local gone = taken(p)
  local first = math.max(from, gone)
  local answer = { first }
  walk(p, first - gone, size, function(entry)
    local bytes = math.max(0, #entry - ID_BYTES)
    local tail = bytes > ends and entry:sub(-ends) or entry:sub(ID_BYTES + 1)
    local head = entry:sub(ID_BYTES + 1, ID_BYTES + ends)
    answer[#answer + 1] = { entry:sub(1, ID_BYTES), bytes, head, tail }
  end)
  return answer
end

-- lots(now, after) -> {more 0|1, {n, node or '', {id...}}...}: all lots with numbers above `after`,
-- the lowest first
local function lots(keys, args)
  local p, after = keys[1], args[2]
  local found = {}
  local function take(list, node)
    local above = '(' .. after
    for _, n in ipairs(call('ZRANGE', list, above, '+inf', 'BYSCORE', 'LIMIT', 0, LOTS_PER_CALL)) do
      found[#found + 1] = { n = n, node = node }
    end
  end
  take(p .. 'lots:ready', '')
  for _, lane in ipairs(call('ZRANGE', p .. 'lanes', 0, -1)) do take(lane_of(p, lane), '') end
  for _, node in ipairs(call('SMEMBERS', p .. 'nodes')) do take(lots_of(p, node), node) end
  table.sort(found, function(a, b) return tonumber(a.n) < tonumber(b.n) end)
  local answer, total = { #found >= LOTS_PER_CALL and 1 or 0 }, 0
  for i, it in ipairs(found) do
    if i > LOTS_PER_CALL or total >= LOT_MAX then
      answer[1] = 1
      break
    end
    local held = call('HKEYS', ids(p, it.n))
    total = total + #held
    answer[#answer + 1] = { it.n, it.node, held }
  end
  return answer
end

-- quarantine(now, limit, skip) -> {{id, since (ms), reason, bytes}...}: the quarantine, the oldest
-- first, without the first `skip`
local function quarantine(keys, args)
  local p, found = keys[1], {}
  local limit, skip = math.min(tonumber(args[2]), BATCH_MAX), tonumber(args[3] or 0)
  local key = p .. 'quarantine'
  local list =
    call('ZRANGE', key, '-inf', '+inf', 'BYSCORE', 'LIMIT', skip, limit, 'WITHSCORES')
  for i = 1, #list, 2 do
    local id = list[i]
    local why = call('HGET', p .. 'quarantine:why', id) or ''
    found[#found + 1] = { id, list[i + 1], why, call('STRLEN', message(p, id)) }
  end
  return found
end

--[[ The directory: agents and their leases. Its prefix is another one, and another hash slot.

   agent:<agent>  hash    kind info|scheduler|mail, generation, start, name, capacity (messages at
                          once; Mail Agents), address at which the agent answers rpc ('' if
                          nowhere), taken, the number of times that this agent took a lease that
                          it did not hold, and scheduler, which looks after the Mail Agent. While
                          a Mail Agent's node takes no mail: unfit, the cause in one word, and
                          unfit_since (ms)
   drained        hash    node -> time (ms) since which an operator lets the node take no mail
   leases         zset    agent -> end of its lease (ms); until then the agent is alive
   gone           zset    agent -> end of its lease (ms), for Mail Agents, whose nodes may have
                          mail. A Scheduler gives none up before it has watched for the grace:
                          servers that went down together come back together.
   watched        number  time (ms) of the last look by a Scheduler
   watching       number  time (ms) since which Schedulers have looked without a long pause, at
                          one run of Redis
   run            string  the run id of Redis at the last look
   starts         number  the last start number given out, which ranks an agent among its kind. At
                          least the time (ms), so that numbers go on growing when Redis was emptied
                          or put back.

   A generation is a ULID made when the process starts. A newer one takes an agent's place. An
   older one can't take it back while the newer one's lease runs, however late its call arrives.
]]

local function agent_key(p, agent) return p .. 'agent:' .. agent end

local function alive(p, agent, now)
  local ends = call('ZSCORE', p .. 'leases', agent)
  return ends and tonumber(ends) > now
end

local function end_lease(p, agent, ended)
  call('ZREM', p .. 'leases', agent)
  if call('HGET', agent_key(p, agent), 'kind') == 'mail' then
    call('ZADD', p .. 'gone', ended, agent)
  else
    call('DEL', agent_key(p, agent))
  end
end

local function next_start(p, now)
  local start = math.max(tonumber(call('GET', p .. 'starts') or 0) + 1, now)
  call('SET', p .. 'starts', start)
  return start
end

-- Notes why a Mail Agent's node takes no mail, and since when for this reason.
local function note_unfit(p, now, agent, unfit)
  local key = agent_key(p, agent)
  if unfit == (call('HGET', key, 'unfit') or '') then return end
  if unfit == '' then return call('HDEL', key, 'unfit', 'unfit_since') end
  call('HSET', key, 'unfit', unfit, 'unfit_since', now)
end

-- register(now, agent, kind, generation, ttl ms, name, capacity, address, unfit or '') -> {new |
--    replaced | already | superseded, start}
local function register(keys, args)
  local p, now = keys[1], time_ms(args[1])
  local agent, kind, generation, ttl, name, capacity, address, unfit = unpack(args, 2)
  local at = call('HMGET', agent_key(p, agent), 'generation', 'start')
  local outcome, start, held = 'already', at[2], alive(p, agent, now)
  if at[1] ~= generation then
    if held and precedes(generation, at[1]) then return { 'superseded', at[2] } end
    outcome, start = held and 'replaced' or 'new', next_start(p, now)
  end
  call('HSET', agent_key(p, agent),
    'kind', kind, 'generation', generation, 'start', start, 'name', name,
    'capacity', capacity, 'address', address or '')
  note_unfit(p, now, agent, unfit or '')
  if not held or outcome ~= 'already' then call('HINCRBY', agent_key(p, agent), 'taken', 1) end
  call('ZADD', p .. 'leases', now + ttl, agent)
  call('ZREM', p .. 'gone', agent)
  return { outcome, start }
end

-- renew(now, agent, generation, ttl ms) -> renewed | superseded | lapsed
-- `lapsed`: the lease had ended, and other agents may have acted on that; register again.
local function renew(keys, args)
  local p, now, agent, generation, ttl = keys[1], time_ms(args[1]), unpack(args, 2)
  local current = call('HGET', agent_key(p, agent), 'generation')
  if current and current ~= generation then return 'superseded' end
  if not current or not alive(p, agent, now) then return 'lapsed' end
  call('ZADD', p .. 'leases', now + ttl, agent)
  return 'renewed'
end

-- leave(now, agent, generation) -> left | already | superseded
local function leave(keys, args)
  local p, now, agent, generation = keys[1], time_ms(args[1]), unpack(args, 2)
  local current = call('HGET', agent_key(p, agent), 'generation')
  if current and current ~= generation then return 'superseded' end
  if not current or not call('ZSCORE', p .. 'leases', agent) then return 'already' end
  end_lease(p, agent, now)
  return 'left'
end

-- suspect(now, agent, start, taken) -> ended | already: ends the lease of an agent that does not
-- answer its Scheduler's probes. The numbers are those that the caller saw, so a lease that the
-- agent has taken since stays. An agent that is alive takes its lease again.
local function suspect(keys, args)
  local p, now, agent, start, taken = keys[1], time_ms(args[1]), unpack(args, 2)
  local at = call('HMGET', agent_key(p, agent), 'start', 'taken')
  if at[1] ~= start or at[2] ~= taken or not alive(p, agent, now) then return 'already' end
  end_lease(p, agent, now)
  return 'ended'
end

-- supervise(now, {agent, start, from or '', to}...) -> {supervised | already | moved}...: the
-- Scheduler `to` looks after a Mail Agent from now on. `from` is the last one that the caller saw.
-- `moved`: the agent has another Scheduler or start, or `to` is dead. For hints and people: mail
-- does not move by it.
local function supervise(keys, args)
  local p, now, answers = keys[1], time_ms(args[1]), {}
  for i, entry in ipairs(entries(args, 2, 4)) do
    local agent, start, from, to = unpack(entry)
    local at = call('HMGET', agent_key(p, agent), 'start', 'scheduler')
    if at[1] ~= start or not alive(p, to, now) then
      answers[i] = 'moved'
    elseif at[2] == to then
      answers[i] = 'already'
    elseif (at[2] or '') ~= from then
      answers[i] = 'moved'
    else
      call('HSET', agent_key(p, agent), 'scheduler', to)
      answers[i] = 'supervised'
    end
  end
  return answers
end

-- reap(now) -> {agent...}: takes agents whose leases have ended off the leases. A Scheduler must
-- call it at each look. After a failover or a restart of Redis, leases may have ended because no
-- agent could renew them, so Schedulers have watched for no time.
local function reap(keys, args)
  local p, now = keys[1], time_ms(args[1])
  local watched = tonumber(call('GET', p .. 'watched') or 0)
  local run = call('INFO', 'server'):match('run_id:(%x+)') or ''
  local is_other = run ~= call('GET', p .. 'run')
  if is_other or now - watched > WATCH_MS then call('SET', p .. 'watching', now) end
  if is_other then call('SET', p .. 'run', run) end
  call('SET', p .. 'watched', now)
  local key = p .. 'leases'
  local ended =
    call('ZRANGE', key, '-inf', now, 'BYSCORE', 'LIMIT', 0, AGENTS_PER_CALL, 'WITHSCORES')
  local agents = {}
  for i = 1, #ended, 2 do
    agents[#agents + 1] = ended[i]
    end_lease(p, ended[i], ended[i + 1])
  end
  local long_ago = now - GONE_MS
  local old = call('ZRANGE', p .. 'gone', '-inf', long_ago, 'BYSCORE', 'LIMIT', 0, AGENTS_PER_CALL)
  for _, agent in ipairs(old) do
    call('ZREM', p .. 'gone', agent)
    call('DEL', agent_key(p, agent))
  end
  return agents
end

-- drain(now, node, 1|0) -> done | already: lets a node take no mail, or take mail again. The node's
-- Mail Agent hands its lots back.
local function drain(keys, args)
  local p, now, node, is_on = keys[1], time_ms(args[1]), args[2], args[3] == '1'
  local was_on = call('HEXISTS', p .. 'drained', node) == 1
  if is_on == was_on then return 'already' end
  if is_on then
    call('HSET', p .. 'drained', node, now)
  else
    call('HDEL', p .. 'drained', node)
  end
  return 'done'
end

local function describe_agents(p, index)
  local found = {}
  local list = call('ZRANGE', p .. index, 0, AGENTS_PER_CALL - 1, 'WITHSCORES')
  for i = 1, #list, 2 do
    local key = agent_key(p, list[i])
    local at = call('HMGET', key, 'kind', 'generation', 'start', 'name', 'capacity', 'address',
      'taken', 'scheduler', 'unfit', 'unfit_since')
    -- Earlier versions wrote none of these.
    at[6], at[7], at[9], at[10] = at[6] or '', at[7] or 0, at[9] or '', at[10] or 0
    if at[1] then found[#found + 1] = { list[i], list[i + 1], unpack(at, 1, 10) } end
  end
  return found
end

-- directory(now) -> {now, watching since (ms), leases, gone, drained}: leases and gone of {agent,
--    end of lease, kind, generation, start, name, capacity, address, taken, scheduler or nil, unfit
--    or '', since (ms) or 0}..., drained of {node, since (ms)}...
-- `leases` includes ended ones that are not yet reaped; compare with now.
local function directory(keys, args)
  local p, drained = keys[1], {}
  local list = call('HGETALL', p .. 'drained')
  for i = 1, #list, 2 do drained[#drained + 1] = { list[i], list[i + 1] } end
  return { time_ms(args[1]), tonumber(call('GET', p .. 'watching') or 0),
    describe_agents(p, 'leases'), describe_agents(p, 'gone'), drained }
end

-- The spool's identity ----------------------------------------------------------------------------

local function spool_of(p) return call('GET', p .. 'spool') or '' end

-- identify(now, expected or '', candidate or '', seen) -> {identity or '', the last lot's number,
--    by how much that was too low}
-- A candidate becomes the identity where there is none. If the spool is the expected one, and the
-- caller has seen a higher lot number, Redis has an earlier state of it: the number is raised, so
-- that none is given out twice.
local function identify(keys, args)
  local p, expected, candidate, seen = keys[1], args[2], args[3], tonumber(args[4])
  if candidate ~= '' then call('SET', p .. 'spool', candidate, 'NX') end
  local own, last = spool_of(p), tonumber(call('GET', p .. 'lots:next') or 0)
  if own == '' or own ~= expected or seen <= last then return { own, last, 0 } end
  call('SET', p .. 'lots:next', seen)
  count(p, 'rewound', 1)
  return { own, seen, seen - last }
end

-- Makes a function refuse calls for another spool.
local function guarded(body)
  return function(keys, args)
    if keys[2] and keys[2] ~= keys[1] .. 'spool:' .. spool_of(keys[1]) then
      return redis.error_reply('OTHERSPOOL this call is meant for another spool')
    end
    return body(keys, args)
  end
end

-- The version of the library in Redis, so that a client notices another one. The client fills it
-- in.
local function version() return '@VERSION@' end

-- allow-oom: mail must be able to leave when memory is full. Then Redis itself refuses submission,
-- and nothing else.
local function changes(name, body)
  redis.register_function {
    function_name = 'optimus_' .. name, callback = guarded(body), flags = { 'allow-oom' },
  }
end
local function reads(name, body)
  redis.register_function {
    function_name = 'optimus_' .. name, callback = guarded(body),
    flags = { 'no-writes', 'allow-oom' },
  }
end

changes('identify', identify)
changes('disown', disown)
changes('cut', cut)
changes('assign', assign)
changes('commit', commit)
changes('park', park)
changes('pull', pull)
changes('settle', settle)
changes('uncommit', uncommit)
changes('attend', attend)
changes('absent', absent)
changes('rename', rename)
changes('obey', obey)
changes('defer', defer)
changes('refuse', refuse)
changes('retry', retry)
changes('drop', drop)
changes('make_room', make_room)
changes('reassign', reassign)
changes('arrive', arrive)
changes('lose', lose)
changes('operate', operate)
changes('tidy', tidy)
changes('register', register)
changes('renew', renew)
changes('leave', leave)
changes('suspect', suspect)
changes('supervise', supervise)
changes('reap', reap)
changes('drain', drain)
reads('fetch', fetch)
reads('overview', overview)
reads('standing', standing)
reads('lanes', lanes)
reads('quarantine', quarantine)
reads('peek', peek)
reads('lots', lots)
reads('directory', directory)
reads('version', version)
