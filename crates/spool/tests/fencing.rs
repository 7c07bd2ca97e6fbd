//! Fencing of a Mail Agent that was stopped, and goes on after a later one of its node has arrived.
//! The earlier one must change nothing by any function.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::*;
use spool::*;
use testbed::Redis;

/// Guard by which a function keeps an earlier Mail Agent from changing data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// The start in its fencing token.
    ByStart,
    /// The generation in the directory.
    ByGeneration,
    /// The generation and nonce of its pickup-rs.
    ByNonce,
    /// No guard: the function changes nothing.
    Reads,
    /// No guard: no Mail Agent calls the function.
    Others,
}
use Guard::{ByGeneration, ByNonce, ByStart, Others, Reads};

/// All functions of `optimus.lua`. A new function needs a line here.
const FUNCTIONS: [(&str, Guard); 39] = [
    ("absent", ByStart),
    ("arrive", ByStart),
    ("assign", Others),
    ("attend", ByNonce),
    ("commit", ByStart),
    ("quarantine", Reads),
    ("cut", Others),
    ("defer", ByStart),
    ("directory", Reads),
    ("disown", Others),
    ("drain", Others),
    ("drop", Others),
    ("fetch", ByStart),
    ("identify", Others),
    ("lanes", Reads),
    ("leave", ByGeneration),
    ("lose", Others),
    ("lots", Reads),
    ("make_room", Others),
    ("obey", ByStart),
    ("operate", Others),
    ("overview", Reads),
    ("park", ByStart),
    ("peek", Reads),
    ("pull", ByStart),
    ("reap", Others),
    ("reassign", ByStart),
    ("refuse", ByStart),
    ("register", ByGeneration),
    ("rename", ByStart),
    ("renew", ByGeneration),
    ("retry", Others),
    ("settle", ByStart),
    ("standing", Reads),
    ("supervise", Others),
    ("suspect", Others),
    ("tidy", Others),
    ("uncommit", ByStart),
    ("version", Reads),
];

#[test]
fn each_function_is_in_the_table_and_those_that_read_are_registered_as_such() {
    let source = library();
    let registered = |what: &str| -> BTreeSet<String> {
        let opening = format!("\n{what}('");
        let calls = source.split(opening.as_str()).skip(1);
        calls.filter_map(|rest| rest.split('\'').next()).map(str::to_owned).collect()
    };
    let listed = |is: fn(Guard) -> bool| -> BTreeSet<String> {
        let names = FUNCTIONS.iter().filter(|(_, guard)| is(*guard)).map(|(name, _)| *name);
        names.map(str::to_owned).collect()
    };
    let all: BTreeSet<String> = &registered("changes") | &registered("reads");
    assert_eq!(all, listed(|_| true));
    // `fetch` only reads, and has a guard nevertheless: the node's Mail Agent acts on its answer.
    let reads = &registered("reads") - &BTreeSet::from(["fetch".to_owned()]);
    assert_eq!(reads, listed(|guard| guard == Reads));
}

/// Number of the message for `settle`; each further constant is that of another function.
const SETTLED: u32 = 1;
const UNCOMMITTED: u32 = 2;
const ABSENT: u32 = 3;
const RENAMED: u32 = 4;
const OBEYED: u32 = 5;
const DEFERRED: u32 = 6;
const COMMITTED: u32 = 7;
const PARKED: u32 = 8;
const REFUSED: u32 = 9;
const PULLED: u32 = 10;
/// Number of all messages; the last one is handed back.
const COUNT: u32 = 11;

struct World {
    redis: Redis,
    spool: Spool,
    earlier: FencingToken,
    later: FencingToken,
    lot: AssignedLot,
    pulled: LotNumber,
    before: Attendance<'static>,
}

/// Makes messages in each state that a Mail Agent can change, and two Mail Agents of one node.
async fn world() -> World {
    let redis = Redis::start().unwrap();
    let (spool, a) = (spool(&redis), node("a"));
    let lot = assigned_lot(&spool, &a, COUNT).await;
    let mail_agent = |n| registration(&a, n);
    let started = async |n| match spool.register(&mail_agent(n)).await.unwrap() {
        Registered::New(start) | Registered::Replaced(start) => {
            FencingToken { node: a.clone(), start }
        }
        other => panic!("{other:?}"),
    };
    let earlier = started(1).await;
    spool.arrive(&earlier).await.unwrap();
    let before = attendance(0, 1, 2);
    spool.attend(&a, &before).await.unwrap();
    let commits: Vec<_> = (SETTLED..=DEFERRED).map(|n| commit_of(&lot, n)).collect();
    spool.commit(&earlier, &commits).await.unwrap();
    let seen = MessagePlace::Committed(a.clone(), queue_id(OBEYED));
    spool.operate(Act::Delete, &[(id(OBEYED), seen)]).await.unwrap();
    let to = "example.org".parse().unwrap();
    spool.park(&earlier, &to, &[tenured(&lot, PULLED)]).await.unwrap();
    let pulled = spool.lanes(1).await.unwrap()[0].lots[0].lot;
    let later = started(2).await;
    spool.arrive(&later).await.unwrap();
    spool.attend(&a, &attendance(0, 2, 3)).await.unwrap();
    World {
        redis,
        spool,
        earlier,
        later,
        lot,
        pulled,
        before: Attendance { generation: 1, ..before },
    }
}

fn registration(node: &NodeId, n: u128) -> Registration {
    Registration {
        agent: node.clone().into(),
        kind: AgentKind::Mail,
        generation: Generation::from_parts(NOW_MS, n),
        lease: Duration::from_secs(10),
        name: "host".to_owned(),
        capacity: 1,
        address: None,
        unfit: None,
    }
}

fn attendance(generation: u64, last: u128, nonce: u128) -> Attendance<'static> {
    let nonce_of = |n| Generation::from_parts(NOW_MS, n);
    Attendance {
        generation,
        last: nonce_of(last),
        nonce: nonce_of(nonce),
        mark: CommitNumber(0),
        place: "here",
        host: "host",
        live: Duration::from_secs(10),
        leaves: false,
    }
}

fn tenured(lot: &AssignedLot, n: u32) -> Tenured {
    Tenured { id: id(n), lot: lot.lot, epoch: lot.epoch }
}

impl World {
    /// Calls a function as one of the Mail Agents. Returns the answer as text.
    async fn call(&self, name: &str, token: &FencingToken) -> Result<String, SpoolError> {
        let (spool, lot) = (&self.spool, &self.lot);
        let n = if *token == self.earlier { 1 } else { 2 };
        let it = registration(&token.node, n);
        let text = |answer: &dyn std::fmt::Debug| format!("{answer:?}");
        Ok(match name {
            "absent" => text(&spool.absent(token, CommitNumber(9), &[placed(ABSENT)]).await?),
            "arrive" => text(&spool.arrive(token).await?),
            "commit" => text(&spool.commit(token, &[commit_of(lot, COMMITTED)]).await?),
            "defer" => text(&spool.defer(token, &[deferral()]).await?),
            "fetch" => text(&spool.fetch(token).await?),
            "obey" => text(&spool.obey(token, &[(placed(OBEYED), Act::Delete)]).await?),
            "park" => {
                let to = "example.net".parse().unwrap();
                text(&spool.park(token, &to, &[tenured(lot, PARKED)]).await?)
            }
            "pull" => text(&spool.pull(token, &[self.pulled]).await?),
            "reassign" => text(&spool.hand_back(token).await?),
            "refuse" => text(&spool.refuse(token, id(REFUSED), (lot.lot, lot.epoch), "why").await?),
            "rename" => text(&spool.rename(token, &[rename()]).await?),
            "settle" => text(&spool.settle(token, &[placed(SETTLED)]).await?),
            "uncommit" => {
                text(&spool.uncommit(token, Unsent::MayBeSent, &[placed(UNCOMMITTED)]).await?)
            }
            "register" => text(&spool.register(&it).await?),
            "renew" => text(&spool.renew(&it.agent, it.generation, it.lease).await?),
            "leave" => text(&spool.leave(&it.agent, it.generation).await?),
            "attend" => {
                let next = if n == 1 { self.before } else { attendance(2, 3, 4) };
                text(&spool.attend(&token.node, &next).await?)
            }
            other => panic!("{other} has no call"),
        })
    }
}

fn deferral() -> Deferral {
    Deferral { queue_id: queue_id(DEFERRED), id: id(DEFERRED), rest: Rest::OnHold }
}

fn rename() -> Rename {
    Rename { id: id(RENAMED), was: queue_id(RENAMED), now: queue_id(99) }
}

/// Each function is called by the earlier Mail Agent, and then by the later one. The second call
/// shows that the first would have changed something.
#[tokio::test]
async fn a_superseded_mail_agent_changes_nothing_by_any_function() {
    let world = world().await;
    let before = snapshot(&world.redis);
    let called = || FUNCTIONS.into_iter().filter(|(_, guard)| !matches!(guard, Reads | Others));
    for (name, guard) in called() {
        let answer = world.call(name, &world.earlier).await;
        match guard {
            ByStart if name != "arrive" => {
                assert_eq!(answer, Err(SpoolError::Superseded), "{name}");
            }
            _ => assert_eq!(answer.as_deref(), Ok("Superseded"), "{name}"),
        }
        assert_eq!(snapshot(&world.redis), before, "{name} by an earlier Mail Agent");
    }
    let changes = |(name, guard): &(&str, Guard)| *guard == ByStart && *name != "fetch";
    // Handing back takes the lot from the others.
    let (last, others): (Vec<_>, Vec<_>) =
        called().filter(changes).map(|(name, _)| name).partition(|name| *name == "reassign");
    let world = World { spool: world.spool.at(NOW_MS + 1), ..world };
    for name in others.into_iter().chain(last) {
        let before = snapshot(&world.redis);
        world.call(name, &world.later).await.unwrap();
        assert_ne!(snapshot(&world.redis), before, "{name} by the later one");
    }
}
