//! Rules of the protocol, each broken on purpose: the simulation must find the right violation.

use rpc::Rule;
use simulation::Random;

use crate::ledger::Violation;
use crate::outcome;
use crate::plan::{MINUTE, Plan, SECOND, Trouble};
use crate::trace::Trace;

/// Number of seeds, some ten times as many as needed.
const SEEDS: u64 = 4_000;

fn is_found(broken: &[Rule], plan: fn(&mut Random) -> Plan, expected: Violation) -> bool {
    (0..SEEDS).any(|seed| {
        let outcome =
            outcome(seed, plan, Trace::quiet(), |world| world.equipment.broken = broken.to_vec());
        outcome.result.is_err_and(|finding| finding.violation == expected)
    })
}

#[test]
fn each_broken_rule_against_executing_twice_is_found() {
    use Rule::{DuplicateTable, Floor, KeepReplies, NewestGeneration, OutliveTicket};
    use Rule::{RememberEnded, ServerEpoch, StayInSession, TicketAge};
    for rule in [DuplicateTable, KeepReplies, ServerEpoch, TicketAge, StayInSession, Floor] {
        assert!(is_found(&[rule], Plan::storm, Violation::ExecutedTwice), "{rule:?}");
    }
    for rule in [RememberEnded, OutliveTicket, NewestGeneration] {
        assert!(is_found(&[rule], Plan::storm, Violation::ExecutedTwice), "{rule:?}");
    }
}

#[test]
fn an_unchecked_reply_reaches_the_wrong_call() {
    assert!(is_found(&[Rule::AnswersTheCall], Plan::storm, Violation::WrongReply));
}

/// Two rules keep out orphans. With only the session and packet number unchecked, no wrong reply
/// comes, as sequences don't begin anew within a generation. With the generation unchecked too,
/// wrong replies come.
#[test]
fn two_rules_keep_orphans_out() {
    assert!(!is_found(&[Rule::AnswersTheCall], restless_clients, Violation::WrongReply));
    assert!(is_found(
        &[Rule::AnswersTheCall, Rule::ClientGeneration],
        restless_clients,
        Violation::WrongReply
    ));
}

fn restless_clients(random: &mut Random) -> Plan {
    let mut plan = Plan::lossy(random);
    plan.must_answer = false;
    plan.conditions.late = 300;
    plan.conditions.late_us = 30 * SECOND;
    plan.work.limit_us = (SECOND, MINUTE);
    plan.troubles = vec![Trouble::CrashClient];
    plan
}

#[test]
fn unrecognized_copies_are_answered() {
    assert!(is_found(&[Rule::Replay], Plan::lossy, Violation::TooManyPackets));
}

#[test]
fn an_unchecked_ticket_serves_a_stranger() {
    assert!(is_found(&[Rule::TicketProof], Plan::storm, Violation::Amplified));
}

#[test]
fn an_unreleased_reply_stays() {
    assert!(is_found(&[Rule::Patience], Plan::storm, Violation::NeverAtRest));
}

#[test]
fn a_call_without_a_limit_is_late() {
    assert!(is_found(&[Rule::TimeLimit], Plan::storm, Violation::EndedLate));
}
