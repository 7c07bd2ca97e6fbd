//! Reasons for which pickup-rs feeds no mail, with a text for each: object, failure, cause, remedy.
//! The log has each reason once; `optimus status` and `optimus check` show a reason while it lasts.

use std::time::Duration;

use handoff::protocol::{Pause, PauseCause};
use spool::{NodeId, SpoolError};
use tokio::time::Instant;

use super::Service;
use crate::node::Standing;

/// Time for which Redis may leave the first question about the node unanswered. Every start has
/// such a moment.
const UNANSWERED: Duration = Duration::from_secs(10);

/// Reason for which pickup-rs feeds no mail.
#[derive(Debug)]
enum Reason {
    Redis(SpoolError),
    /// Text of the refusal.
    Copy(String),
    /// Text about the wait.
    Waits(String),
    /// Failure to write the mark.
    Mark(String),
    /// Failure of cleanup to write.
    Room(String),
    Unanswered(NodeId),
}

impl Reason {
    fn cause(&self) -> PauseCause {
        match self {
            Self::Redis(_) => PauseCause::Redis,
            Self::Copy(_) => PauseCause::Copy,
            Self::Waits(_) => PauseCause::Waits,
            Self::Mark(_) => PauseCause::Mark,
            Self::Room(_) => PauseCause::Room,
            Self::Unanswered(_) => PauseCause::Unanswered,
        }
    }

    fn words(&self) -> String {
        const NOTHING: &str = "queue directory: nothing is fed";
        match self {
            Self::Redis(error @ SpoolError::Host(_)) => {
                format!("{NOTHING}: Redis not asked: {error}; mail waits in Redis meanwhile")
            }
            Self::Redis(error) => {
                format!("{NOTHING}: {error}; mail waits in Redis: see to Redis and to redis.url")
            }
            Self::Copy(words) | Self::Waits(words) | Self::Mark(words) => words.clone(),
            Self::Room(failure) => format!(
                "{NOTHING}: cleanup can't write: {failure}; make room on the disk of the queue: \
                 one message is tried now and then"
            ),
            Self::Unanswered(node) => format!(
                "{NOTHING}: Redis has not said whether node {node} is served here; see Postfix's \
                 log"
            ),
        }
    }

    fn lasting(&self, age: Duration) -> Pause {
        Pause { cause: self.cause(), reason: self.words(), for_s: age.as_secs() }
    }
}

impl Service {
    /// Returns the pause of feeding, if there is one.
    pub(super) fn pause(&self) -> Option<Pause> {
        let redis = || self.feeder.spool.trouble().map(Reason::Redis);
        match (self.unserved_since, &self.standing) {
            (Some(since), _) => {
                let age = since.elapsed();
                let reason = redis().or_else(|| self.unserved(age))?;
                Some(reason.lasting(age))
            }
            (None, Standing::Here { asked, .. }) if redis().is_some() => {
                redis().map(|reason| reason.lasting(asked.elapsed()))
            }
            (None, _) => {
                let (failure, age) = self.disk.trouble(Instant::now().into_std())?;
                Some(Reason::Room(failure.to_owned()).lasting(age))
            }
        }
    }

    /// Returns the reason for which this directory does not serve its node, other than Redis.
    fn unserved(&self, age: Duration) -> Option<Reason> {
        let unanswered = || Reason::Unanswered(self.node.clone());
        self.standing
            .refusal(&self.node)
            .map(Reason::Copy)
            .or_else(|| self.attendance.trouble().map(Reason::Mark))
            .or_else(|| self.standing.waits(&self.node).map(Reason::Waits))
            .or_else(|| (age >= UNANSWERED).then(unanswered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Carried, unwritable};

    fn refused(is_certain: bool, ours: usize) -> Standing {
        let carried = Carried { ours, unclear: 0 };
        Standing::Refused { host: "mx1 (1), /q".to_owned(), is_live: true, is_certain, carried }
    }

    fn redis_errors() -> Vec<SpoolError> {
        let text = || "x".to_owned();
        vec![
            SpoolError::Unavailable(text()),
            SpoolError::NotMaster { server: text(), role: "replica".to_owned() },
            SpoolError::OtherSpool {
                expected: spool::SpoolId::new().unwrap(),
                found: None,
                file: text(),
            },
            SpoolError::Refused(text()),
            SpoolError::Host("/etc/password: not read: denied; let mail_owner read it".to_owned()),
            SpoolError::Newer { loaded: text(), ours: text() },
            SpoolError::NoLibrary,
            SpoolError::Malformed(text()),
        ]
    }

    /// Returns a reason of each kind, with the texts that the service makes.
    fn each() -> Vec<Reason> {
        let node: NodeId = "NODE".parse().unwrap();
        let mark = unwritable("/q/mark".as_ref(), &std::io::Error::from_raw_os_error(30));
        let copies = [0, 20].map(|ours| refused(true, ours).refusal(&node).map(Reason::Copy));
        let waits = refused(false, 20).waits(&node).map(Reason::Waits);
        let mut all: Vec<Reason> = redis_errors().into_iter().map(Reason::Redis).collect();
        all.extend(copies.into_iter().flatten());
        all.extend(waits);
        all.extend([Reason::Mark(mark), Reason::Room("x".to_owned()), Reason::Unanswered(node)]);
        all
    }

    #[test]
    fn each_reason_has_words_for_object_failure_cause_and_remedy() {
        let all = each();
        for cause in PauseCause::ALL {
            assert!(all.iter().any(|it| it.cause() == cause), "{cause:?}");
        }
        for reason in all {
            let words = reason.words();
            let (said, remedy) = words.split_once("; ").unwrap_or_else(|| panic!("{words}"));
            let parts: Vec<&str> = said.splitn(3, ": ").collect();
            let [object, failure, cause] = parts[..] else { panic!("{words}") };
            assert!(!object.is_empty() && !cause.is_empty() && remedy.len() > 10, "{words}");
            let fails = ["nothing is fed", "not served", "can't be written"];
            assert!(fails.iter().any(|it| failure.starts_with(it)), "{words}");
        }
    }

    #[test]
    fn a_pause_is_said_with_its_age() {
        let pause = Reason::Room("no space".to_owned()).lasting(Duration::from_millis(61_700));
        assert_eq!((pause.cause, pause.for_s), (PauseCause::Room, 61));
        assert!(pause.reason.contains("cleanup can't write: no space; make room"), "{pause:?}");
    }
}
