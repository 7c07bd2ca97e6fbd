//! Steps on the real library, and all that Redis holds as lines.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use spool::model::Model;
use spool::{
    Attendance, Attended, CommitNumber, FencingToken, Generation, NodeId, Overview, Spool,
    SpoolError, Unsent,
};
use testbed::Redis;

use crate::common::{self, submission};
use crate::step::{Step, text};

/// Script that reads every key as it is stored, without the library.
const DUMP: &str = r"
local out, p = {}, 'optimus:{0}:'
local function add(...) out[#out + 1] = table.concat({...}, ' ') end
local function each(list, with) for i = 1, #list, 2 do with(list[i], list[i + 1]) end end
for _, key in ipairs(redis.call('KEYS', p .. '*')) do
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
    each(redis.call('ZRANGE', key, 0, -1, 'WITHSCORES'), function(it, since)
      add('lane', it, since) end)
  elseif lane then
    for _, m in ipairs(redis.call('ZRANGE', key, 0, -1)) do add('parked', m, lane) end
  elseif what == 'lots' then
    for _, m in ipairs(redis.call('ZRANGE', key, 0, -1)) do add('assigned', m, node) end
  elseif what == 'mail' then each(redis.call('HGETALL', key), function(q, it)
    add('mail', node, q, it:sub(1, 26), it:sub(27)) end)
  elseif what == 'deferred' then
    each(redis.call('ZRANGE', key, 0, -1, 'WITHSCORES'), function(id, ms)
      add('deferred', node, id, ms) end)
  elseif what == 'orders' then
    each(redis.call('HGETALL', key), function(id, act) add('node-order', node, id, act) end)
  elseif what == 'ordered' then
    for _, id in ipairs(redis.call('HKEYS', key)) do add('ordered', node, id) end
  elseif name == 'inbox:orders' then
    each(redis.call('HGETALL', key), function(id, act) add('inbox-order', id, act) end)
  elseif name == 'inbox:ordered' then
    for _, id in ipairs(redis.call('HKEYS', key)) do add('inbox-ordered', id) end
  elseif name == 'held' then
    for _, id in ipairs(redis.call('HKEYS', key)) do add('held', id) end
  elseif what == 'agent' then -- compared by the answers to later calls
  elseif name == 'inbox' then
    for _, entry in ipairs(redis.call('LRANGE', key, 0, -1)) do add('inbox', entry:sub(1, 26)) end
  elseif name == 'disowned' then
    for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do add('disowned', id) end
  elseif name == 'lots:ready' then
    for _, m in ipairs(redis.call('ZRANGE', key, 0, -1)) do add('ready', m) end
  elseif name == 'nodes' then
    for _, it in ipairs(redis.call('SMEMBERS', key)) do add('node', it) end
  elseif name == 'quarantine' then
    for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      add('quarantine', id, redis.call('HGET', p .. 'quarantine:why', id))
    end
  elseif name == 'quarantine:why' then
    each(redis.call('HGETALL', key), function(id) add('why', id) end)
  elseif name:match('^done:') then
    each(redis.call('HGETALL', key), function(id, how) add('done', id, how) end)
  elseif name:match('^m:') then add('message', name:sub(3))
  elseif name ~= 'lots:next' and name ~= 'inbox:taken' and name ~= 'malformed' and name ~= 'counts'
    and name ~= 'spool' then add('unexpected', key) end
end
add('malformed', redis.call('LLEN', p .. 'malformed'))
add('taken', redis.call('GET', p .. 'inbox:taken') or 0)
table.sort(out)
return out";

/// Channel of the library's notices.
const NOTICES: &str = "optimus:{0}:notices";
/// Notice that submitters send; the library sends all others.
const OF_SUBMITTERS: &str = "inbox";
/// Number of lots above that of any run.
const LIMIT: u32 = 1000;

pub(crate) struct Real<'a> {
    redis: &'a Redis,
    spool: Spool,
    raw: MultiplexedConnection,
    listening: (PubSubSink, PubSubStream),
}

impl<'a> Real<'a> {
    pub(crate) async fn new(redis: &'a Redis) -> Self {
        let client = redis::Client::open(redis.url()).unwrap();
        let raw = client.get_multiplexed_async_connection().await.unwrap();
        let (mut sink, stream) = client.get_async_pubsub().await.unwrap().split();
        sink.subscribe(NOTICES).await.unwrap();
        Self { redis, spool: common::spool(redis), raw, listening: (sink, stream) }
    }

    /// Carries the step out at the time `now_ms`. Returns the answer as text.
    pub(crate) async fn apply(&self, step: &Step, now_ms: u64) -> String {
        let spool = self.spool.at(now_ms);
        self.answer(&spool, step).await.unwrap_or_else(|error| match error {
            SpoolError::Superseded => text(&error),
            other => panic!("{step:?}: {other}"),
        })
    }

    async fn answer(&self, spool: &Spool, step: &Step) -> Result<String, SpoolError> {
        Ok(match step {
            Step::Submit(id) => {
                spool.submit(&submission(*id)).await?;
                String::new()
            }
            Step::SubmitMalformed => {
                self.redis.cli(&["RPUSH", "optimus:{0}:inbox", "malformed"]).unwrap();
                String::new()
            }
            Step::FlushFunctions => {
                self.redis.cli(&["FUNCTION", "FLUSH"]).unwrap();
                String::new()
            }
            Step::Disown(id) => text(&spool.disown(*id).await?),
            Step::Cut(lot, size, node) => text(&spool.cut(*lot, *size, node.as_ref()).await?),
            Step::Tidy => text(&spool.tidy().await?),
            Step::Assign(lots) => text(&spool.assign(lots).await?),
            Step::Pull(token, lots) => text(&spool.pull(token, lots).await?),
            Step::Commit(token, list) => text(&spool.commit_numbered(token, list).await?),
            Step::Park(token, to, list) => text(&spool.park(token, to, list).await?),
            Step::Settle(token, list) => text(&spool.settle(token, list).await?),
            Step::Uncommit(token, list) => {
                text(&spool.uncommit(token, Unsent::NeverReleased, list).await?)
            }
            Step::Attend(node, mark) => floor(spool.attend(node, &attendance(*mark)).await?),
            Step::Absent(token, mark, list) => text(&spool.absent(token, *mark, list).await?),
            Step::Rename(token, list) => text(&spool.rename(token, list).await?),
            Step::Defer(token, list) => text(&spool.defer(token, list).await?),
            Step::Refuse(token, id, tenure, why) => {
                text(&spool.refuse(token, *id, *tenure, why).await?)
            }
            Step::Obey(token, list) => text(&spool.obey(token, list).await?),
            Step::Operate(act, list) => text(&spool.operate(*act, list).await?),
            Step::Retry(ids) => text(&spool.retry_quarantined(ids).await?),
            Step::Drop(ids) => text(&spool.drop_quarantined(ids).await?),
            Step::Reassign(node) => text(&spool.reassign(node).await?),
            Step::HandBack(token) => text(&spool.hand_back(token).await?),
            Step::Arrive(token) => text(&spool.arrive(token).await?),
            Step::Lose(node, grace, has_agent) => {
                text(&spool.lose(node, *grace, *has_agent).await?)
            }
            Step::Register(registration) => text(&spool.register(registration).await?),
            Step::Renew(agent, generation, term) => {
                text(&spool.renew(agent, *generation, *term).await?)
            }
            Step::Leave(agent, generation) => text(&spool.leave(agent, *generation).await?),
            Step::Suspect(agent, start, taken) => {
                text(&spool.suspect(agent, *start, *taken).await?)
            }
            Step::Supervise(changes) => text(&spool.supervise(changes).await?),
            Step::Drain(node) => text(&spool.drain(node).await?),
            Step::Undrain(node) => text(&spool.undrain(node).await?),
            Step::Reap => text(&spool.reap().await?),
        })
    }

    /// Returns all data under the shard's prefix as sorted lines.
    pub(crate) async fn dump(&self) -> Vec<String> {
        let mut raw = self.raw.clone();
        redis::cmd("EVAL").arg(DUMP).arg(0).query_async(&mut raw).await.unwrap()
    }

    /// Returns the library's notices since the last call, sorted. Redis sends a connection's
    /// notices before its answer to a PING.
    pub(crate) async fn notices(&mut self) -> Vec<String> {
        let (sink, stream) = &mut self.listening;
        sink.ping::<redis::Value>().await.unwrap();
        let mut found = Vec::new();
        while let Some(Some(message)) = stream.next().now_or_never() {
            found.push(message.get_payload::<String>().unwrap());
        }
        found.retain(|text| text != OF_SUBMITTERS);
        found.sort();
        found
    }

    /// Compares the answers of the functions that only read with the model's.
    pub(crate) async fn compare_reading(&self, model: &Model, context: &str) {
        let spool = self.spool.at(model.now_ms);
        let (overview, lanes, directory) =
            tokio::try_join!(spool.overview(LIMIT), spool.lanes(LIMIT), spool.directory()).unwrap();
        let overview = by_name(overview);
        assert_eq!(overview, model.overview(), "overview after {context}");
        assert_eq!(lanes, model.lanes(), "lanes after {context}");
        assert_eq!(directory, model.directory(), "directory after {context}");
        for load in overview.nodes {
            compare_node(&spool, model, &load.node, context).await;
        }
    }

    /// Returns every id of which Redis has a trace.
    pub(crate) async fn known_ids(&self) -> BTreeSet<String> {
        let kinds = ["message", "done", "disowned", "inbox"];
        let words = |line: &String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let lines = self.dump().await;
        let known = lines.iter().map(words).filter(|it| kinds.contains(&it[0].as_str()));
        known.map(|it| it[1].clone()).collect()
    }
}

async fn compare_node(spool: &Spool, model: &Model, node: &NodeId, context: &str) {
    let start = model.last_start(node).max(spool::Start(1));
    let token = FencingToken { node: node.clone(), start };
    let (lots, mail, resting, orders) = tokio::try_join!(
        spool.fetch(&token),
        spool.inventory_numbered(node),
        spool.resting(node),
        spool.orders_of(node)
    )
    .unwrap();
    assert_eq!(Ok(lots), model.fetch(&token), "lots of {node} after {context}");
    assert_eq!(mail, model.inventory_numbered(node), "mail of {node} after {context}");
    assert_eq!(resting, model.resting(node), "resting at {node} after {context}");
    assert_eq!(orders, model.orders_of(node), "orders of {node} after {context}");
}

fn by_name(mut overview: Overview) -> Overview {
    overview.nodes.sort_by(|a, b| a.node.cmp(&b.node));
    overview
}

/// Returns a repeated attendance of the same queue directory.
fn attendance(mark: CommitNumber) -> Attendance<'static> {
    let nonce = Generation::from_parts(1, 1);
    let (generation, last, live) = (0, nonce, Duration::ZERO);
    let (place, host, leaves) = ("here", "host", false);
    Attendance { generation, last, nonce, mark, place, host, live, leaves }
}

fn floor(attended: Attended) -> String {
    match attended {
        Attended::Here { floor, .. } => text(&floor),
        other => panic!("{other:?}"),
    }
}
