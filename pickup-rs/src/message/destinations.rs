//! Destinations of a message, as far as a queue file's attributes have room for them.

use spool::Domain;

/// Most destinations recorded for one message. Of a message with more, only the first are recorded.
const LIMIT: usize = 5;
/// Most bytes of all names together. With all other attributes of OPTIMUS they must fit into the
/// part of a queue file that is read. One name always fits.
const LIMIT_BYTES: usize = 300;

/// Domains of the recipients so far, each once.
#[derive(Debug, Default)]
pub(super) struct Destinations(Vec<Domain>);

impl Destinations {
    /// Adds a recipient's domain, if it is new and has room.
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
