//! Composition of many messages from one caller, for `optimus inject`. The code of `sendmail -i`
//! makes each message.

use std::io::BufRead;
use std::time::Duration;

use crate::address::addresses;
use crate::collected::Room;
use crate::compose::{EnvelopeHead, Rules, compose};
use crate::exit::{ExitCode, Failure};
use crate::filter::{Filter, FilterLimits, MessageRefusal};
use crate::identity::Login;
use crate::instance::Instance;
use crate::options::{Invocation, ParseInputs};
use crate::sendmail::rules;

/// Envelope and settings that all messages share.
#[derive(Debug)]
pub struct Bulk {
    invocation: Invocation,
    envelope: EnvelopeHead,
    rules: Rules,
    limits: FilterLimits,
}

impl Bulk {
    /// Reads `sender` like the value of `-f` (default: the login name) and `recipients` like
    /// operands. `from_headers` stands for `-t`. Fails for a user without a login name, for two
    /// senders, and for a wrong parameter of `main.cf`.
    pub fn new(
        instance: &Instance,
        uid: u32,
        sender: Option<&str>,
        recipients: &[String],
        from_headers: bool,
    ) -> Result<Self, Failure> {
        let options = if from_headers { "-ti" } else { "-i" };
        let words = [options, "--"].into_iter().chain(recipients.iter().map(String::as_str));
        let parameter = |name: &str| instance.text(name);
        let context = ParseInputs { name: b"sendmail", parameter: &parameter, say: &mut |_| () };
        let invocation =
            Invocation::parse(words.map(|it| it.as_bytes().to_vec()).collect(), context)?;
        let login = Login::of(uid);
        let unknown =
            || Failure::new(ExitCode::System, format!("no login name found for user ID {uid}"));
        let sender = match sender {
            Some(given) => one_address(given)?,
            None => login.as_ref().map(|it| it.name.clone()).ok_or_else(unknown)?,
        };
        let envelope = EnvelopeHead { sender, full_name: login.as_ref().map(Login::full_name) };
        Ok(Self {
            rules: rules(&invocation, instance)?,
            limits: instance.filter_limits()?,
            invocation,
            envelope,
        })
    }

    /// Returns `message_size_limit`: the size in bytes that no message exceeds.
    pub fn message_bytes_max(&self) -> usize {
        self.limits.message.unwrap_or(usize::MAX)
    }

    /// Returns the records of one message. Fails if the message can't be read, has no recipient, or
    /// is refused by the filter.
    pub fn records(&self, input: impl BufRead, arrival: Duration) -> Result<Vec<u8>, Failure> {
        // A user who can reach Redis without set-group-id may name any sender.
        let any_sender = |_: &[u8]| Ok(());
        let mut filter = Filter::new(self.limits, arrival, &any_sender, Room::memory());
        compose(&self.invocation, &self.envelope, self.rules, input, &mut filter)?;
        let refused =
            |refusal: MessageRefusal| Failure::new(ExitCode::of(refusal.status), refusal.words());
        let records = filter.finish().map_err(refused)?;
        records.into_bytes().map_err(|error| Failure::temporary(error.to_string()))
    }
}

/// Reads one address. Text without an address is the null sender.
fn one_address(given: &str) -> Result<Vec<u8>, Failure> {
    let mut found = addresses(given.as_bytes());
    if found.len() > 1 {
        return Err(Failure::usage(format!("sender {given}: more than one address; give one")));
    }
    Ok(found.pop().unwrap_or_default())
}
