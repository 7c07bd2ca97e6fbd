//! Offer of a message to Redis, and its three outcomes.
//!
//! Any trouble before the offer, even a broken `optimus.toml`, sends the message to the maildrop.
//! No message is lost or refused. The reason is logged with each message until the trouble is
//! mended.
//!
//! A Redis that is away may be back in a moment, and the first message waits for its return. Later
//! messages don't wait: the file of the first one has changed the maildrop directory's time, which
//! other processes read. Other files there (of a requeued message, say) change the time as well. A
//! message that then meets a restart of Redis goes to the maildrop without waiting.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use settings::{Places, Settings, SettingsError};
use spool::sync::{RESTART_GRACE, SubmitError, Submitter};
use spool::{Content, Server, Submission};

use crate::instance::Instance;
use crate::stamp::SubmissionStamp;

/// Time after which a maildrop without new mail no longer shows that Redis is away. Messages that
/// come less often than this wait for Redis each time.
const AWAY_MEMORY: Duration = Duration::from_secs(10);

/// Outcome of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Redis has the message, durably.
    Stored,
    /// Redis certainly doesn't have the message. Holds the reason.
    NotSubmitted(String),
    /// Redis may have the message. Holds the reason why no answer came.
    Unknown(String),
}

/// Offers the message to Redis, and returns the outcome within `submit.timeout_ms`.
pub(crate) fn offer(instance: &Instance, stamp: &SubmissionStamp, records: Content<'_>) -> Offer {
    let Prepared { settings, places, server } = match prepare(instance) {
        Ok(prepared) => prepared,
        Err(reason) => return Offer::NotSubmitted(reason),
    };
    let submission = Submission {
        id: stamp.id,
        uid: stamp.uid,
        arrival_ms: u64::try_from(stamp.arrival.as_millis()).unwrap_or(u64::MAX),
        host: &instance.text("myhostname"),
        records,
    };
    let deadline = Instant::now() + Duration::from_millis(settings.submit.timeout_ms);
    let restart_grace = restart_grace(&places.queue_directory);
    let mut submitter = Submitter::new(server).with_restart_grace(restart_grace);
    match submitter.submit(&submission, deadline) {
        Ok(()) => Offer::Stored,
        Err(SubmitError::NotSubmitted { reason }) => Offer::NotSubmitted(reason),
        Err(SubmitError::Unknown { reason }) => Offer::Unknown(reason),
    }
}

struct Prepared {
    settings: Settings,
    places: Places,
    server: Server,
}

fn prepare(instance: &Instance) -> Result<Prepared, String> {
    let settings =
        Settings::load(&instance.config_directory).map_err(|error| without_words(&error))?;
    let places = Places::of(&instance.config_directory, &instance.main_cf)
        .map_err(|error| error.to_string())?;
    let server = Server::parse(&places.redis_url(&settings)).map_err(|error| error.to_string())?;
    let login = settings.submitter().map_err(|error| error.to_string())?;
    let server = server.with_credentials(login.user.as_deref(), login.password.as_deref());
    let server = server.embedded(settings.redis.url.is_none());
    Ok(Prepared { settings, places, server })
}

fn restart_grace(queue_directory: &Path) -> Duration {
    let changed =
        std::fs::metadata(queue_directory.join("maildrop")).and_then(|about| about.modified());
    let age = changed.ok().and_then(|changed| SystemTime::now().duration_since(changed).ok());
    if age.is_some_and(|age| age < AWAY_MEMORY) { Duration::ZERO } else { RESTART_GRACE }
}

/// Returns the error without the parser's text. The submitting user may see the error, and that
/// text may quote a value, even a password that only the group may read. The error names the line
/// for the administrator, and `optimus check` prints the whole text.
fn without_words(error: &SettingsError) -> String {
    match error {
        SettingsError::Syntax { path, line, .. } => {
            format!("{}: line {line} is wrong; run `optimus check`", path.display())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_waits_only_if_the_maildrop_got_no_mail_lately() {
        let queue = tempfile::tempdir().unwrap();
        assert_eq!(restart_grace(queue.path()), RESTART_GRACE);
        let maildrop = queue.path().join("maildrop");
        std::fs::create_dir(&maildrop).unwrap();
        let changed =
            |at: SystemTime| std::fs::File::open(&maildrop).unwrap().set_modified(at).unwrap();
        let now = SystemTime::now();
        for (at, grace) in [
            (now - AWAY_MEMORY, RESTART_GRACE),
            // The clock was set back.
            (now + Duration::from_secs(3600), RESTART_GRACE),
            (now, Duration::ZERO),
        ] {
            changed(at);
            assert_eq!(restart_grace(queue.path()), grace);
        }
        changed(now - AWAY_MEMORY);
        std::fs::write(maildrop.join("4711.815"), "").unwrap();
        assert_eq!(restart_grace(queue.path()), Duration::ZERO);
    }
}
