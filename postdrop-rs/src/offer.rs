//! Offering a message to Redis, and the three things that can come of it.
//!
//! Whatever is wrong on the way there, a broken `optimus.toml` too, is a reason for the maildrop and not for losing mail or
//! refusing it: the reason is logged with each message until somebody puts it right.

use std::time::{Duration, Instant};

use settings::{Places, Settings, SettingsError};
use spool::sync::{SubmitError, Submitter};
use spool::{Server, Submission};

use crate::instance::Instance;
use crate::submission::Ticket;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Redis has it, durably.
    Stored,
    /// Redis has certainly not got it, because of this.
    NotSubmitted(String),
    /// Redis may have got it; this was in the way of an answer.
    Unknown(String),
}

/// Offers the message, within `submit.timeout_ms`.
pub(crate) fn offer(instance: &Instance, ticket: &Ticket, records: &[u8]) -> Offer {
    let (settings, server) = match prepare(instance) {
        Ok(prepared) => prepared,
        Err(reason) => return Offer::NotSubmitted(reason),
    };
    let submission = Submission {
        id: ticket.id,
        uid: ticket.uid,
        arrival_ms: u64::try_from(ticket.arrival.as_millis()).unwrap_or(u64::MAX),
        host: &instance.text("myhostname"),
        records,
    };
    let deadline = Instant::now() + Duration::from_millis(settings.submit.timeout_ms);
    match Submitter::new(server, settings.lots.size).submit(&submission, deadline) {
        Ok(_) => Offer::Stored,
        Err(SubmitError::NotSubmitted { reason }) => Offer::NotSubmitted(reason),
        Err(SubmitError::Unknown { reason }) => Offer::Unknown(reason),
    }
}

fn prepare(instance: &Instance) -> Result<(Settings, Server), String> {
    let settings = Settings::load(&instance.config_directory).map_err(|error| without_words(&error))?;
    let places =
        Places::of(&instance.config_directory, &instance.main_cf).map_err(|error| error.to_string())?;
    let server = Server::parse(&places.redis_url(&settings)).map_err(|error| error.to_string())?;
    let password = settings.redis.password().map_err(|error| error.to_string())?;
    let server = server.with_credentials(settings.redis.user.as_deref(), password.as_deref());
    Ok((settings, server))
}

/// What the parser says may quote a value, and so a password that only our group can read; what is said here may reach
/// the user who submits. The mail log tells the administrator where to look, and `optimus check` the rest.
fn without_words(error: &SettingsError) -> String {
    match error {
        SettingsError::Syntax { path, line, .. } => format!("{}: line {line} is wrong", path.display()),
        other => other.to_string(),
    }
}
