//! Tests of a ledger's reports to Redis, and of their consequences for files.

use super::super::report::{COMMIT_PATIENCE, Committed, OTHER_PATIENCE, WORTH_A_TRIP};
use super::*;
use spool::{Epoch, LotNumber};

fn key(n: u128) -> FeedKey {
    FeedKey { lot: LotNumber(1), epoch: Epoch(1), id: MessageId::from_parts(1, n) }
}

fn queue_id(n: u128) -> QueueId {
    format!("4C1B2{n:05X}").parse().unwrap()
}

fn with(how: HandoffOutcome, count: u128) -> Ledger {
    let mut ledger = Ledger::default();
    (1..=count).for_each(|n| ledger.handed(queue_id(n), key(n), how));
    ledger
}

/// Reports the first commit, and returns the verdict on this outcome.
fn decide(ledger: &mut Ledger, outcome: Committed) -> Verdict {
    ledger.next_report(Instant::now(), Held::Too, FlushHint::Nothing).unwrap();
    let commit = ledger.reported().commits.remove(0);
    ledger.decided(commit, outcome)
}

#[test]
fn a_single_commit_goes_at_once_and_one_of_many_waits_for_company() {
    let now = Instant::now();
    let report = |count, hint, at| {
        with(HandoffOutcome::Held, count).next_report(at, Held::Too, hint).is_some()
    };
    assert!(report(1, FlushHint::NoCommits, now));
    assert!(!report(1, FlushHint::Expected, now));
    assert!(report(WORTH_A_TRIP as u128, FlushHint::Expected, now));
    let mut ledger = with(HandoffOutcome::Held, 1);
    assert!(ledger.next_report(now, Held::Too, FlushHint::Expected).is_none());
    assert_eq!(ledger.due(), Some(now + COMMIT_PATIENCE));
    assert!(ledger.next_report(now + COMMIT_PATIENCE, Held::Too, FlushHint::Expected).is_some());
}

#[test]
fn settlements_alone_have_time() {
    let now = Instant::now();
    let mut ledger = Ledger::default();
    assert_eq!(ledger.ours(&queue_id(1), key(1).id), None);
    ledger.settled(&queue_id(1));
    assert!(ledger.next_report(now, Held::Too, FlushHint::NoCommits).is_none());
    let report = ledger.next_report(now + OTHER_PATIENCE, Held::Too, FlushHint::NoCommits).unwrap();
    assert_eq!(report.settles, [(queue_id(1), key(1).id)]);
}

#[test]
fn one_report_at_a_time_and_a_failed_one_is_told_again_in_order() {
    let now = Instant::now();
    let mut ledger = with(HandoffOutcome::Held, 3);
    let first = ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
    ledger.handed(queue_id(9), key(9), HandoffOutcome::Held);
    assert_eq!(ledger.next_report(now, Held::Too, FlushHint::Nothing), None);
    ledger.report_failed();
    let again = ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
    assert_eq!(again.commits[..3], first.commits[..]);
    assert_eq!(again.commits[3].queue_id, queue_id(9));
}

#[test]
fn what_is_ours_is_released_and_what_is_not_is_deleted() {
    let verdict = |how, outcome| decide(&mut with(how, 1), outcome);
    assert_eq!(
        verdict(HandoffOutcome::Held, Committed::Ours(CommitNumber(7))),
        Verdict::Release(queue_id(1))
    );
    assert_eq!(verdict(HandoffOutcome::Held, Committed::Fenced), Verdict::Discard(queue_id(1)));
    assert_eq!(verdict(HandoffOutcome::Held, Committed::Settled), Verdict::Discard(queue_id(1)));
    assert_eq!(
        verdict(HandoffOutcome::Held, Committed::Unknown),
        Verdict::Nothing,
        "left alone, for a person"
    );
    for outcome in [
        Committed::Ours(CommitNumber(7)),
        Committed::Fenced,
        Committed::Settled,
        Committed::Unknown,
    ] {
        assert_eq!(
            verdict(HandoffOutcome::Stored, outcome),
            Verdict::Nothing,
            "the queue manager has it: {outcome:?}"
        );
    }
}

#[test]
fn what_content_rules_took_is_settled_when_it_is_ours() {
    let mut ledger = with(HandoffOutcome::Consumed, 1);
    assert_eq!(decide(&mut ledger, Committed::Ours(CommitNumber(7))), Verdict::Nothing);
    let report = ledger.next_report(Instant::now(), Held::Too, FlushHint::Nothing).unwrap();
    assert_eq!(report.settles, [(queue_id(1), key(1).id)]);
}

#[test]
fn a_file_gone_before_its_commit_is_answered_is_settled_by_the_answer() {
    let mut ledger = with(HandoffOutcome::Stored, 1);
    ledger.next_report(Instant::now(), Held::Too, FlushHint::Nothing).unwrap();
    assert_eq!(ledger.settled(&queue_id(1)), Known::Yes);
    let commit = ledger.reported().commits.remove(0);
    assert_eq!(ledger.decided(commit, Committed::Ours(CommitNumber(7))), Verdict::Nothing);
    let report = ledger.next_report(Instant::now(), Held::Too, FlushHint::Nothing).unwrap();
    assert_eq!(report.settles, [(queue_id(1), key(1).id)]);
}

#[test]
fn a_prepared_file_that_is_gone_is_never_settled() {
    let now = Instant::now();
    let mut ledger = with(HandoffOutcome::Held, 2);
    let commits = ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap().commits;
    ledger.settled(&queue_id(1));
    ledger.reported();
    for commit in commits {
        ledger.decided(commit, Committed::Ours(CommitNumber(7)));
    }
    ledger.vanished(&queue_id(2));
    ledger.vanished(&queue_id(2));
    let report = ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
    assert_eq!(report.uncommits, [1, 2].map(|n| (queue_id(n), key(n).id)));
    assert!(report.settles.is_empty() && !ledger.is_told());
    ledger.report_failed();
    let again = ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
    assert_eq!(again.uncommits, report.uncommits);
    ledger.reported();
    assert!(ledger.is_told());
}

#[test]
fn a_withdrawn_file_is_uncommitted_and_stays_withdrawn_until_it_is_discarded() {
    let mut ledger = with(HandoffOutcome::Held, 1);
    assert_eq!(decide(&mut ledger, Committed::Ordered(CommitNumber(7))), Verdict::Nothing);
    let report = ledger.next_report(Instant::now(), Held::Too, FlushHint::Nothing).unwrap();
    assert_eq!(report.uncommits, [(queue_id(1), key(1).id)]);
    ledger.reported();
    assert!(ledger.is_withdrawn(&queue_id(1), key(1).id));
    ledger.discarded(&queue_id(1));
    assert!(!ledger.is_withdrawn(&queue_id(1), key(1).id));
}

#[test]
fn a_withdrawn_file_that_another_process_may_have_released_keeps_its_commit() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.withdraw(queue_id(1), key(1).id), None);
    ledger.next_report(Instant::now(), Held::Too, FlushHint::Nothing).unwrap();
    assert_eq!(ledger.withdraw(queue_id(2), key(2).id), None);
    ledger.arrived(Start(2));
    ledger.report_failed();
    assert!(ledger.is_told());
}

#[test]
fn an_order_for_a_file_that_the_queue_manager_has_withdraws_nothing() {
    let mut ledger = with(HandoffOutcome::Stored, 1);
    assert_eq!(decide(&mut ledger, Committed::Ordered(CommitNumber(7))), Verdict::Nothing);
    assert_eq!(ledger.known(), BTreeMap::from([(queue_id(1), key(1).id)]));
    assert!(ledger.is_told());
}

#[test]
fn a_queue_id_that_is_another_message_s_is_committed_after_a_comparison() {
    let now = Instant::now();
    let mut ledger = Ledger::default();
    ledger.ours(&queue_id(1), key(9).id);
    ledger.handed(queue_id(1), key(1), HandoffOutcome::Held);
    assert_eq!(decide(&mut ledger, Committed::Occupied), Verdict::Compare);
    assert_eq!(ledger.next_report(now, Held::Too, FlushHint::Nothing), None, "not before");
    assert_eq!(ledger.was_ours(queue_id(1), key(9).id, Fate::NeverReleased), None);
    ledger.compared();
    let report = ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
    assert_eq!(report.uncommits, [(queue_id(1), key(9).id)]);
    assert_eq!(report.commits.len(), 1);
}

#[test]
fn files_in_hold_wait_while_it_is_not_certain_that_they_are_there() {
    let now = Instant::now();
    let mut ledger = with(HandoffOutcome::Held, 1);
    ledger.handed(queue_id(2), key(2), HandoffOutcome::Stored);
    let report = ledger.next_report(now, Held::Later, FlushHint::Nothing).unwrap();
    assert_eq!(report.commits.iter().map(|it| &it.queue_id).collect::<Vec<_>>(), [&queue_id(2)]);
    ledger.reported();
    assert_eq!(ledger.next_report(now, Held::Later, FlushHint::Nothing), None);
    assert_eq!(ledger.due(), None, "nothing to wake up for");
}

#[test]
fn a_queue_id_that_is_used_again_leaves_the_first_message_settled() {
    let now = Instant::now();
    let mut ledger = with(HandoffOutcome::Stored, 1);
    ledger.settled(&queue_id(1));
    ledger.handed(queue_id(1), key(2), HandoffOutcome::Stored);
    let report = ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
    let told: Vec<_> = report.commits.iter().map(|it| (it.key, it.how)).collect();
    assert_eq!(told, [(key(1), HandoffOutcome::Consumed), (key(2), HandoffOutcome::Stored)]);
    let commits = ledger.reported().commits;
    ledger.decided(commits[0].clone(), Committed::Ours(CommitNumber(7)));
    ledger.decided(commits[1].clone(), Committed::Occupied);
    let report = ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
    assert_eq!(report.settles, [(queue_id(1), key(1).id)]);
}

#[test]
fn hearing_of_a_file_twice_is_hearing_of_it_once() {
    let mut ledger = with(HandoffOutcome::Held, 1);
    ledger.handed(queue_id(1), key(1), HandoffOutcome::Held);
    assert_eq!(
        decide(&mut ledger, Committed::Ours(CommitNumber(7))),
        Verdict::Release(queue_id(1))
    );
    ledger.handed(queue_id(1), key(1), HandoffOutcome::Held);
    assert!(ledger.is_told());
}

/// Checks the case of a promoted replica, which lacks commits that only the old master had.
#[test]
fn a_commit_that_redis_may_lack_is_made_again_where_a_comparison_finds_the_file() {
    let now = Instant::now();
    let mut ledger = Ledger::default();
    for n in [1, 2] {
        assert_eq!(ledger.ours(&queue_id(n), key(n).id), None);
    }
    ledger.doubt_commits();
    // The new master has the commit of the first file.
    ledger.ours(&queue_id(1), key(1).id);
    ledger.handed(queue_id(1), key(1), HandoffOutcome::Stored);
    ledger.handed(queue_id(2), key(2), HandoffOutcome::Stored);
    let report = ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
    let again: Vec<_> = report.commits.iter().map(|it| it.queue_id.clone()).collect();
    assert_eq!(again, [queue_id(2)]);
}

/// Checks the case of an order to release more held files than one report takes.
#[test]
fn nothing_is_told_of_a_file_before_its_new_name() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    let count = 2 * REPORT_LIMIT as u128 + 1;
    for n in 1..=count {
        let (id, was, now) = (key(n).id, queue_id(n), queue_id(10_000 + n));
        ledger.rename(Rename { id, was, now: now.clone() });
        assert_eq!(ledger.ours(&now, id), None);
        ledger.settled(&now);
    }
    let mut told = || {
        let report = ledger.next_report(now, Held::Too, FlushHint::Nothing).unwrap();
        ledger.reported();
        (report.renames.len(), report.settles.len())
    };
    let (all, one) = (REPORT_LIMIT, 1);
    assert_eq!([told(), told(), told()], [(all, 0), (all, 0), (one, all)]);
}
