//! Calls of the model on the real library, and all that Redis holds as lines.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use spool::*;
use testbed::Redis;

use crate::common::{self, id, placed, queue_id, submission};
use crate::model::{Call, ON_HOLD, Seen};

/// Script that reads every key as it is stored, without the library.
const DUMP: &str = r"
local out, p = {}, 'optimus:{0}:'
local function add(...) out[#out + 1] = table.concat({...}, ' ') end
local function each(list, with) for i = 1, #list, 2 do with(list[i], list[i + 1]) end end
for _, key in ipairs(redis.call('KEYS', '*')) do
  local name = key:sub(#p + 1)
  local n = name:match('^lot:(%d+)$')
  local in_lot = name:match('^lot:(%d+):ids$')
  local node, what = name:match('^node:(.+):(%a+)$')
  local lane = name:match('^lane:(.+)$')
  if n then
    local at = redis.call('HMGET', key, 'state', 'epoch', 'node', 'lane')
    add('lot', n, at[1], at[2], at[3] or at[4] or nil)
  elseif in_lot then for _, id in ipairs(redis.call('HKEYS', key)) do add('in', in_lot, id) end
  elseif name == 'lanes' then
    for _, it in ipairs(redis.call('ZRANGE', key, 0, -1)) do add('lane', it) end
  elseif lane then
    for _, m in ipairs(redis.call('ZRANGE', key, 0, -1)) do add('parked', m, lane) end
  elseif what == 'lots' then for _, m in ipairs(redis.call('ZRANGE', key, 0, -1)) do add('assigned', m, node) end
  elseif what == 'mail' then each(redis.call('HGETALL', key), function(q, it)
    add('mail', node, q, it:sub(1, 26), it:sub(27)) end)
  elseif what == 'deferred' then
    each(redis.call('ZRANGE', key, 0, -1, 'WITHSCORES'), function(id, ms) add('deferred', node, id, ms) end)
  elseif what == 'orders' then each(redis.call('HGETALL', key), function(id, act) add('node-order', node, id, act) end)
  elseif what == 'ordered' then
    for _, id in ipairs(redis.call('HKEYS', key)) do add('ordered', node, id) end
  elseif name == 'inbox:orders' then each(redis.call('HGETALL', key), function(id, act) add('inbox-order', id, act) end)
  elseif name == 'inbox:ordered' then
    for _, id in ipairs(redis.call('HKEYS', key)) do add('inbox-ordered', id) end
  elseif name == 'held' then for _, id in ipairs(redis.call('HKEYS', key)) do add('held', id) end
  elseif what == 'agent' then -- compared by what lose answers
  elseif name == 'inbox' then
    for _, entry in ipairs(redis.call('LRANGE', key, 0, -1)) do add('inbox', entry:sub(1, 26)) end
  elseif name == 'disowned' then for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do add('disowned', id) end
  elseif name == 'lots:ready' then for _, m in ipairs(redis.call('ZRANGE', key, 0, -1)) do add('ready', m) end
  elseif name == 'nodes' then for _, it in ipairs(redis.call('SMEMBERS', key)) do add('node', it) end
  elseif name == 'quarantine' then
    for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      add('quarantine', id, redis.call('HGET', p .. 'quarantine:why', id))
    end
  elseif name == 'quarantine:why' then
    each(redis.call('HGETALL', key), function(id) add('why', id) end)
  elseif name:match('^done:') then each(redis.call('HGETALL', key), function(id) add('done', id) end)
  elseif name:match('^m:') then add('message', name:sub(3))
  elseif name ~= 'lots:next' and name ~= 'inbox:taken' and name ~= 'malformed' and name ~= 'counts'
    and name ~= 'spool' then add('unexpected', key) end
end
add('malformed', redis.call('LLEN', p .. 'malformed'))
add('taken', redis.call('GET', p .. 'inbox:taken') or 0)
table.sort(out)
return out";

/// Comes before all starts that are given out.
const EARLIER: Start = Start(0);

pub(crate) struct Real<'a> {
    redis: &'a Redis,
    spool: Spool,
    raw: MultiplexedConnection,
}

impl<'a> Real<'a> {
    pub(crate) async fn new(redis: &'a Redis) -> Self {
        let client = redis::Client::open(redis.url()).unwrap();
        let raw = client.get_multiplexed_async_connection().await.unwrap();
        Self { redis, spool: common::spool(redis), raw }
    }

    pub(crate) async fn apply(&self, call: &Call) -> String {
        let (call, start) = match call {
            Call::BySuperseded(call) => (call.as_ref(), EARLIER),
            call => (call, common::token(&named(1)).start),
        };
        match self.answer(call, start).await {
            Err(SpoolError::Superseded) => "superseded".into(),
            answer => answer.unwrap(),
        }
    }

    async fn answer(&self, call: &Call, start: Start) -> Result<String, SpoolError> {
        let spool = &self.spool;
        let token = |node| FencingToken { node: named(node), start };
        Ok(match *call {
            Call::Submit(n) => {
                spool.submit(&submission(id(n))).await?;
                String::new()
            }
            Call::SubmitMalformed => {
                self.redis.cli(&["RPUSH", "optimus:{0}:inbox", "malformed"]).unwrap();
                String::new()
            }
            Call::Disown(n) => spool.disown(id(n)).await?.to_string(),
            Call::Cut(n, size, node) => {
                let node = (node > 0).then(|| named(node));
                cut(spool.cut(LotNumber(n), size, node.as_ref()).await?)
            }
            Call::Assign(n, node) => {
                assignment(spool.assign(&[(LotNumber(n), named(node))]).await?[0])
            }
            Call::CommitUnder { id: n, node, lot, epoch, queue_id: q } => {
                let (lot, epoch) = (LotNumber(lot), Epoch(epoch));
                let commit = Commit { id: id(n), lot, epoch, queue_id: queue_id(q) };
                spool.commit(&token(node), &[commit]).await?[0].to_string()
            }
            Call::ParkUnder { id: n, node, lot, epoch, to } => {
                let it = Tenured { id: id(n), lot: LotNumber(lot), epoch: Epoch(epoch) };
                let to = format!("d{to}").parse().unwrap();
                spool.park(&token(node), &to, &[it]).await?[0].to_string()
            }
            Call::Pull(n, node) => assignment(spool.pull(&token(node), &[LotNumber(n)]).await?[0]),
            Call::HandBack(node) => spool.hand_back(&token(node)).await?.to_string(),
            Call::Settle(node, q, n) => {
                let it = Placed { queue_id: queue_id(q), ..placed(n) };
                spool.settle(&token(node), &[it]).await?[0].to_string()
            }
            Call::Uncommit(node, q, n) => {
                let it = Placed { queue_id: queue_id(q), ..placed(n) };
                spool.uncommit(&token(node), Unsent::NeverReleased, &[it]).await?[0].to_string()
            }
            Call::Attend(node, mark) => {
                attended(spool.attend(&named(node), &attendance(mark)).await?)
            }
            Call::Absent(node, q, n, mark) => {
                let it = Placed { queue_id: queue_id(q), ..placed(n) };
                spool.absent(&token(node), CommitNumber(mark), &[it]).await?[0].to_string()
            }
            Call::Rename(node, q, n, now) => {
                let it = Rename { id: id(n), was: queue_id(q), now: queue_id(now) };
                let (renamed, number) = spool.rename(&token(node), &[it]).await?[0];
                format!("{renamed} {number}")
            }
            Call::DeferUntil(node, q, n, next_attempt_ms) => {
                let rest = if next_attempt_ms == ON_HOLD {
                    Rest::OnHold
                } else {
                    Rest::Until(next_attempt_ms)
                };
                let it = Deferral { queue_id: queue_id(q), id: id(n), rest };
                spool.defer(&token(node), &[it]).await?[0].to_string()
            }
            Call::RefuseUnder { id: n, node, lot, epoch } => {
                let tenure = (LotNumber(lot), Epoch(epoch));
                spool.refuse(&token(node), id(n), tenure, "why").await?.to_string()
            }
            Call::RefuseMissingUnder { id: n, node, lot, epoch } => {
                let (tenure, why) = ((LotNumber(lot), Epoch(epoch)), Damage::Missing.to_string());
                spool.refuse(&token(node), id(n), tenure, &why).await?.to_string()
            }
            Call::Retry(n) => spool.retry_quarantined(&[id(n)]).await?[0].to_string(),
            Call::Drop(n) => spool.drop_quarantined(&[id(n)]).await?[0].to_string(),
            Call::Operate(act, n, seen) => {
                spool.operate(act, &[(id(n), place(seen))]).await?[0].to_string()
            }
            Call::Obey(node, q, n, act) => {
                let it = Placed { queue_id: queue_id(q), ..placed(n) };
                spool.obey(&token(node), &[(it, act)]).await?[0].to_string()
            }
            Call::Tidy => spool.tidy().await?.to_string(),
            Call::Reassign(node) => spool.reassign(&named(node)).await?.to_string(),
            Call::Arrive(node) => spool.arrive(&token(node)).await?.to_string(),
            Call::Lose(node, wait) => {
                let grace = if wait { Duration::from_millis(1) } else { Duration::ZERO };
                match spool.lose(&named(node), grace).await? {
                    Lost::Resent(count) => count.to_string(),
                    Lost::Alive => "alive".to_owned(),
                }
            }
            Call::FlushFunctions => {
                self.redis.cli(&["FUNCTION", "FLUSH"]).unwrap();
                String::new()
            }
            ref other => unreachable!("not resolved: {other:?}"),
        })
    }

    /// Returns everything in Redis, one line each, sorted.
    pub(crate) async fn dump(&self) -> Vec<String> {
        let mut raw = self.raw.clone();
        redis::cmd("EVAL").arg(DUMP).arg(0).query_async(&mut raw).await.unwrap()
    }

    pub(crate) async fn loads(&self) -> Vec<NodeLoad> {
        let mut nodes = self.spool.overview(100).await.unwrap().nodes;
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        nodes
    }

    /// Returns every id of which Redis has a trace.
    pub(crate) async fn known_ids(&self) -> BTreeSet<String> {
        let second = |line: &String| line.split(' ').nth(1).unwrap().to_owned();
        let dump = self.dump().await;
        dump.iter()
            .filter(|line| {
                ["message", "done", "disowned", "inbox"].contains(&line.split(' ').next().unwrap())
            })
            .map(second)
            .filter(|id| id != "malformed")
            .collect()
    }
}

/// Returns a repeated attendance of the same queue directory.
fn attendance(mark: u64) -> Attendance<'static> {
    let nonce = Generation::from_parts(1, 1);
    let (generation, last, mark, live) = (0, nonce, CommitNumber(mark), Duration::ZERO);
    let (place, host, leaves) = ("here", "host", false);
    Attendance { generation, last, nonce, mark, place, host, live, leaves }
}

fn attended(attended: Attended) -> String {
    match attended {
        Attended::Here { floor, .. } => floor.to_string(),
        other => format!("{other:?}"),
    }
}

fn named(node: u32) -> NodeId {
    common::node(&format!("n{node}"))
}

fn place(seen: Seen) -> Place {
    match seen {
        Seen::Inbox => Place::Inbox,
        Seen::Lot(n) => Place::Ready(LotNumber(n)),
        Seen::Mail(node, q) => Place::Committed(named(node), queue_id(q)),
        Seen::Held => Place::Held,
        Seen::Quarantine => Place::Quarantine(String::new()),
    }
}

fn cut(cut: Cut) -> String {
    match cut {
        Cut::Cut { messages, left } => format!("cut {messages} {left}"),
        Cut::Nothing { left } => format!("nothing {left}"),
        Cut::Already => "already".into(),
        Cut::Early => "early".into(),
    }
}

fn assignment(assigned: Assigned) -> String {
    match assigned {
        Assigned::Assigned(epoch) => format!("assigned {epoch}"),
        Assigned::Already(epoch) => format!("already {epoch}"),
        Assigned::Taken => "taken".into(),
        Assigned::Gone => "gone".into(),
    }
}
