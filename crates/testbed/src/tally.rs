//! Comparison of submitted and delivered messages.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::Delivery;

/// Fates of a run's messages. A message is known by its X-Test-Id. Copies are counted per
/// recipient, since Postfix may split a message with many recipients over several transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Number of messages for which `sendmail` exited 0.
    pub submitted: usize,
    /// Number of submitted messages that arrived, once or more.
    pub delivered: usize,
    /// Number of submitted messages that did not arrive.
    pub lost: usize,
    /// Number of messages that arrived under several queue ids, because OPTIMUS sent them twice.
    pub duplicates: usize,
    /// Number of messages that Postfix itself sent twice. Under one queue id: a delivery agent was
    /// killed after the remote server's answer and before its own record. From the maildrop: stock
    /// pickup was killed between cleanup's answer and the file's removal.
    pub postfix_duplicates: usize,
    /// Number of messages that arrived but were never submitted.
    pub strangers: usize,
}

impl Tally {
    /// Compares submitted messages with deliveries.
    pub fn of<'a>(submitted: impl IntoIterator<Item = &'a str>, deliveries: &[Delivery]) -> Self {
        let submitted: HashSet<&str> = submitted.into_iter().collect();
        let copies = copies(deliveries);
        let arrived: HashSet<&str> = copies.keys().map(|(id, _)| *id).collect();
        let delivered = submitted.intersection(&arrived).count();
        Self {
            submitted: submitted.len(),
            delivered,
            lost: submitted.len() - delivered,
            duplicates: messages(&copies, |ids| distinct(ids) > 1).len(),
            postfix_duplicates: messages(&copies, |ids| distinct(ids) < ids.len()).len(),
            strangers: arrived.difference(&submitted).count(),
        }
    }

    /// Returns the messages that did not arrive.
    pub fn lost<'a>(submitted: &HashSet<&'a str>, deliveries: &[Delivery]) -> HashSet<&'a str> {
        let arrived: HashSet<&str> =
            deliveries.iter().filter_map(|it| it.test_id.as_deref()).collect();
        let mut lost = submitted.clone();
        lost.retain(|id| !arrived.contains(id));
        lost
    }

    /// Returns the messages that arrived under several queue ids: OPTIMUS sent them twice.
    pub fn duplicates(deliveries: &[Delivery]) -> HashSet<&str> {
        messages(&copies(deliveries), |ways| distinct(ways) > 1)
    }

    /// Whether everything arrived, and OPTIMUS sent nothing twice.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicates == 0 && self.strangers == 0
    }
}

type Copies<'a> = HashMap<(&'a str, &'a str), Vec<Way<'a>>>;

/// Way of a copy. Two ways are two hand-offs, of which at least one is by OPTIMUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way<'a> {
    /// Stock pickup, from the maildrop, however often.
    Stock,
    /// OPTIMUS, under this queue id.
    Ours(Option<&'a str>),
}

/// Returns the ways of all copies of each message for each recipient.
fn copies(deliveries: &[Delivery]) -> Copies<'_> {
    let mut copies = Copies::new();
    for delivery in deliveries {
        for recipient in &delivery.rcpts {
            let key = (delivery.test_id.as_deref().unwrap_or(""), recipient.as_str());
            let ours = Way::Ours(delivery.queue_id.as_deref());
            copies.entry(key).or_default().push(if delivery.is_by_stock_pickup() {
                Way::Stock
            } else {
                ours
            });
        }
    }
    copies
}

fn messages<'a>(copies: &Copies<'a>, wanted: impl Fn(&[Way<'_>]) -> bool) -> HashSet<&'a str> {
    let wanted = copies.iter().filter(|(_, ways)| wanted(ways));
    wanted.map(|((id, _), _)| *id).collect()
}

fn distinct(ways: &[Way<'_>]) -> usize {
    ways.iter().collect::<HashSet<_>>().len()
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
    fn two_copies_from_the_maildrop_are_postfix_s_own_and_one_of_each_is_not() {
        let stock = |queue_id: &str| Delivery {
            message_id: Some(format!("<20261121143252.{queue_id}@example.org>")),
            ..delivery("a", queue_id, "x")
        };
        let ours =
            Delivery { message_id: Some("<01KA@example.org>".into()), ..delivery("a", "C", "x") };
        let tally = Tally::of(["a"], &[stock("A"), stock("B")]);
        assert_eq!((tally.duplicates, tally.postfix_duplicates), (0, 1));
        let tally = Tally::of(["a"], &[stock("A"), ours]);
        assert_eq!((tally.duplicates, tally.postfix_duplicates), (1, 0));
    }

    #[test]
    fn each_fate_is_counted_apart() {
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
        let expected = Tally {
            submitted: 5,
            delivered: 4,
            lost: 1,
            duplicates: 1,
            postfix_duplicates: 1,
            strangers: 1,
        };
        assert_eq!(tally, expected);
        assert!(!tally.is_clean());
        assert!(Tally::of(["once"], &deliveries[..1]).is_clean());
    }
}
