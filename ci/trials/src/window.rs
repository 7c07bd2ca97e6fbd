//! Messages that the direct hand-off has sent twice, and the kills that explain them.
//!
//! In the direct hand-off a message is the queue manager's as soon as cleanup has answered, and
//! Redis is told after that. If a process dies in between, the message may be delivered and is
//! handed over once more. Such a pair of copies has two queue ids: one made before the end of a
//! kill, and the other after its beginning. Long queue ids tell the time of their making. A pair
//! without such a kill is a fault of OPTIMUS. So are more pairs at one kill than the window can
//! hold.
//!
//! A kill ends late ([`Aftermath`](crate::Aftermath)), because messages under way outlive the
//! process that fed them. A cleanup process finishes the file of a dead pickup-rs, and pickup-rs
//! goes on with the requests of a dead Mail Agent. Only a recovered Mail Agent knows all of that.
//! When Redis was away for longer than a lease, pickup-rs goes on with lots that a Scheduler has
//! taken, until the Mail Agent learns of that.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use postfix_wire::QueueId;
use testbed::Delivery;

/// One strike of a campaign.
#[derive(Debug, Clone)]
pub struct Strike {
    /// Time from the kill until the platform is as before, since the epoch.
    pub time: RangeInclusive<Duration>,
    /// Number of messages that had arrived before the strike.
    pub arrived: usize,
    /// Numbers of the messages that may have been submitted meanwhile.
    pub submitted: RangeInclusive<u64>,
}

/// Result of comparing deliveries with kills.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InWindow {
    /// Number of messages sent more than once, with a kill that explains each copy but the first.
    pub messages: usize,
    /// Largest number of them at one kill.
    pub at_one_kill: usize,
}

impl InWindow {
    /// Compares deliveries with kills.
    pub fn of(deliveries: &[Delivery], strikes: &[Strike]) -> Self {
        let mut to_blame: HashMap<usize, usize> = HashMap::new();
        let mut messages = 0;
        for ids in queue_ids(deliveries).values().filter(|ids| ids.len() > 1) {
            let Some(made) = times(ids) else { continue };
            let blame = |pair: &[Duration]| {
                strikes
                    .iter()
                    .position(|it| pair[0] <= *it.time.end() && pair[1] >= *it.time.start())
            };
            let Some(strikes) = made.windows(2).map(blame).collect::<Option<Vec<_>>>() else {
                continue;
            };
            messages += 1;
            strikes.into_iter().for_each(|strike| *to_blame.entry(strike).or_default() += 1);
        }
        Self { messages, at_one_kill: to_blame.into_values().max().unwrap_or_default() }
    }
}

/// Returns the queue ids of each message, without copies from stock pickup.
fn queue_ids(deliveries: &[Delivery]) -> HashMap<&str, HashSet<&str>> {
    let mut queue_ids: HashMap<&str, HashSet<&str>> = HashMap::new();
    for delivery in deliveries.iter().filter(|delivery| !delivery.is_by_stock_pickup()) {
        let test_id = delivery.test_id.as_deref().unwrap_or_default();
        queue_ids
            .entry(test_id)
            .or_default()
            .insert(delivery.queue_id.as_deref().unwrap_or_default());
    }
    queue_ids
}

/// Returns the times of queue ids, in order; `None` if one doesn't tell its time.
fn times(queue_ids: &HashSet<&str>) -> Option<Vec<Duration>> {
    let mut times = queue_ids.iter().map(|id| made(id)).collect::<Option<Vec<_>>>()?;
    times.sort_unstable();
    Some(times)
}

/// Returns the time of a queue file's making, since the epoch, if its queue id tells it.
pub(crate) fn made(queue_id: &str) -> Option<Duration> {
    queue_id.parse::<QueueId>().ok()?.time()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(test_id: &str, made_s: u64) -> Delivery {
        let queue_id = Some(QueueId::long(Duration::from_secs(made_s), 7).to_string());
        Delivery { test_id: Some(test_id.to_owned()), queue_id, ..Delivery::default() }
    }

    fn strike(from_s: u64, to_s: u64) -> Strike {
        let time = Duration::from_secs(from_s)..=Duration::from_secs(to_s);
        Strike { time, arrived: 0, submitted: 0..=0 }
    }

    #[test]
    fn only_copies_with_a_kill_between_them_are_of_the_window() {
        let once = [at("a", 5), at("b", 15)];
        assert_eq!(InWindow::of(&once, &[strike(10, 11)]), InWindow::default());
        let twice = [at("a", 5), at("a", 15), at("b", 9), at("b", 12), at("c", 1), at("c", 2)];
        let expected = InWindow { messages: 2, at_one_kill: 2 };
        assert_eq!(InWindow::of(&twice, &[strike(10, 11), strike(20, 21)]), expected);
        assert_eq!(InWindow::of(&twice, &[]), InWindow::default());
    }

    #[test]
    fn each_copy_needs_a_kill_of_its_own() {
        let thrice = [at("a", 5), at("a", 15), at("a", 16)];
        assert_eq!(InWindow::of(&thrice, &[strike(10, 11)]).messages, 0);
        assert_eq!(InWindow::of(&thrice, &[strike(10, 15)]).messages, 1);
    }

    #[test]
    fn a_queue_id_without_a_time_explains_nothing() {
        let short = Delivery { queue_id: Some("4C1B21A0".to_owned()), ..at("a", 0) };
        assert_eq!(InWindow::of(&[at("a", 5), short], &[strike(0, 100)]).messages, 0);
    }
}
