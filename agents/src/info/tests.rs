//! Tests of `plan`, which decides, and of notices that complete the last view.

#![allow(clippy::unwrap_used)]

use spool::AgentId;

use super::plan::CUT_LIMIT;
use super::turns::STAND_IN_AFTER;
use super::*;
use crate::view::{Fellow, MailAgentState, Node, ReadyLot};

const LINGER: Duration = Duration::from_millis(200);
const TERMS: Terms = Terms { lot_size: 100, linger: LINGER };

fn node(name: &str, capacity: u32, committed: u64, lots: usize) -> Node {
    let agent = MailAgentState::Alive { capacity, lease_left: LINGER };
    Node {
        node: name.parse().unwrap(),
        agent,
        lots,
        pending: 0,
        committed,
        deferred: 0,
        on_hold: 0,
        peer: None,
        start: None,
        scheduler: None,
    }
}

fn agents(names: &[&str]) -> Vec<AgentId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn fellows(names: &[&str]) -> Vec<Fellow> {
    agents(names).into_iter().map(|agent| Fellow { agent, lease_ends_ms: 1 }).collect()
}

fn plan_of(view: &View, me: &str) -> Plan {
    let me: AgentId = me.parse().unwrap();
    plan(view, TERMS, |lot| Turns::default().is_mine(view, &me, lot))
}

fn view(infos: &[&str], nodes: Vec<Node>, ready: &[u64]) -> View {
    let ready = ready.iter().map(|&n| ReadyLot { lot: LotNumber(n), count: 100 }).collect();
    View { infos: fellows(infos), schedulers: agents(&["s"]), nodes, ready, ..View::default() }
}

/// Makes an inbox whose next lot is number 9.
fn inbox(count: u64, age_ms: u64) -> Inbox {
    Inbox { count, age: Duration::from_millis(age_ms), next_lot: LotNumber(9) }
}

fn cut(view: &View, me: &str) -> Vec<(u64, String)> {
    let deal = plan_of(view, me).deal;
    deal.cut.into_iter().map(|(lot, node)| (lot.0, node.to_string())).collect()
}

fn deal(view: &View, me: &str) -> Vec<(u64, String)> {
    let deal = plan_of(view, me).deal;
    deal.assign.into_iter().map(|(lot, node)| (lot.0, node.to_string())).collect()
}

fn to(lots: &[(u64, &str)]) -> Vec<(u64, String)> {
    lots.iter().map(|(lot, node)| (*lot, (*node).to_owned())).collect()
}

#[test]
fn each_info_agent_deals_the_lots_of_its_rank_and_no_lot_is_dealt_twice() {
    let view = view(&["a", "b", "c"], vec![node("n", 10_000, 0, 0)], &[1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(deal(&view, "a"), to(&[(3, "n"), (6, "n")]));
    assert_eq!(deal(&view, "b"), to(&[(1, "n"), (4, "n"), (7, "n")]));
    assert_eq!(deal(&view, "c"), to(&[(2, "n"), (5, "n")]));
    assert_eq!(deal(&view, "else"), to(&[]));
}

#[test]
fn the_lots_of_a_dead_info_agent_fall_to_the_rest() {
    let view = view(&["b", "c"], vec![node("n", 10_000, 0, 0)], &[1, 2, 3, 4]);
    assert_eq!(deal(&view, "b"), to(&[(2, "n"), (4, "n")]));
    assert_eq!(deal(&view, "c"), to(&[(1, "n"), (3, "n")]));
}

#[test]
fn each_lot_goes_to_the_node_with_most_credit() {
    let nodes = vec![node("x", 250, 0, 0), node("y", 400, 0, 0)];
    let view = view(&["a"], nodes, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let dealt = deal(&view, "a");
    assert_eq!(dealt[..3], to(&[(1, "y"), (2, "y"), (3, "x")])[..]);
    // A node without credit takes no more lots; its last lot may exceed the credit.
    let times = |node: &str| dealt.iter().filter(|(_, it)| it == node).count();
    assert_eq!((times("x"), times("y"), dealt.len()), (3, 4, 7));
}

#[test]
fn without_a_mail_agent_or_a_scheduler_lots_wait() {
    assert_eq!(deal(&view(&["a"], vec![], &[1]), "a"), to(&[]));
    let dead = Node { agent: MailAgentState::Ended(LINGER), ..node("n", 0, 0, 0) };
    assert_eq!(deal(&view(&["a"], vec![dead], &[1]), "a"), to(&[]));
    let alone = View { schedulers: vec![], ..view(&["a"], vec![node("n", 10, 0, 0)], &[1]) };
    assert_eq!(deal(&alone, "a"), to(&[]));
}

#[test]
fn an_idle_node_gets_the_whole_inbox_at_once_however_little() {
    let view = View { inbox: inbox(1, 0), ..view(&["a"], vec![node("n", 10, 5, 0)], &[]) };
    assert_eq!(cut(&view, "a"), to(&[(9, "n")]));
}

#[test]
fn while_all_nodes_are_busy_the_inbox_gathers_a_lot_or_lingers() {
    let busy = |count, age_ms| View {
        inbox: inbox(count, age_ms),
        ..view(&["a"], vec![node("n", 1_000, 5, 1)], &[])
    };
    let young = plan_of(&busy(99, 150), "a");
    assert_eq!((young.deal, young.look_again), (Deal::default(), Some(Duration::from_millis(50))));
    assert_eq!(cut(&busy(1, 200), "a"), to(&[(9, "n")]));
    assert_eq!(cut(&busy(100, 0), "a"), to(&[(9, "n")]));
    // Mail behind a whole lot has not lingered.
    let rest = plan_of(&busy(150, 200), "a");
    assert_eq!((rest.deal.cut.len(), rest.look_again), (1, Some(LINGER)));
}

#[test]
fn while_no_node_has_credit_the_inbox_just_fills() {
    let view = View { inbox: inbox(999, 999), ..view(&["a"], vec![node("n", 10, 10, 0)], &[]) };
    assert_eq!(plan_of(&view, "a"), Plan::default());
}

#[test]
fn a_backlog_is_cut_as_far_as_there_is_credit() {
    let nodes = vec![node("x", 150, 0, 0), node("y", 250, 0, 0)];
    let view = View { inbox: inbox(10_000, 0), ..view(&["a"], nodes, &[]) };
    assert_eq!(cut(&view, "a"), to(&[(9, "y"), (10, "x"), (11, "y"), (12, "x"), (13, "y")]));
    let many = View { inbox: inbox(10_000, 0), nodes: vec![node("z", 100_000, 0, 0)], ..view };
    assert_eq!(cut(&many, "a").len(), CUT_LIMIT);
}

#[test]
fn a_ready_lot_goes_before_a_lot_from_the_inbox() {
    let view = View { inbox: inbox(500, 0), ..view(&["a"], vec![node("n", 150, 0, 0)], &[1]) };
    assert_eq!((deal(&view, "a"), cut(&view, "a")), (to(&[(1, "n")]), to(&[(9, "n")])));
}

#[test]
fn info_agents_take_turns_at_the_inbox() {
    let all = View { inbox: inbox(500, 0), ..view(&["a", "b"], vec![node("n", 5_000, 0, 0)], &[]) };
    assert_eq!(cut(&all, "a"), to(&[]));
    // One turn cuts as much as there is, not one lot for each look.
    assert_eq!(cut(&all, "b"), to(&[(9, "n"), (10, "n"), (11, "n"), (12, "n"), (13, "n")]));
    let left = View { infos: fellows(&["a"]), ..all };
    assert_eq!(cut(&left, "a").len(), 5);
}

#[test]
fn deferred_mail_takes_no_credit() {
    let waiting = Node { deferred: 10, ..node("n", 10, 10, 0) };
    assert_eq!(deal(&view(&["a"], vec![waiting], &[1]), "a"), to(&[(1, "n")]));
}

/// Returns the next question, and skips notices.
fn asks(info: &mut Info, now: Instant) -> Option<(Ticket, InfoQuestion)> {
    loop {
        match info.poll(now)? {
            Action::Ask(ticket, question) => return Some((ticket, question)),
            Action::Tell(_) | Action::Call(..) | Action::Reply(..) => (),
            other => panic!("{other:?}"),
        }
    }
}

/// Makes an Info Agent of this name with this view.
fn looking(name: &str, now: Instant, view: View) -> Info {
    let agent: AgentId = name.parse().unwrap();
    let generation = spool::Generation::from_parts(1, 1);
    let member = Member { agent, kind: spool::AgentKind::Info, generation, name: String::new() };
    let mut info = Info::new(member, Duration::from_secs(60), TERMS);
    let (ticket, _) = asks(&mut info, now).unwrap();
    info.handle(now, Input::Answer(ticket, InfoAnswer::Lease(LeaseAnswer::Taken(spool::Start(1)))));
    let (ticket, question) = asks(&mut info, now).unwrap();
    assert_eq!(question, InfoQuestion::See);
    info.handle(now, Input::Answer(ticket, InfoAnswer::Seen(view)));
    assert_eq!(asks(&mut info, now), None);
    info
}

#[test]
fn while_owners_act_another_agent_neither_asks_nor_wakes_up() {
    let (now, renewal) = (Instant::now(), Duration::from_secs(20));
    let mut idle = view(&["a", "b", "c"], vec![node("n", 100, 0, 0)], &[]);
    idle.inbox.next_lot = LotNumber(3);
    let mut info = looking("c", now, idle);
    let cut = |info: &mut Info, lot| {
        let node: NodeId = "n".parse().unwrap();
        info.handle(now, Input::Notice(Notice::Assigned(node, None)));
        info.handle(now, Input::Notice(Notice::Cut(LotNumber(lot))));
    };
    info.handle(now, Input::Notice(Notice::Inbox));
    assert_eq!(asks(&mut info, now), None);
    assert_eq!(info.poll_timeout(), Some(now + STAND_IN_AFTER * 2), "two agents come before it");
    cut(&mut info, 3);
    assert_eq!((asks(&mut info, now), info.poll_timeout()), (None, Some(now + renewal)));
    // The node is busy, so the next owner waits for more mail first.
    info.handle(now, Input::Notice(Notice::Inbox));
    assert_eq!(asks(&mut info, now), None);
    assert_eq!(info.poll_timeout(), Some(now + LINGER + STAND_IN_AFTER));
    cut(&mut info, 4);
    // The next lot is its own.
    assert_eq!(asks(&mut info, now).unwrap().1, InfoQuestion::See);
}

#[test]
fn an_agent_looks_and_stands_in_for_owners_that_do_not_act() {
    let now = Instant::now();
    let idle = |count| View {
        inbox: Inbox { count, age: Duration::ZERO, next_lot: LotNumber(3) },
        ..view(&["a", "b", "c"], vec![node("n", 100, 0, 0), node("m", 90, 0, 0)], &[])
    };
    let mut info = looking("c", now, idle(0));
    info.handle(now, Input::Notice(Notice::Inbox));
    let then = now + STAND_IN_AFTER * 2;
    let (ticket, question) = asks(&mut info, then).unwrap();
    assert_eq!(question, InfoQuestion::See);
    info.handle(then, Input::Answer(ticket, InfoAnswer::Seen(idle(1))));
    let (ticket, question) = asks(&mut info, then).unwrap();
    let InfoQuestion::Deal(deal) = question else { panic!("{question:?}") };
    assert_eq!(deal.cut[0].0, LotNumber(3));
    let dealt = Dealt { assigned: 0, cut: vec![Cut::Cut { messages: 1, left: 0 }] };
    info.handle(then, Input::Answer(ticket, InfoAnswer::Dealt(dealt)));
    // The next lot is the turn of an agent that was silent.
    info.handle(then, Input::Notice(Notice::Inbox));
    assert!(matches!(asks(&mut info, then), Some((_, InfoQuestion::Deal(_)))));
}

#[test]
fn an_info_agent_cuts_for_an_idle_node_without_a_look() {
    let now = Instant::now();
    let nodes = vec![node("n", 100, 0, 0), node("m", 90, 0, 0)];
    let mut info = looking("a", now, view(&["a"], nodes, &[]));
    for (lot, name) in [(1, "n"), (2, "m")] {
        info.handle(now, Input::Notice(Notice::Inbox));
        let (ticket, question) = asks(&mut info, now).unwrap();
        let cut = vec![(LotNumber(lot), name.parse().unwrap())];
        assert_eq!(question, InfoQuestion::Deal(Deal { assign: vec![], cut }));
        // The notices of its own cut come before the answer, and after it.
        info.handle(now, Input::Notice(Notice::Cut(LotNumber(lot))));
        let dealt = Dealt { assigned: 0, cut: vec![Cut::Cut { messages: 50, left: 0 }] };
        info.handle(now, Input::Answer(ticket, InfoAnswer::Dealt(dealt)));
        info.handle(now, Input::Notice(Notice::Cut(LotNumber(lot))));
        assert_eq!(asks(&mut info, now), None);
    }
    // After another agent's cut, the view is old.
    info.handle(now, Input::Notice(Notice::Cut(LotNumber(7))));
    assert_eq!(asks(&mut info, now).unwrap().1, InfoQuestion::See);
}
