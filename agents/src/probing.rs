//! Probes, by which a Scheduler notices a dead Mail Agent long before its lease ends.
//!
//! A Mail Agent that works is asked every [`EVERY`] whether it is there. When [`SILENCES`] probes
//! in a row get no reply, the agent is *suspect*: its Scheduler has the directory end the lease, so
//! that no Info Agent gives it more, and takes its lots. That is always safe. Each lot gets a new
//! epoch, and an agent that lives learns that its lease is over, and takes it again.
//!
//! ```text
//!              lots, or just born         SILENCES in a row      suspect: its lease is ended
//!   unwatched ────────────────────▶ watched ────────────────▶ and the lots move
//!       ▲       idle for WATCH         │  ▲                            │ lease taken again
//!       └──────────────────────────────┘  └── pause over ── trusted ◀──┘
//! ```
//!
//! - *An idle agent* is not probed, so an idle platform sends nothing.
//! - *A lone agent* is not probed: nobody could take its lots.
//! - *An agent that was never reached* is not suspect: a firewall, a wrong address or another key
//!   would look the same. Its lease alone counts, and the log says so once.
//! - *An agent that comes back* was alive, and slow or out of reach. Its lease alone is trusted for
//!   a time that doubles with each suspicion, and the log says so once.
//! - *A Scheduler that was stopped itself* finds its probes unanswered too. A silence that took
//!   much longer than a call may take is its own, and doesn't count.
//! - *A Scheduler whose network fails* finds most of its probes unanswered. While more than half of
//!   the watched agents, and at least two, are silent at once, it is *blind*: nobody is suspect
//!   until one of the silent ones replies, or the leases of all have ended.
//! - *Redis is away*: probes go on. A suspicion waits for Redis, and is confirmed by later probes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use spool::{AgentId, Generation};

use crate::machine::{Ask, Ticket, earliest};
use crate::peer::{CALL_LIMIT, CallEnd, Peer, Reply};

/// Time between the beginnings of two probes of an agent.
const EVERY: Duration = Duration::from_millis(250);
/// Number of probes without a reply, in a row, that make an agent suspect: one alone may be lost.
/// With [`EVERY`] and [`CALL_LIMIT`], an agent's death is noticed within 750 ms.
const SILENCES: u32 = 2;
/// Time for which an agent is watched after its birth, and after it last had lots.
const WATCH: Duration = Duration::from_secs(2);
/// Time beyond [`CALL_LIMIT`] after which a silence is this process's own.
const OWN_STOP: Duration = Duration::from_millis(250);
/// Time for which an agent's lease alone is trusted when it first comes back.
const TRUST: Duration = Duration::from_secs(10);
/// Longest time of trust.
const TRUST_MAX: Duration = Duration::from_secs(3_600);
/// Time after which a suspicion is forgotten.
const DOUBT_KEPT: Duration = Duration::from_secs(6 * 3_600);

/// The probes of one Scheduler; see the module.
#[derive(Debug, Default)]
pub(crate) struct Probing {
    wards: BTreeMap<AgentId, Ward>,
    doubts: BTreeMap<AgentId, Doubt>,
    /// Whether so many agents are silent at once that this Scheduler's network may be at fault.
    is_blind: bool,
}

/// A Mail Agent that this Scheduler looks after.
#[derive(Debug)]
struct Ward {
    peer: Peer,
    /// Time until which the agent is watched.
    watch_until: Option<Instant>,
    next_at: Instant,
    probe: Ask,
    asked_at: Instant,
    silences: u32,
    /// Whether this process has ever had a reply of the agent's process.
    has_replied: bool,
    is_said: bool,
}

/// A suspicion of a process.
#[derive(Debug)]
struct Doubt {
    generation: Generation,
    /// Number of the lease that was ended.
    taken: u64,
    since: Instant,
    trust: Duration,
    /// End of the trust, once the agent has come back.
    until: Option<Instant>,
}

impl Ward {
    fn new(now: Instant, peer: Peer, has_replied: bool) -> Self {
        Self {
            peer,
            watch_until: Some(now + WATCH),
            next_at: now,
            probe: Ask::default(),
            asked_at: now,
            silences: 0,
            has_replied,
            is_said: false,
        }
    }

    fn watch(&mut self, now: Instant) {
        self.watch_until = Some(now + WATCH);
    }
}

impl Probing {
    /// Takes the Mail Agents that this Scheduler looks after, each with whether it has lots.
    pub(crate) fn seen(&mut self, now: Instant, wards: impl Iterator<Item = (Peer, bool)>) {
        let mut before = std::mem::take(&mut self.wards);
        self.doubts.retain(|_, doubt| now < doubt.since + DOUBT_KEPT);
        for (peer, has_lots) in wards {
            self.came_back(now, &peer);
            let agent = peer.agent.clone();
            let mut ward = match before.remove(&agent) {
                Some(ward) if ward.peer == peer => ward,
                Some(ward) if ward.peer.generation == peer.generation => {
                    Ward::new(now, peer, ward.has_replied)
                }
                Some(_) | None => Ward::new(now, peer, false),
            };
            if has_lots {
                ward.watch(now);
            }
            self.wards.insert(agent, ward);
        }
        self.is_blind &= self.wards.values().any(|it| it.silences > 0);
    }

    /// Notes that a suspect agent was alive, if it is this one.
    fn came_back(&mut self, now: Instant, peer: &Peer) {
        let Some(doubt) = self.doubts.get_mut(&peer.agent) else { return };
        if doubt.generation != peer.generation {
            self.doubts.remove(&peer.agent);
        } else if doubt.until.is_none() && peer.taken != doubt.taken {
            doubt.until = Some(now + doubt.trust);
            if doubt.trust == TRUST {
                tracing::warn!(
                    agent = %peer.agent,
                    address = %peer.address,
                    "Mail Agent lives, and did not answer probes; its lease alone counts for a \
                        while; check its host's load, agents.address and agents.rpc_key"
                );
            }
        }
    }

    /// Notes that a lot was assigned to a node.
    pub(crate) fn assigned(&mut self, now: Instant, node: &AgentId) {
        if let Some(ward) = self.wards.get_mut(node) {
            ward.watch(now);
        }
    }

    /// Returns the next probe that is due. `ticket` opens it.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        ticket: impl FnOnce(&mut Ask) -> Ticket,
    ) -> Option<(Ticket, Peer)> {
        for ward in self.wards.values_mut() {
            ward.watch_until = ward.watch_until.filter(|until| *until > now);
        }
        let is_due = |ward: &&mut Ward| {
            ward.watch_until.is_some() && !ward.probe.is_open() && ward.next_at <= now
        };
        let ward = self.wards.values_mut().find(is_due)?;
        (ward.asked_at, ward.next_at) = (now, now + EVERY);
        Some((ticket(&mut ward.probe), ward.peer.clone()))
    }

    /// Returns the time of the next probe.
    pub(crate) fn due(&self) -> Option<Instant> {
        let is_waiting = |ward: &&Ward| ward.watch_until.is_some() && !ward.probe.is_open();
        earliest(self.wards.values().filter(is_waiting).map(|ward| Some(ward.next_at)))
    }

    /// Takes the end of a probe. Returns the agent if it is suspect now.
    pub(crate) fn ended(&mut self, now: Instant, ticket: Ticket, end: &CallEnd) -> Option<Peer> {
        let ward = self.wards.values_mut().find_map(|it| it.probe.close(ticket).then_some(it))?;
        match end {
            CallEnd::Replied(Reply::Here { has_lots }) => {
                let was_silent = std::mem::take(&mut ward.silences) > 0;
                if !std::mem::replace(&mut ward.has_replied, true) {
                    let (agent, address) = (&ward.peer.agent, ward.peer.address);
                    tracing::info!(%agent, %address, "Mail Agent reached by probes");
                }
                if *has_lots {
                    ward.watch(now);
                }
                if was_silent && std::mem::take(&mut self.is_blind) {
                    self.wards.values_mut().for_each(|it| it.silences = 0);
                }
                return None;
            }
            CallEnd::Failed => return None,
            CallEnd::Silent if now > ward.asked_at + CALL_LIMIT + OWN_STOP => return None,
            CallEnd::Silent => ward.silences += 1,
        }
        if ward.silences < SILENCES {
            return None;
        }
        if !ward.has_replied {
            if !std::mem::replace(&mut ward.is_said, true) {
                tracing::warn!(
                    agent = %ward.peer.agent,
                    address = %ward.peer.address,
                    "Mail Agent not reached by rpc: its death is noticed when its lease ends; \
                        check agents.address and agents.rpc_key"
                );
            }
            return None;
        }
        ward.watch(now);
        let peer = ward.peer.clone();
        let doubt = self.doubts.get(&peer.agent);
        let is_trusted = doubt.is_some_and(|it| it.until.is_some_and(|until| until > now));
        self.look_at_itself(now);
        (!is_trusted && !self.is_blind).then_some(peer)
    }

    /// Notes whether most of the agents are silent, so that this Scheduler's network may be at
    /// fault.
    fn look_at_itself(&mut self, now: Instant) {
        let is_watched =
            |it: &&Ward| it.has_replied && it.watch_until.is_some_and(|until| until > now);
        let watched: Vec<_> = self.wards.values().filter(is_watched).collect();
        let silent = watched.iter().filter(|it| it.silences > 0).count();
        if silent >= 2 && silent * 2 > watched.len() && !std::mem::replace(&mut self.is_blind, true)
        {
            tracing::warn!(
                silent,
                watched = watched.len(),
                "most Mail Agents answer no probes: their leases alone count; check this host's \
                    network"
            );
        }
    }

    /// Returns whether an agent has been silent up to now.
    pub(crate) fn is_suspect(&self, peer: &Peer) -> bool {
        let ward = self.wards.get(&peer.agent).filter(|it| it.peer == *peer);
        !self.is_blind && ward.is_some_and(|it| it.silences >= SILENCES)
    }

    /// Notes that a suspect agent's lease is ended.
    pub(crate) fn suspected(&mut self, now: Instant, peer: &Peer) {
        let Peer { agent, generation, taken, .. } = peer.clone();
        let before = self.doubts.get(&agent);
        let trust = match before {
            Some(doubt) if doubt.taken == taken => doubt.trust,
            Some(doubt) => (doubt.trust * 2).min(TRUST_MAX),
            None => TRUST,
        };
        self.doubts.insert(agent, Doubt { generation, taken, since: now, trust, until: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Tickets;
    use spool::Start;

    const HERE: CallEnd = CallEnd::Replied(Reply::Here { has_lots: true });
    const IDLE: CallEnd = CallEnd::Replied(Reply::Here { has_lots: false });

    fn peer(taken: u64) -> Peer {
        Peer {
            agent: "n".parse().unwrap(),
            generation: Generation::from_parts(1, 1),
            address: ([127, 0, 0, 1], 1).into(),
            start: Start(1),
            taken,
        }
    }

    /// A Scheduler's probes of one agent.
    struct Rig {
        probing: Probing,
        tickets: Tickets,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let mut rig = Self {
                probing: Probing::default(),
                tickets: Tickets::default(),
                now: Instant::now(),
            };
            rig.see(1);
            rig
        }

        fn see(&mut self, taken: u64) {
            self.probing.seen(self.now, [(peer(taken), true)].into_iter());
        }

        /// Lets time pass until the next probe, which ends like this. Returns whether the agent is
        /// suspect.
        fn probe(&mut self, end: &CallEnd) -> bool {
            let due = self.probing.due().expect("the agent is watched");
            self.now = self.now.max(due);
            let (ticket, _) = self
                .probing
                .poll(self.now, |ask| ask.open(&mut self.tickets))
                .expect("a probe is due");
            if *end == CallEnd::Silent {
                self.now += CALL_LIMIT;
            }
            self.probing.ended(self.now, ticket, end).is_some()
        }

        /// Makes probes without a reply until the agent is suspect. Returns how many.
        fn silence(&mut self, most: u32) -> u32 {
            (1..=most).find(|_| self.probe(&CallEnd::Silent)).unwrap_or(0)
        }
    }

    #[test]
    fn an_agent_that_falls_silent_is_suspect_within_750_ms() {
        let mut rig = Rig::new();
        assert!(!rig.probe(&HERE));
        let died = rig.now;
        assert_eq!(rig.silence(10), SILENCES);
        assert!(rig.now - died <= Duration::from_millis(750));
    }

    #[test]
    fn one_lost_probe_and_a_stop_of_this_process_make_nobody_suspect() {
        let mut rig = Rig::new();
        rig.probe(&HERE);
        for _ in 0..5 {
            assert!(!rig.probe(&CallEnd::Silent) && !rig.probe(&HERE));
            assert!(!rig.probe(&CallEnd::Silent) && !rig.probe(&CallEnd::Failed));
            let (ticket, _) = {
                rig.now = rig.probing.due().unwrap();
                rig.probing.poll(rig.now, |ask| ask.open(&mut rig.tickets)).unwrap()
            };
            rig.now += Duration::from_secs(60);
            assert_eq!(rig.probing.ended(rig.now, ticket, &CallEnd::Silent), None);
            rig.see(1);
            assert!(!rig.probe(&HERE));
        }
    }

    #[test]
    fn an_agent_that_was_never_reached_is_not_suspect() {
        let mut rig = Rig::new();
        for _ in 0..5 {
            assert_eq!(rig.silence(5), 0);
            rig.see(1);
        }
    }

    #[test]
    fn an_agent_that_comes_back_is_trusted_for_a_time_that_doubles() {
        let mut rig = Rig::new();
        rig.probe(&HERE);
        assert_eq!(rig.silence(2), 2);
        for (taken, trust) in [(2, 10), (3, 20), (4, 40)] {
            rig.probing.suspected(rig.now, &peer(taken - 1));
            rig.probing.suspected(rig.now, &peer(taken - 1));
            rig.see(taken);
            let back = rig.now;
            assert!(rig.silence(1_000) > 0, "it is suspect again");
            let passed = rig.now - back;
            assert!(passed >= Duration::from_secs(trust), "{passed:?}");
            assert!(passed <= Duration::from_secs(trust + 1), "{passed:?}");
        }
    }

    /// Makes one probe of each agent, in the order of their names, that ends so. Returns the
    /// suspects.
    fn round(rig: &mut Rig, ends: &[&CallEnd]) -> Vec<AgentId> {
        rig.now += EVERY;
        let mut suspects = Vec::new();
        let probes: Vec<_> = ends
            .iter()
            .map(|_| rig.probing.poll(rig.now, |ask| ask.open(&mut rig.tickets)).unwrap())
            .collect();
        rig.now += CALL_LIMIT;
        for ((ticket, _), end) in probes.into_iter().zip(ends) {
            suspects.extend(rig.probing.ended(rig.now, ticket, end).map(|it| it.agent));
        }
        suspects.retain(|it| rig.probing.is_suspect(&rig.probing.wards[it].peer));
        suspects
    }

    fn see_all(rig: &mut Rig, names: &[&str]) {
        let peer = |name: &&str| (Peer { agent: name.parse().unwrap(), ..peer(1) }, true);
        rig.probing.seen(rig.now, names.iter().map(peer));
    }

    #[test]
    fn agents_that_fall_silent_together_are_not_suspect_until_one_replies() {
        let mut rig = Rig::new();
        see_all(&mut rig, &["a", "b", "c"]);
        let silent = &CallEnd::Silent;
        assert!(round(&mut rig, &[&HERE; 3]).is_empty());
        for _ in 0..4 {
            assert!(round(&mut rig, &[silent; 3]).is_empty());
        }
        assert!(round(&mut rig, &[silent, silent, &HERE]).is_empty(), "the network is back");
        assert!(round(&mut rig, &[&HERE, silent, &HERE]).is_empty(), "counted anew");
        let suspects = round(&mut rig, &[&HERE, silent, &HERE]);
        assert_eq!(suspects, ["b".parse().unwrap()]);
    }

    #[test]
    fn a_scheduler_sees_again_once_the_leases_of_the_silent_have_ended() {
        let mut rig = Rig::new();
        see_all(&mut rig, &["a", "b", "c"]);
        let silent = &CallEnd::Silent;
        round(&mut rig, &[&HERE; 3]);
        for _ in 0..4 {
            assert!(round(&mut rig, &[silent, silent, &HERE]).is_empty());
        }
        see_all(&mut rig, &["c"]);
        assert!(round(&mut rig, &[silent]).is_empty());
        assert_eq!(round(&mut rig, &[silent]), ["c".parse().unwrap()]);
    }

    #[test]
    fn an_idle_agent_is_not_probed() {
        let mut rig = Rig::new();
        let began = rig.now;
        let mut probes = 0;
        while rig.probing.due().is_some_and(|due| due < began + WATCH) {
            rig.probe(&IDLE);
            probes += 1;
        }
        rig.now += WATCH;
        assert!(rig.probing.poll(rig.now, |ask| ask.open(&mut rig.tickets)).is_none());
        assert!(probes <= 8 && rig.probing.due().is_none(), "{probes}");
        rig.probing.seen(rig.now, [(peer(1), false)].into_iter());
        assert_eq!(rig.probing.due(), None);
        rig.probing.assigned(rig.now, &peer(1).agent);
        assert!(!rig.probe(&HERE), "it works again");
    }
}
