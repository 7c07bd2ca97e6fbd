//! Holds the table in the documentation of [`super`] against the machine.
//!
//! The tests reach each phase by real inputs, and try each input in each phase. A pair that has a
//! row must lead to the phase and the actions of that row. Every other pair must change no phase
//! and cause no action. Renewals of the lease and attempts to connect don't count, since they
//! happen in every phase. One file, because phases, inputs and rows are read together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use handoff::protocol::{FolderKind, Handoff, Proof, QueuedFile, Reply, Request, Served};
use postfix_wire::QueueId;
use spool::{CommitNumber, Epoch, Generation, LotNumber, MessageId, Start, Unfit};

use super::phase::Phase;
use super::report::{Committed, MailReport};
use super::*;
use crate::machine::Ticket;

const PAGE: &str = include_str!("mod.rs");
const NODE: &str = "n";

/// A machine with its open questions and its actions so far.
struct Rig {
    mail: Mail,
    now: Instant,
    open: BTreeMap<u64, MailQuestion>,
    starts: u64,
    actions: Vec<&'static str>,
}

impl Rig {
    fn new() -> Self {
        let (generation, term) = (Generation::from_parts(1, 1), Duration::from_secs(1));
        let config = MailConfig { generation, name: String::new(), term, window: 8 };
        let now = Instant::now();
        let mail = Mail::new(config, now);
        let mut rig = Self { mail, now, open: BTreeMap::new(), starts: 0, actions: Vec::new() };
        rig.act();
        rig
    }

    fn act(&mut self) {
        while let Some(action) = self.mail.poll(self.now) {
            let name = match &action {
                Action::Ask(_, question) => question_name(question),
                Action::Link(LinkOrder::Send(request)) => request_name(request),
                Action::Link(LinkOrder::Connect) | Action::Tell(_) => None,
                Action::Call(..) | Action::Reply(..) => None,
                Action::End(_) => Some("end"),
            };
            self.actions.extend(name);
            match action {
                Action::Ask(ticket, question) => _ = self.open.insert(ticket.0, question),
                Action::End(_) => return,
                Action::Link(_) | Action::Tell(_) | Action::Call(..) | Action::Reply(..) => (),
            }
        }
    }

    fn input(&mut self, input: Input<MailAnswer, LinkEvent>) {
        self.mail.handle(self.now, input);
        self.act();
    }

    fn link(&mut self, event: LinkEvent) {
        self.input(Input::Link(event));
    }

    fn reply(&mut self, reply: Reply) {
        self.link(LinkEvent::Reply(reply));
    }

    /// Answers the open question of this name, if there is one.
    fn answer(&mut self, name: &str, answer: MailAnswer) {
        let is_it = |(_, question): &(&u64, &MailQuestion)| question_name(question) == Some(name);
        if let Some(ticket) = self.open.iter().find(is_it).map(|(ticket, _)| *ticket) {
            self.open.remove(&ticket);
            self.input(Input::Answer(Ticket(ticket), answer));
        }
    }

    fn pass(&mut self, until: Option<Instant>) {
        self.now = until.map_or(self.now, |until| until.max(self.now));
        // pickup-rs answers pings all the time.
        if self.mail.link.is_up() {
            let unfit = self.mail.fitness.why();
            self.mail.handle(self.now, Input::Link(LinkEvent::Reply(pong_of(unfit))));
        }
        self.act();
    }

    fn come(&mut self, node: &str) {
        self.come_with(node, Handoff::Hold);
    }

    fn come_with(&mut self, node: &str, handoff: Handoff) {
        let retry = self.mail.link.retry_at();
        self.pass(retry);
        self.link(LinkEvent::Connected);
        self.reply(pong(node, handoff));
    }

    /// Answers the open question for the lease, and lets time pass until there is one.
    fn lease(&mut self, answer: LeaseAnswer) {
        let is_outside = matches!(self.mail.phase, Phase::Outside { .. });
        if is_outside && matches!(answer, LeaseAnswer::Renewed | LeaseAnswer::Lapsed) {
            return;
        }
        let is_lease = |question: &MailQuestion| matches!(question, MailQuestion::Lease(_));
        if !self.open.values().any(is_lease) {
            let due = self.mail.membership.as_ref().and_then(|(_, it)| it.lease.due());
            self.pass(due);
        }
        let is_kept = |it: &MailQuestion| is_lease(it) && question_name(it) != Some("leave");
        let ticket = self.open.iter().find(|(_, it)| is_kept(it)).map(|(ticket, _)| *ticket);
        let Some(ticket) = ticket else { return };
        self.open.remove(&ticket);
        self.input(Input::Answer(Ticket(ticket), MailAnswer::Lease(answer)));
    }

    fn hold(&mut self, n: u64) {
        let (id, queue_id) = (MessageId::from_parts(n, 0), queue_id(n));
        let (lot, epoch) = (LotNumber(1), Epoch(1));
        self.reply(Reply::Held { id, lot, epoch, queue_id, to: Vec::new() });
    }

    fn decide(&mut self, outcome: Committed) {
        let reports = self.open.values().find_map(|question| match question {
            MailQuestion::Report(_, MailReport { commits, .. }) => Some(commits.len()),
            _ => None,
        });
        let commits = vec![outcome; reports.unwrap_or_default()];
        let (renames, present) = (Vec::new(), BTreeSet::new());
        let has_unknown = false;
        self.answer("report", MailAnswer::Reported { commits, renames, present, has_unknown });
    }

    /// Fails, or fences, all open questions but those for the lease.
    fn refuse(&mut self, input: impl Fn(Ticket) -> Input<MailAnswer, LinkEvent>) {
        let is_work = |question: &MailQuestion| !matches!(question, MailQuestion::Lease(_));
        let tickets: Vec<u64> =
            self.open.iter().filter(|(_, it)| is_work(it)).map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            self.open.remove(&ticket);
            self.mail.handle(self.now, input(Ticket(ticket)));
        }
        self.act();
    }

    fn phase(&self) -> String {
        let is_up = self.mail.link.is_up();
        let marks = match &self.mail.phase {
            Phase::Outside { fenced: Some(_), .. } => ", fenced",
            Phase::Outside { .. } if self.mail.link.is_away() => ", pickup-rs away",
            Phase::Outside { .. } if !is_up => ", no pickup-rs",
            Phase::CutOff { .. } if is_up => ", pickup-rs back",
            Phase::CutOff { hand_back, .. } if hand_back.is_done() => ", handed back",
            Phase::Leaving { hand_back, .. } if hand_back.is_done() => ", handed back",
            Phase::Serving(_) if !self.mail.fitness.is_fit() => ", unfit",
            phase if phase.leave_by().is_some() => ", ending",
            _ => "",
        };
        format!("{}{marks}", self.mail.phase.name())
    }
}

fn queue_id(n: u64) -> QueueId {
    format!("4C1B2{n:05X}").parse().unwrap()
}

fn pong(node: &str, handoff: Handoff) -> Reply {
    let node = node.to_owned();
    let (spool, trouble, waits, pause, unfit) = (None, None, None, None, None);
    let (cleanups, served) = (1, Served::Here);
    Reply::Pong { node, handoff, cleanups, spool, trouble, waits, pause, unfit, served }
}

fn pong_of(cause: Option<Unfit>) -> Reply {
    let mut pong = pong(NODE, Handoff::Hold);
    let Reply::Pong { unfit, .. } = &mut pong else { unreachable!("a pong") };
    *unfit = cause;
    pong
}

fn looked(is_drained: bool) -> MailAnswer {
    MailAnswer::Looked { window: 8, lanes: Vec::new(), is_drained }
}

fn question_name(question: &MailQuestion) -> Option<&'static str> {
    match question {
        MailQuestion::Lease(LeaseQuestion::Take { .. }) => Some("register"),
        MailQuestion::Lease(LeaseQuestion::Renew(_)) => None,
        MailQuestion::Lease(LeaseQuestion::Leave(_)) => Some("leave"),
        MailQuestion::HandBack(_) => Some("hand back"),
        MailQuestion::Vouch(_) => Some("vouch"),
        MailQuestion::Inventory(_) => Some("arrive"),
        MailQuestion::Fetch(_) => Some("fetch"),
        MailQuestion::Orders(_) => Some("orders"),
        MailQuestion::Report(..) => Some("report"),
        MailQuestion::Look(_) => Some("look"),
        MailQuestion::Pull(..) => Some("pull"),
    }
}

fn request_name(request: &Request) -> Option<&'static str> {
    match request {
        Request::Ping => None,
        Request::Inventory => Some("list"),
        Request::Release { .. } => Some("release"),
        Request::Discard { .. } => Some("discard"),
        Request::Feed { .. } => Some("feed"),
        _ => Some("other"),
    }
}

type Step = fn(&mut Rig);

/// Step to each phase, from an earlier phase of this list.
const PHASES: [(&str, &str, Step); 21] = [
    ("Nameless", "", |_| ()),
    ("Outside", "Nameless", |rig| rig.come(NODE)),
    ("Outside, no pickup-rs", "Outside", |rig| rig.link(LinkEvent::Disconnected)),
    ("Outside, pickup-rs away", "Outside, no pickup-rs", stay_away),
    ("Outside, ending", "Outside", |rig| rig.input(Input::Drain)),
    ("Asking", "Outside", begin),
    ("Asking, ending", "Asking", |rig| rig.input(Input::Drain)),
    ("Uncompared", "Asking", |rig| rig.link(LinkEvent::Disconnected)),
    ("CutOff", "Uncompared", stay_away),
    ("CutOff, pickup-rs back", "CutOff", |rig| rig.come(NODE)),
    ("CutOff, handed back", "CutOff", |rig| {
        rig.answer("hand back", MailAnswer::HandedBack);
        rig.answer("vouch", MailAnswer::Vouched);
    }),
    ("Listing", "Asking", inventory),
    ("Listing, ending", "Listing", |rig| rig.input(Input::Drain)),
    // The list shows one file that Redis has not decided about.
    ("Deciding", "Listing", |rig| {
        rig.hold(1);
        list(rig);
    }),
    ("Deciding, ending", "Deciding", |rig| rig.input(Input::Drain)),
    ("Serving", "Listing", |rig| {
        list(rig);
        rig.answer("fetch", MailAnswer::Fetched(Vec::new()));
        rig.answer("look", looked(false));
        rig.answer("orders", MailAnswer::Orders(BTreeMap::new()));
    }),
    ("Serving, unfit", "Serving", |rig| {
        rig.reply(pong_of(Some(Unfit::Room)));
        rig.lease(LeaseAnswer::Taken(Start(rig.starts)));
        rig.answer("hand back", MailAnswer::HandedBack);
        rig.answer("hand back", MailAnswer::HandedBack);
        rig.answer("look", looked(false));
        rig.answer("orders", MailAnswer::Orders(BTreeMap::new()));
    }),
    ("Outside, fenced", "Deciding", fence),
    ("Leaving", "Deciding, ending", decide),
    ("Leaving, handed back", "Leaving", |rig| rig.answer("hand back", MailAnswer::HandedBack)),
    ("Ended", "Leaving, handed back", leave),
];

const INPUTS: [(&str, Step); 28] = [
    ("pickup-rs comes", |rig| rig.come(NODE)),
    ("pickup-rs goes", |rig| rig.link(LinkEvent::Disconnected)),
    ("pickup-rs stays away", stay_away),
    ("pickup-rs refuses", |rig| {
        let retry = rig.mail.link.retry_at();
        rig.pass(retry);
        rig.link(LinkEvent::Refused);
    }),
    ("pickup-rs of another node comes", |rig| {
        rig.link(LinkEvent::Disconnected);
        rig.actions.clear();
        rig.come("m");
    }),
    ("lease begins", begin),
    ("lease goes on", |rig| rig.lease(LeaseAnswer::Renewed)),
    ("lease lapses", |rig| rig.lease(LeaseAnswer::Lapsed)),
    ("lease is superseded", |rig| rig.lease(LeaseAnswer::Superseded)),
    ("lease is left", leave),
    ("Redis fences", |rig| {
        // In the other phases a question is open already.
        if matches!(rig.mail.phase, Phase::Serving(_)) {
            rig.hold(3);
            rig.actions.clear();
        }
        fence(rig);
    }),
    ("questions fail", |rig| rig.refuse(Input::Failed)),
    ("inventory comes", inventory),
    ("list is complete", list),
    ("list shows a prepared file", |rig| {
        let (lot, epoch) = (LotNumber(1), Epoch(1));
        let place = FolderKind::Prepared;
        let (id, queue_id, to) = (MessageId::from_parts(4, 0), queue_id(4), Vec::new());
        let file = QueuedFile { id, lot, epoch, queue_id, place, to, next_attempt_s: None };
        list_of(rig, vec![file]);
    }),
    ("pickup-rs reports trouble", |rig| {
        rig.reply(Reply::Error { reason: "trouble".to_owned() });
    }),
    ("all is decided", decide),
    ("commit shows a gap", |rig| {
        rig.hold(2);
        rig.decide(Committed::Ours(CommitNumber(7)));
    }),
    ("doubt lasts", |rig| {
        rig.reply(Reply::Settled { queue_id: queue_id(9) });
        let due = rig.mail.compare_due();
        rig.pass(due);
    }),
    ("lots are handed back", |rig| rig.answer("hand back", MailAnswer::HandedBack)),
    ("lot is assigned", |rig| {
        rig.input(Input::Notice(Notice::Assigned(NODE.parse().unwrap(), None)));
    }),
    ("small lot is cut for this node", |rig| {
        let lot = SmallLot { lot: LotNumber(9), ids: vec![MessageId::from_parts(9, 0)] };
        rig.input(Input::Notice(Notice::Assigned(NODE.parse().unwrap(), Some(lot))));
    }),
    ("time is over", |rig| {
        let deadline = rig.mail.phase.deadline();
        rig.pass(deadline);
    }),
    ("Redis is another server", |rig| rig.input(Input::OtherServer)),
    ("drain", |rig| rig.input(Input::Drain)),
    ("Postfix is unfit", |rig| rig.reply(pong_of(Some(Unfit::Room)))),
    ("Postfix is fit", |rig| {
        rig.reply(pong_of(None));
        let due = rig.mail.fitness.due();
        rig.now = due.map_or(rig.now, |due| due.max(rig.now));
        rig.reply(pong_of(None));
    }),
    ("pickup-rs is silent", |rig| {
        let ping = rig.mail.link.ping_due();
        rig.now = ping.map_or(rig.now, |due| due.max(rig.now));
        rig.act();
        let silent = rig.mail.link.silent_at();
        rig.now = silent.map_or(rig.now, |due| due.max(rig.now));
        rig.act();
    }),
];

fn leave(rig: &mut Rig) {
    rig.answer("leave", MailAnswer::Lease(LeaseAnswer::Left));
}

fn begin(rig: &mut Rig) {
    if !matches!(rig.mail.phase, Phase::Outside { fenced: Some(_), .. }) {
        rig.starts += 1;
    }
    rig.lease(LeaseAnswer::Taken(Start(rig.starts)));
}

fn fence(rig: &mut Rig) {
    rig.refuse(|ticket| Input::Answer(ticket, MailAnswer::Superseded));
}

fn stay_away(rig: &mut Rig) {
    let until = rig.mail.link.away_at();
    rig.pass(until);
}

fn inventory(rig: &mut Rig) {
    rig.answer("arrive", MailAnswer::Inventory(Inventory::default()));
}

fn list(rig: &mut Rig) {
    list_of(rig, Vec::new());
}

fn list_of(rig: &mut Rig, files: Vec<QueuedFile>) {
    let (renamed, unreadable) = (Vec::new(), Vec::new());
    let proof = Proof::default();
    rig.reply(Reply::Inventory { files, renamed, unreadable, proof, complete: true });
}

fn decide(rig: &mut Rig) {
    rig.decide(Committed::Unknown);
}

fn reach(phase: &str) -> Rig {
    let Some((_, before, step)) = PHASES.iter().find(|(name, ..)| *name == phase) else {
        return Rig::new();
    };
    let mut rig = reach(before);
    step(&mut rig);
    assert_eq!(rig.phase(), phase, "reached by its step");
    rig.actions.clear();
    rig
}

/// Returns the phases that a cell names. "Any" stands for all but the first and the last one.
fn named(cell: &str) -> Vec<String> {
    let Some(but) = cell.strip_prefix("any") else {
        return cell.split("; ").map(str::to_owned).collect();
    };
    let but: Vec<&str> = but.trim_start_matches(" but ").split("; ").collect();
    let names = PHASES.iter().map(|(name, ..)| *name);
    let all = names.filter(|name| !["Nameless", "Ended"].contains(name) && !but.contains(name));
    all.map(str::to_owned).collect()
}

/// Returns the table's rows: next phase and actions, by phase and input.
fn rows() -> BTreeMap<(String, String), (String, String)> {
    let lines = PAGE.lines().filter_map(|line| line.strip_prefix("//! | "));
    let mut rows = BTreeMap::new();
    for line in lines.skip_while(|line| !line.starts_with("phase | input |")).skip(1) {
        let cells: Vec<&str> = line.trim_end_matches('|').split('|').map(str::trim).collect();
        let [phases, input, then, actions] = cells[..] else { panic!("not four cells: {line}") };
        for phase in named(phases) {
            let row = (phase, input.to_owned());
            let outcome = (then.to_owned(), actions.to_owned());
            assert_eq!(rows.insert(row, outcome), None, "two rows: {line}");
        }
    }
    rows
}

#[test]
fn a_small_lot_waits_for_an_answer_that_may_lack_it() {
    let mut rig = reach("Serving");
    rig.input(Input::Notice(Notice::Fetch(NODE.parse().unwrap())));
    let lot = SmallLot { lot: LotNumber(9), ids: vec![MessageId::from_parts(9, 0)] };
    rig.input(Input::Notice(Notice::Assigned(NODE.parse().unwrap(), Some(lot))));
    assert_eq!(rig.actions, ["fetch"], "not fed");
    rig.answer("fetch", MailAnswer::Fetched(Vec::new()));
    assert_eq!(rig.actions, ["fetch", "fetch"]);
}

/// Redis may have given the message of the settled file to others, or have its commit under another
/// queue id.
#[test]
fn a_settlement_of_a_file_that_redis_does_not_know_leads_to_a_comparison() {
    let mut rig = reach("Serving");
    rig.hold(1);
    rig.decide(Committed::Ours(CommitNumber(1)));
    for has_unknown in [false, true] {
        rig.hold(2);
        let (commits, renames) = (vec![Committed::Fenced], Vec::new());
        let present = BTreeSet::new();
        rig.answer("report", MailAnswer::Reported { commits, renames, present, has_unknown });
        assert_eq!(rig.mail.compare_due().is_some(), has_unknown);
    }
}

#[test]
fn a_small_lot_is_fetched_where_a_file_would_be_sent_at_once() {
    let mut rig = reach("Serving");
    rig.link(LinkEvent::Disconnected);
    rig.come_with(NODE, Handoff::Direct);
    inventory(&mut rig);
    list(&mut rig);
    rig.answer("fetch", MailAnswer::Fetched(Vec::new()));
    rig.actions.clear();
    let lot = SmallLot { lot: LotNumber(9), ids: vec![MessageId::from_parts(9, 0)] };
    rig.input(Input::Notice(Notice::Assigned(NODE.parse().unwrap(), Some(lot))));
    assert_eq!(rig.actions, ["fetch"]);
}

/// Checks the case of a pickup-rs that was reloaded with direct hand-off.
#[test]
fn a_lot_known_from_its_notice_waits_for_redis_where_a_file_would_be_sent_at_once() {
    let (lot, epoch, id) = (LotNumber(9), Epoch(1), MessageId::from_parts(9, 0));
    for own in [Vec::new(), vec![OwnLot { lot, epoch, ids: vec![id] }]] {
        let mut rig = reach("Serving");
        let small = SmallLot { lot, ids: vec![id] };
        rig.input(Input::Notice(Notice::Assigned(NODE.parse().unwrap(), Some(small))));
        assert_eq!(rig.actions, ["feed"], "files are held back");
        rig.link(LinkEvent::Disconnected);
        rig.come_with(NODE, Handoff::Direct);
        inventory(&mut rig);
        rig.actions.clear();
        list(&mut rig);
        assert_eq!(rig.actions, ["fetch", "orders", "look"]);
        rig.actions.clear();
        let feeds = own.len();
        rig.answer("fetch", MailAnswer::Fetched(own));
        assert_eq!(rig.actions, vec!["feed"; feeds]);
    }
}

/// Reaches Serving with direct hand-off, with one message under way.
fn feeding_directly() -> Rig {
    let mut rig = reach("Serving");
    rig.link(LinkEvent::Disconnected);
    rig.come_with(NODE, Handoff::Direct);
    rig.lease(LeaseAnswer::Taken(Start(rig.starts)));
    inventory(&mut rig);
    list(&mut rig);
    rig.answer("look", looked(false));
    rig.answer("orders", MailAnswer::Orders(BTreeMap::new()));
    rig.actions.clear();
    let (lot, epoch, ids) = (LotNumber(1), Epoch(1), vec![MessageId::from_parts(1, 0)]);
    rig.answer("fetch", MailAnswer::Fetched(vec![OwnLot { lot, epoch, ids }]));
    assert_eq!(rig.actions, ["feed"]);
    rig.actions.clear();
    rig
}

/// A message that is under way when its lot goes to others would be sent by both.
#[test]
fn an_unfit_node_hands_lots_back_after_redis_has_decided_about_what_was_sent() {
    let mut rig = feeding_directly();
    rig.reply(pong_of(Some(Unfit::Room)));
    assert_eq!(rig.actions, ["register"], "one message is under way");
    let (id, lot, epoch) = (MessageId::from_parts(1, 0), LotNumber(1), Epoch(1));
    rig.reply(Reply::Stored { id, lot, epoch, queue_id: queue_id(1), to: Vec::new() });
    assert_eq!(rig.actions, ["register", "report"]);
    rig.decide(Committed::Ours(CommitNumber(1)));
    assert_eq!(rig.actions, ["register", "report", "release", "hand back"], "the mark, and lots");
}

/// Checks the case of cleanup processes that answer no more.
#[test]
fn an_unfit_node_hands_lots_back_when_it_has_waited_long_enough_for_what_is_under_way() {
    let mut rig = feeding_directly();
    rig.reply(pong_of(Some(Unfit::Cleanup)));
    assert_eq!(rig.actions, ["register"]);
    let due = rig.mail.phase.hand_back_due();
    assert!(due.is_some());
    rig.pass(due);
    assert!(rig.actions.contains(&"hand back"), "{:?}", rig.actions);
    rig.answer("hand back", MailAnswer::HandedBack);
    rig.actions.clear();
    rig.input(Input::Notice(Notice::Assigned(NODE.parse().unwrap(), None)));
    assert_eq!(rig.actions, ["hand back"], "it waits once");
}

/// Checks the case of a lease that lapses again and again while Postfix is dead.
#[test]
fn a_lease_that_begins_while_pickup_rs_is_away_vouches_for_it_only_if_it_has_answered() {
    for has_answered in [false, true] {
        let mut rig = reach("Outside, pickup-rs away");
        if has_answered {
            let retry = rig.mail.link.retry_at();
            rig.pass(retry);
            rig.link(LinkEvent::Connected);
            rig.link(LinkEvent::Unserving);
        }
        begin(&mut rig);
        assert_eq!(rig.phase(), "CutOff");
        assert_eq!(rig.actions.contains(&"vouch"), has_answered);
    }
}

/// Checks the case of a pickup-rs that can't reach Redis while its Mail Agent can.
#[test]
fn a_node_is_vouched_for_at_each_renewal_before_which_its_pickup_rs_has_answered() {
    let mut rig = reach("CutOff, handed back");
    rig.lease(LeaseAnswer::Renewed);
    assert_eq!(rig.actions, ["hand back"], "pickup-rs is silent");
    rig.answer("hand back", MailAnswer::HandedBack);
    for _ in 0..2 {
        let retry = rig.mail.link.retry_at();
        rig.pass(retry);
        rig.link(LinkEvent::Connected);
        rig.link(LinkEvent::Unserving);
    }
    rig.actions.clear();
    for expected in [&["hand back", "vouch"][..], &["hand back"]] {
        rig.lease(LeaseAnswer::Renewed);
        assert_eq!(rig.actions, expected);
        rig.answer("hand back", MailAnswer::HandedBack);
        rig.answer("vouch", MailAnswer::Vouched);
        rig.actions.clear();
    }
}

#[test]
fn the_table_is_what_the_machine_does() {
    let mut rows = rows();
    let mut wrong = Vec::new();
    for (phase, ..) in PHASES {
        for (input, step) in INPUTS {
            let mut rig = reach(phase);
            let before = rig.phase();
            step(&mut rig);
            if before == "Ended" {
                rig.actions.retain(|action| *action != "end");
            }
            let found = (rig.phase(), rig.actions.join(", "));
            let row = rows.remove(&(phase.to_owned(), input.to_owned()));
            let is_same = |then: &str| then == "same" && found.0 == before || found.0 == then;
            let is_right = match &row {
                Some((then, actions)) => is_same(then) && *actions == found.1,
                None => found.0 == before && found.1.is_empty(),
            };
            if !is_right {
                let (then, actions) = &found;
                wrong.push(format!("| {phase} | {input} | {then} | {actions} |"));
            }
        }
    }
    assert!(wrong.is_empty(), "the machine does otherwise:\n{}", wrong.join("\n"));
    assert!(rows.is_empty(), "rows of no phase or input here: {rows:#?}");
}
