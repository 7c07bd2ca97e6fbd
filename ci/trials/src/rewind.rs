//! Losses and duplicates from restoring Redis or the queue directory from an older copy.
//!
//! `docs/architecture.md` ("Which Redis", "What administrators do") names them. At most the
//! messages submitted since a copy of Redis are lost. At most the messages sent since either copy
//! are sent twice.

use testbed::Delivery;

use crate::window::{Strike, made};

/// Whether a message that did not arrive may have been submitted between a copy and its return.
pub fn may_lose(strikes: &[Strike], test_id: &str) -> bool {
    let number = test_id.rsplit('-').next().and_then(|it| it.parse().ok());
    number.is_some_and(|number| strikes.iter().any(|it| it.submitted.contains(&number)))
}

/// Whether copies of Redis or the queue directory explain a message's arrivals. Each arrival but
/// the last must come after the making of a copy. The next one's queue file must be younger than
/// that copy.
pub fn may_repeat(strikes: &[Strike], deliveries: &[Delivery], test_id: &str) -> bool {
    let arrivals = deliveries.iter().enumerate();
    let arrivals: Vec<_> =
        arrivals.filter(|(_, it)| it.test_id.as_deref() == Some(test_id)).collect();
    arrivals.windows(2).all(|pair| {
        let (first, files) =
            (pair[0].0, [pair[0].1, pair[1].1].map(|it| made(it.queue_id.as_deref()?)));
        let youngest = files.into_iter().max().flatten();
        let explains = |it: &Strike| {
            first >= it.arrived && youngest.is_some_and(|made| made >= *it.time.start())
        };
        pair[0].1.queue_id == pair[1].1.queue_id || strikes.iter().any(explains)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postfix_wire::QueueId;

    use super::*;

    fn at(test_id: &str, made_s: u64) -> Delivery {
        let queue_id = Some(QueueId::long(Duration::from_secs(made_s), 7).to_string());
        Delivery { test_id: Some(test_id.to_owned()), queue_id, ..Delivery::default() }
    }

    fn strike() -> Strike {
        Strike {
            time: Duration::from_secs(10)..=Duration::from_secs(12),
            arrived: 1,
            submitted: 5..=9,
        }
    }

    #[test]
    fn only_messages_submitted_since_the_copy_may_be_lost() {
        assert!(may_lose(&[strike()], "a-b-7"));
        assert!(!may_lose(&[strike()], "a-b-4"));
        assert!(!may_lose(&[], "a-b-7"));
    }

    #[test]
    fn only_messages_that_arrived_since_the_copy_may_arrive_again() {
        let since = [at("m-1", 8), at("m-2", 9), at("m-2", 13)];
        assert!(may_repeat(&[strike()], &since, "m-2"));
        assert!(!may_repeat(&[], &since, "m-2"));
        let before = [at("m-2", 9), at("m-1", 9), at("m-2", 13)];
        assert!(!may_repeat(&[strike()], &before, "m-2"), "had arrived");
        let earlier = [at("m-1", 8), at("m-2", 8), at("m-2", 9)];
        assert!(!may_repeat(&[strike()], &earlier, "m-2"), "both files are older than the copy");
    }
}
