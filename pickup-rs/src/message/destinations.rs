//! Where a message goes, told in the few bytes that a queue file's attributes leave for it.

use spool::Domain;

/// Most destinations that are told of one message. One with more is in flight to the first of them.
const LIMIT: usize = 5;
/// Most bytes of their names together: with our other attributes they fit into what is read of a
/// queue file. One name always does.
const LIMIT_BYTES: usize = 300;

/// The domains of the recipients seen so far, each once.
#[derive(Debug, Default)]
pub(super) struct Destinations(Vec<Domain>);

impl Destinations {
    /// One more recipient.
    pub(super) fn see(&mut self, recipient: &[u8]) {
        if self.0.len() >= LIMIT {
            return;
        }
        let domain = Domain::of(recipient);
        let bytes: usize = self.0.iter().chain([&domain]).map(|it| it.as_str().len() + 1).sum();
        if bytes <= LIMIT_BYTES && !self.0.contains(&domain) {
            self.0.push(domain);
        }
    }

    pub(super) fn into_domains(self) -> Vec<Domain> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(recipients: &[String]) -> Vec<String> {
        let mut destinations = Destinations::default();
        recipients.iter().for_each(|it| destinations.see(it.as_bytes()));
        destinations.into_domains().iter().map(Domain::to_string).collect()
    }

    #[test]
    fn each_destination_is_told_once_and_few_of_many() {
        let recipients = ["a@x.example", "b@X.example", "root", "c@y.example"].map(str::to_owned);
        assert_eq!(seen(&recipients), ["x.example", "*", "y.example"]);
        let many: Vec<String> = (0..1_000).map(|n| format!("a@{n}.example")).collect();
        assert_eq!(seen(&many), ["0.example", "1.example", "2.example", "3.example", "4.example"]);
        let long = "x".repeat(253);
        let wide =
            [format!("a@{long}"), format!("a@{}.example", "y".repeat(100)), "a@z".to_owned()];
        assert_eq!(seen(&wide), [long.as_str(), "z"]);
    }
}
