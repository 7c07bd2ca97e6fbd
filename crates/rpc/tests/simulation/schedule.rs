//! A schedule from its beginning to its end: troubles, then calls that must succeed, then quiet.

use simulation::Random;

use crate::host::Host;
use crate::ledger::{Call, End, Finding, Violation};
use crate::plan::{HOUR, MINUTE, Pace, Plan, SECOND, Trouble};
use crate::trace::Trace;
use crate::world::{Event, Tally, World};

/// Outcome of a schedule.
pub(crate) struct Outcome {
    pub result: Result<(), Finding>,
    pub tally: Tally,
    pub calls: Vec<Call>,
}

/// Number of attempts of a call after the troubles: the first may end because its server has
/// restarted.
const ATTEMPTS: usize = 4;

/// Runs a schedule; `prepare` may break a rule.
pub(crate) fn run(
    plan: Plan,
    random: Random,
    trace: Trace,
    prepare: impl Fn(&mut World),
) -> Outcome {
    trace.line(0, &|| format!("{plan:?}"));
    let mut world = World::new(plan, random, trace);
    prepare(&mut world);
    let result = live(&mut world);
    world.tally.repeated = world.hosts.iter().map(Host::repeated).sum();
    Outcome { result, tally: world.tally, calls: world.ledger.calls().to_vec() }
}

fn live(world: &mut World) -> Result<(), Finding> {
    begin(world);
    let chaos_us = world.plan.chaos_us;
    world.run_until(chaos_us, |_| false)?;
    world.clear_up();
    all_calls_end(world)?;
    if world.plan.must_answer {
        all_were_answered(world)?;
        copies_are_dropped(world)?;
    } else if !world.plan.are_twins {
        recover(world)?;
    }
    come_to_rest(world)
}

fn begin(world: &mut World) {
    (0..world.hosts.len()).for_each(|host| world.start(host));
    let bursts = world.plan.work.calls as u64 / (world.plan.work.burst / 2 + 1) + 1;
    for _ in 0..bursts {
        let (host, after_us) =
            (world.any(world.clients()), world.random.between(0, world.plan.chaos_us));
        world.later(after_us, Event::Call { host });
    }
    if !world.plan.troubles.is_empty() {
        world.network.is_recording = world.plan.troubles.contains(&Trouble::Replay);
        world.later(world.plan.trouble_every_us, Event::Trouble);
    }
}

fn all_calls_end(world: &mut World) -> Result<(), Finding> {
    let limit_us = world.now_us + world.plan.work.limit_us.1;
    if world.run_until(limit_us, |world| !world.has_open_calls())? {
        return Ok(());
    }
    let open: Vec<_> =
        world.hosts.iter().flat_map(|host| host.open.iter().map(|(_, call)| call)).collect();
    Finding::new(Violation::NeverEnded, format!("calls {open:?}"))
}

fn all_were_answered(world: &World) -> Result<(), Finding> {
    let failed = |(_, call): &(usize, &Call)| call.end != Some(End::Reply);
    match world.ledger.calls().iter().enumerate().find(failed) {
        None => Ok(()),
        Some((number, call)) => {
            Finding::new(Violation::NotAnswered, format!("call {number}: {:?}", call.end))
        }
    }
}

/// Checks that a copy of a packet gets no answer of its own. A copy of a `Hello` gets one, since
/// the server doesn't remember it.
fn copies_are_dropped(world: &World) -> Result<(), Finding> {
    let Tally { sent_by_clients, sent_by_servers, greeted, executed, .. } = world.tally;
    // Each question gets one answer, and a second one if the service takes long.
    if !world.plan.has_long_messages() && sent_by_servers > sent_by_clients + greeted + executed {
        return Finding::new(Violation::TooManyPackets, format!("{:?}", world.tally));
    }
    Ok(())
}

/// Checks that every client reaches every server again, though late packets still come.
fn recover(world: &mut World) -> Result<(), Finding> {
    world.plan.work.pace = Pace::AtOnce;
    world.plan.work.cancelled = 0;
    for client in world.clients() {
        for server in world.servers() {
            reach(world, client, server)?;
        }
    }
    Ok(())
}

fn reach(world: &mut World, client: usize, server: usize) -> Result<(), Finding> {
    // If sessions are few, the call waits until those of others have ended.
    let attempts = if world.plan.is_tight { 60 } else { ATTEMPTS };
    for _ in 0..attempts {
        let Some(call) = world.call(client, server, 5 * MINUTE) else { break };
        let limit_us = world.now_us + 5 * MINUTE;
        world.run_until(limit_us, |world| world.ledger.call(call).end.is_some())?;
        // A message may be too long for a server that takes only short ones.
        if world.was_answered(call) || world.was_too_long(call) {
            return Ok(());
        }
        let pause_us = SECOND + world.random.skewed(MINUTE);
        world.run_until(world.now_us + pause_us, |_| false)?;
    }
    let detail = format!("{} doesn't reach {}", world.name(client), world.name(server));
    Finding::new(Violation::NotRecovered, detail)
}

/// Checks that every table is empty when the last packet has arrived and every idle time has
/// passed.
fn come_to_rest(world: &mut World) -> Result<(), Finding> {
    let limit_us = world.now_us + HOUR;
    if !world.run_until(limit_us, World::is_at_rest)? {
        return Finding::new(Violation::NeverAtRest, world.describe());
    }
    match world.hosts.iter().find(|host| !host.is_empty()) {
        None => Ok(()),
        Some(_) => Finding::new(Violation::NotEmpty, world.describe()),
    }
}

impl World {
    pub(crate) fn describe(&self) -> String {
        let of = |host: &Host| format!("{:?}: {}", host.role, host.usage());
        self.hosts.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}
