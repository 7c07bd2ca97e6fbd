//! The client of the set-group-id programs: one message, one deadline, one outcome.
//!
//! The caller must know what to do with the message afterwards, so there are three outcomes:
//!
//! | outcome | the message | the caller |
//! |---|---|---|
//! | `Ok` | is in Redis, durably | is done |
//! | [`SubmitError::NotSubmitted`] | is certainly not in Redis | may store it elsewhere |
//! | [`SubmitError::Unknown`] | was sent, and no answer came | must not send it another way unless Redis first disowns its id |
//!
//! A submission is `RPUSH inbox <id><value>`, and after it, in the same write, `PUBLISH notices
//! inbox`. The answer to the RPUSH decides. The notice may get lost, since agents also look into
//! the inbox regularly.
//!
//! An attempt certainly failed in two cases. Redis runs a command only when it has read the whole
//! command, so an incompletely written RPUSH was not run. An error reply means that nothing was
//! pushed. An attempt is in doubt when all was written and no answer came. The client repeats such
//! an attempt, on a new connection, until the deadline: of several entries with one id all but one
//! are dropped. A later success settles the doubt. A later refusal does not, since the first
//! attempt may have been run before it.
//!
//! Each connection begins with `HELLO`, which logs in, needs no right of its own, and tells the
//! server's role. A replica gets no message, even if the replica would take one, since the message
//! would be lost again. The client resolves the name for each connection; after a replica, the
//! client tries the name's next address.
//!
//! This client doesn't use the redis crate. Four requests with short answers suffice, and the
//! programs run once per message, so start-up time and dependencies count. `docs/decisions` has the
//! measurement.

mod link;
mod reply;

use std::thread;
use std::time::{Duration, Instant};

use sansio::{Backoff, Policy};

use crate::keys::{INBOX, NOTICES};
use crate::library::NOTICE_OF_INBOX;
use crate::{Content, Server, Submission};
use link::{Command, Link, LinkError, argument, frame};
use reply::Reply;

/// Reason for which a message was not, or may not have been, stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Redis certainly does not have the message and never will, unless it is submitted again.
    #[error("message: not submitted to Redis: {reason}")]
    NotSubmitted {
        /// Text for the log and the user.
        reason: String,
    },
    /// The submission is in doubt: the message was sent, and no answer came by the deadline.
    #[error("message: in doubt: no answer from Redis: {reason}")]
    Unknown {
        /// Text for the log and the user.
        reason: String,
    },
}

/// Default time to wait for an absent server. A Redis without data restarts in less. A longer wait
/// would slow submission down while Redis is away, though the maildrop is at hand.
pub const RESTART_GRACE: Duration = Duration::from_millis(200);
/// Time to wait for the answer to the notice, which comes with the answer to the RPUSH. Without
/// that answer the client gives the connection up.
const PUBLISH_PATIENCE: Duration = Duration::from_millis(100);
/// Error code of a server that has become a replica.
const READ_ONLY: &str = "READONLY";
/// Pauses between two attempts to submit a message.
const AGAIN: Policy = Policy::from_millis(2, 50);

/// Client that submits messages to one Redis over one kept connection.
#[derive(Debug)]
pub struct Submitter {
    server: Server,
    restart_grace: Duration,
    link: Option<Link>,
    /// Number of the name's addresses that were no master so far. The next connection begins with
    /// the address after them.
    not_masters: usize,
}

/// Reason for which an attempt failed.
enum Failure {
    /// No server listens. No command was run.
    NotThere(String),
    /// No command was run. A later attempt may succeed.
    NotNow(String),
    /// No command was run. Further attempts would fail too.
    Refused(String),
    /// The command may have been run.
    InDoubt(String),
}

impl Submitter {
    /// Returns a client for `server`. Doesn't connect yet.
    pub fn new(server: Server) -> Self {
        Self { server, restart_grace: RESTART_GRACE, link: None, not_masters: 0 }
    }

    /// Returns the client with this time to wait for a server that does not listen.
    #[must_use]
    pub fn with_restart_grace(self, restart_grace: Duration) -> Self {
        Self { restart_grace, ..self }
    }

    /// Stores the message durably by the deadline, apart from the time for resolving a host name.
    /// The error says how certain the failure is.
    pub fn submit<'a, R: Into<Content<'a>> + Copy>(
        &mut self,
        message: &Submission<'a, R>,
        deadline: Instant,
    ) -> Result<(), SubmitError> {
        let head = message.head().map_err(|error| SubmitError::NotSubmitted {
            reason: format!("message: the part in its file can't be read: {error}"),
        })?;
        self.submit_value(&head, message.records.into(), deadline)
    }

    fn submit_value(
        &mut self,
        head: &str,
        records: Content<'_>,
        deadline: Instant,
    ) -> Result<(), SubmitError> {
        let started = Instant::now();
        // The first reason is reported: a later one often says only that time was up.
        let mut doubt = None;
        let mut earlier = None;
        let mut backoff = Backoff::new(AGAIN);
        loop {
            let Err(failure) = self.push(head, records, deadline) else { return Ok(()) };
            let (reason, patience) = match failure {
                Failure::NotThere(reason) if doubt.is_none() => {
                    (reason, started + self.restart_grace)
                }
                Failure::NotThere(reason) | Failure::NotNow(reason) => (reason, deadline),
                Failure::Refused(reason) => (reason, started),
                Failure::InDoubt(reason) => (doubt.get_or_insert(reason).clone(), deadline),
            };
            let pause = backoff.lengthen();
            if Instant::now() + pause >= patience.min(deadline) {
                let late = Instant::now() >= deadline && doubt.is_none();
                return Err(verdict(doubt, earlier.filter(|_| late).unwrap_or(reason)));
            }
            earlier = Some(reason);
            thread::sleep(pause);
        }
    }

    fn push(&mut self, head: &str, records: Content<'_>, deadline: Instant) -> Result<(), Failure> {
        let mut push = frame(&[b"RPUSH", INBOX.as_bytes()], 1);
        push.extend(argument(head.len() as u64 + records.bytes()));
        let tell = frame(&[b"PUBLISH", NOTICES.as_bytes(), NOTICE_OF_INBOX.as_bytes()], 0);
        let command = Command {
            before: &[&push, head.as_bytes(), records.before],
            file: records.file,
            after: &[records.after, b"\r\n"],
        };
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.connect(deadline)?,
        };
        match link.call(&command, &[&tell], deadline).map_err(failure)? {
            Reply::Number(_) => {
                // The message is stored, even if the notice gets lost.
                if link.answer(deadline.min(Instant::now() + PUBLISH_PATIENCE)).is_ok() {
                    self.link = Some(link);
                }
                Ok(())
            }
            Reply::Error(text) => {
                self.not_masters += usize::from(text.starts_with(READ_ONLY));
                Err(refusal(text))
            }
            reply => Err(Failure::InDoubt(format!("not an answer to RPUSH: {reply:?}"))),
        }
    }

    fn connect(&mut self, deadline: Instant) -> Result<Link, Failure> {
        let Server { database, user, password, .. } = &self.server;
        let link = Link::connect(&self.server, self.not_masters, deadline);
        let mut link = link.map_err(not_submitted)?;
        let mut hello = vec![b"HELLO".as_slice(), b"2"];
        if let Some(password) = password {
            let user = user.as_deref().unwrap_or("default");
            hello.extend([b"AUTH", user.as_bytes(), password.as_bytes()]);
        }
        let facts = greet(&mut link, &hello, deadline)?;
        if !is_master(&facts) {
            self.not_masters += 1;
            let at = &self.server.address;
            return Err(Failure::NotNow(format!(
                "{at}: not the master; make redis.url lead to the master"
            )));
        }
        if *database != 0 {
            greet(&mut link, &[b"SELECT", database.to_string().as_bytes()], deadline)?;
        }
        Ok(link)
    }
}

/// Sends one greeting and waits for its answer. Without the wait, a message could go through after
/// a refused HELLO or SELECT, with another user's rights or to another database.
fn greet(link: &mut Link, words: &[&[u8]], deadline: Instant) -> Result<Reply, Failure> {
    let greeting = frame(words, 0);
    match link.call(&Command::of(&[&greeting]), &[], deadline).map_err(not_submitted)? {
        Reply::Error(text) => Err(refusal(text)),
        reply => Ok(reply),
    }
}

/// Returns whether the answer to HELLO, a list of names and values, tells that this is a master.
fn is_master(facts: &Reply) -> bool {
    let Reply::List(facts) = facts else { return false };
    let is = |reply: &Reply, text: &str| matches!(reply, Reply::Text(it) if it == text);
    facts.chunks_exact(2).any(|fact| is(&fact[0], "role") && is(&fact[1], "master"))
}

fn failure(error: LinkError) -> Failure {
    match error {
        LinkError::NotThere(error) => Failure::NotThere(error),
        LinkError::Never(error) => Failure::Refused(error),
        LinkError::Unsent(error) | LinkError::Closed(error) => Failure::NotNow(error),
        LinkError::Unanswered(error) | LinkError::Malformed(error) => Failure::InDoubt(error),
    }
}

/// Converts an error of a command other than RPUSH, which leaves no doubt about the message.
fn not_submitted(error: LinkError) -> Failure {
    match error {
        LinkError::Unanswered(reason) => Failure::NotNow(reason),
        LinkError::Malformed(reason) => Failure::Refused(reason),
        other => failure(other),
    }
}

/// Converts an error reply, after which the message is certainly not stored.
fn refusal(text: String) -> Failure {
    const LATER: [&str; 9] = [
        READ_ONLY,
        "LOADING",
        "BUSY",
        "UNKILLABLE",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "NOREPLICAS",
        "ERR max number of clients",
    ];
    match text {
        text if LATER.iter().any(|code| text.starts_with(code)) => Failure::NotNow(text),
        text => Failure::Refused(text),
    }
}

fn verdict(doubt: Option<String>, reason: String) -> SubmitError {
    match doubt {
        None => SubmitError::NotSubmitted { reason },
        Some(doubt) if doubt == reason => SubmitError::Unknown { reason },
        Some(doubt) => SubmitError::Unknown { reason: format!("{doubt}; then: {reason}") },
    }
}
