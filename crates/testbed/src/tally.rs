//! Submitted against delivered.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::Delivery;

/// What became of the messages of a run. A message is known by its X-Test-Id, and counted per recipient, since
/// Postfix may split a message with many recipients over several transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Messages for which `sendmail` exited 0.
    pub submitted: usize,
    /// Those of them that arrived, once or more.
    pub delivered: usize,
    /// Those that did not.
    pub lost: usize,
    /// Those that arrived more than once under different queue ids: sent twice by us.
    pub duplicates: usize,
    /// Those that arrived more than once under one queue id: Postfix was killed after the remote server's yes and
    /// before it noted that. One commit, sent twice by Postfix itself.
    pub postfix_duplicates: usize,
    /// Arrivals that nobody submitted.
    pub strangers: usize,
}

impl Tally {
    /// Compares what was submitted with what arrived.
    pub fn of<'a>(submitted: impl IntoIterator<Item = &'a str>, deliveries: &[Delivery]) -> Self {
        let submitted: HashSet<&str> = submitted.into_iter().collect();
        let copies = copies(deliveries);
        let arrived: HashSet<&str> = copies.keys().map(|(id, _)| *id).collect();
        let delivered = submitted.intersection(&arrived).count();
        Self {
            submitted: submitted.len(),
            delivered,
            lost: submitted.len() - delivered,
            duplicates: messages(&copies, |ids| distinct(ids) > 1),
            postfix_duplicates: messages(&copies, |ids| distinct(ids) < ids.len()),
            strangers: arrived.difference(&submitted).count(),
        }
    }

    /// Everything arrived, and nothing was sent twice by us.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicates == 0 && self.strangers == 0
    }
}

type Copies<'a> = HashMap<(&'a str, &'a str), Vec<Option<&'a str>>>;

/// The queue ids of all copies of each message for each recipient.
fn copies(deliveries: &[Delivery]) -> Copies<'_> {
    let mut copies = Copies::new();
    for delivery in deliveries {
        for recipient in &delivery.rcpts {
            let key = (delivery.test_id.as_deref().unwrap_or(""), recipient.as_str());
            copies.entry(key).or_default().push(delivery.queue_id.as_deref());
        }
    }
    copies
}

fn messages(copies: &Copies<'_>, wanted: impl Fn(&[Option<&str>]) -> bool) -> usize {
    let wanted = copies.iter().filter(|(_, queue_ids)| wanted(queue_ids));
    wanted.map(|((id, _), _)| *id).collect::<HashSet<_>>().len()
}

fn distinct(queue_ids: &[Option<&str>]) -> usize {
    queue_ids.iter().collect::<HashSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(test_id: &str, queue_id: &str, recipient: &str) -> Delivery {
        Delivery {
            test_id: Some(test_id.into()),
            queue_id: Some(queue_id.into()),
            rcpts: vec![recipient.into()],
            ..Delivery::default()
        }
    }

    #[test]
    fn each_fate_is_told_apart() {
        let deliveries = [
            delivery("once", "A", "x"),
            delivery("split", "B", "x"),
            delivery("split", "B", "y"),
            delivery("ours", "C", "x"),
            delivery("ours", "D", "x"),
            delivery("postfix", "E", "x"),
            delivery("postfix", "E", "x"),
            delivery("stranger", "F", "x"),
        ];
        let tally = Tally::of(["once", "split", "ours", "postfix", "lost"], &deliveries);
        let expected =
            Tally { submitted: 5, delivered: 4, lost: 1, duplicates: 1, postfix_duplicates: 1, strangers: 1 };
        assert_eq!(tally, expected);
        assert!(!tally.is_clean());
        assert!(Tally::of(["once"], &deliveries[..1]).is_clean());
    }
}
