//! Effects of an administrator's deeds on single messages. They tell a loss or duplicate by OPTIMUS
//! from one by the administrator.
//!
//! A deletion ends a message, as its arrival does. If the message arrives as well, by another queue
//! file, it was sent twice. Only a file that was released to the queue manager can be deleted for
//! good. OPTIMUS must make another one for a file that was deleted earlier.

use std::collections::{HashMap, HashSet};

use testbed::Delivery;

use crate::platform::Platform;
use crate::test_ids::test_ids;

/// Notes on single messages; see the module.
#[derive(Debug, Default)]
pub struct Notes {
    /// Messages that were deleted after their release, each with its queue id.
    pub(crate) deleted: Vec<(String, String)>,
    /// Messages that were put on hold, each with its queue id.
    pub(crate) held: Vec<(String, String)>,
    /// Messages that the queue manager has removed without a delivery.
    pub(crate) dropped: HashSet<String>,
    /// Queue ids of files that were requeued or released from hold before OPTIMUS had decided.
    /// Their messages may be sent twice.
    pub(crate) early: HashSet<String>,
    /// Messages that wait in another Redis's inbox, or, undecided, for the operator.
    pub(crate) elsewhere: HashSet<String>,
}

impl Notes {
    /// Returns the number of messages that need not arrive.
    pub fn spared(&self) -> usize {
        self.deleted.len() + self.elsewhere.len()
    }

    /// Adds the undecided files of messages that a restored Redis doesn't know.
    pub fn left_to_operator(&mut self, platform: &Platform) {
        let files =
            platform.postfix.undecided_files().into_iter().filter_map(|it| std::fs::read(it).ok());
        files.for_each(|content| self.elsewhere.extend(test_ids(&content)));
    }

    /// Takes in the messages that Postfix's queue manager dropped. Its log has the removal of a
    /// file that had been on hold, and no delivery.
    ///
    /// The queue manager finds its jobs by queue id. A file that is put on hold and released while
    /// its job still waits gets that job, and its own end is reached at once (`qmgr_job.c`,
    /// 3.7.11).
    pub fn dropped_by_queue_manager(&mut self, log: &str) {
        let is_end = |line: &&str| {
            ["sent", "bounced", "expired"].iter().any(|it| line.contains(&format!(" status={it}")))
        };
        let is_dropped = |queue_id: &str| {
            let of_it = format!(": {queue_id}: ");
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(&of_it)).collect();
            let is_removed = |line: &&str| line.contains("/qmgr[") && line.ends_with(": removed");
            lines.iter().any(is_removed) && !lines.iter().any(is_end)
        };
        let dropped = self.held.iter().filter(|(_, queue_id)| is_dropped(queue_id));
        self.dropped.extend(dropped.map(|(test_id, _)| test_id.clone()));
    }

    /// Whether a line of Postfix's log tells of such a job, over which the queue manager dies.
    pub fn explains_line(&self, line: &str) -> bool {
        !self.held.is_empty() && line.contains("/qmgr[") && line.contains(": panic: qmgr_job_free:")
    }

    /// Returns arrivals and deletions. A requeued file gets its former name, since Postfix itself
    /// may send such a message twice.
    pub fn ends(&self, arrivals: Vec<Delivery>, log: &str) -> Vec<Delivery> {
        let before = requeued(log);
        let named = |mut end: Delivery| {
            end.queue_id = end.queue_id.map(|id| first_name(&before, id));
            end
        };
        let mut ends: Vec<Delivery> = arrivals.into_iter().map(named).collect();
        let arrived: HashSet<String> = ends.iter().filter_map(|it| it.queue_id.clone()).collect();
        let deletions = self.deleted.iter().map(|it| named(deletion(it)));
        ends.extend(
            deletions.filter(|it| it.queue_id.as_ref().is_none_or(|id| !arrived.contains(id))),
        );
        ends
    }

    /// Returns the number of messages that were deleted and did not arrive.
    pub fn deleted(&self, arrivals: &[Delivery]) -> usize {
        let arrived: HashSet<&str> =
            arrivals.iter().filter_map(|it| it.test_id.as_deref()).collect();
        let deleted: HashSet<&str> =
            self.deleted.iter().map(|(test_id, _)| test_id.as_str()).collect();
        deleted.difference(&arrived).count()
    }

    /// Whether a message that did not arrive waits elsewhere.
    pub fn explains_loss(&self, test_id: &str) -> bool {
        self.elsewhere.contains(test_id) || self.dropped.contains(test_id)
    }

    /// Whether a message may have been sent twice, by the queue id of one of its copies.
    pub fn explains_duplicate(&self, queue_id: &str) -> bool {
        self.early.contains(queue_id)
    }
}

/// Recipient of every message of a campaign.
pub(crate) const RECIPIENT: &str = "recipient@example.net";

fn deletion((test_id, queue_id): &(String, String)) -> Delivery {
    Delivery {
        test_id: Some(test_id.clone()),
        queue_id: Some(queue_id.clone()),
        rcpts: vec![RECIPIENT.to_owned()],
        ..Delivery::default()
    }
}

/// Returns the queue ids replaced by `postsuper -r`, by the new ones; stock pickup logs both.
fn requeued(log: &str) -> HashMap<&str, &str> {
    log.lines().filter(|line| line.contains("/pickup[")).filter_map(new_and_old).collect()
}

fn new_and_old(line: &str) -> Option<(&str, &str)> {
    let (rest, old) = line.split_once(" orig_id=")?;
    let (new, _) = rest.split_once("]: ")?.1.split_once(": ")?;
    Some((new, old.trim_end()))
}

fn first_name(before: &HashMap<&str, &str>, mut id: String) -> String {
    while let Some(earlier) = before.get(id.as_str()) {
        (*earlier).clone_into(&mut id);
    }
    id
}

#[cfg(test)]
mod tests {
    use testbed::Tally;

    use super::*;

    const LOG: &str = "Nov 30 08:00:00 h postfix/pickup[7]: B: uid=104 from=<s@example.org> \
        orig_id=A\n\
        Nov 30 08:00:01 h postfix/pickup[7]: C: uid=104 from=<s@example.org> orig_id=B\n";

    fn arrival(queue_id: &str) -> Delivery {
        deletion(&("m-1".to_owned(), queue_id.to_owned()))
    }

    fn counts(notes: &Notes, arrivals: &[&str]) -> (usize, usize, usize) {
        let arrivals: Vec<Delivery> = arrivals.iter().map(|id| arrival(id)).collect();
        let deleted = notes.deleted(&arrivals);
        let tally = Tally::of(["m-1"], &notes.ends(arrivals, LOG));
        (tally.lost, tally.duplicates, deleted)
    }

    #[test]
    fn a_deletion_is_an_end_and_not_a_loss() {
        let deleted =
            Notes { deleted: vec![("m-1".to_owned(), "D".to_owned())], ..Notes::default() };
        assert_eq!(counts(&deleted, &[]), (0, 0, 1));
        assert_eq!(counts(&deleted, &["D"]), (0, 0, 0), "delivered just before");
        assert_eq!(counts(&deleted, &["E"]), (0, 1, 0), "sent in spite of that");
        assert_eq!(counts(&Notes::default(), &[]), (1, 0, 0));
    }

    #[test]
    fn only_the_queue_manager_s_own_log_explains_a_dropped_message() {
        let end = "h postfix/qmgr[9]: A: removed\n";
        let sent = "h postfix/smtp[8]: A: to=<r@example.net>, dsn=2.0.0, status=sent (250 ok)\n";
        let explains = |held: &[(&str, &str)], log: &str| {
            let held = held.iter().map(|(test_id, id)| ((*test_id).into(), (*id).into()));
            let mut notes = Notes { held: held.collect(), ..Notes::default() };
            notes.dropped_by_queue_manager(log);
            notes.explains_loss("m-1")
        };
        assert!(explains(&[("m-1", "A")], end));
        assert!(!explains(&[("m-1", "A")], &format!("{sent}{end}")), "it was sent");
        assert!(!explains(&[("m-1", "A")], ""), "nobody removed it");
        assert!(!explains(&[("m-1", "B")], end), "another file");
        assert!(!explains(&[], end), "never on hold");
    }

    #[test]
    fn a_requeued_file_is_the_one_that_it_was() {
        assert_eq!(counts(&Notes::default(), &["A", "C"]), (0, 0, 0));
        assert_eq!(counts(&Notes::default(), &["A", "D"]), (0, 1, 0));
        let deleted =
            Notes { deleted: vec![("m-1".to_owned(), "B".to_owned())], ..Notes::default() };
        assert_eq!(counts(&deleted, &["C"]), (0, 0, 0));
    }
}
