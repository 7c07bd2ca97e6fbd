//! Mail as scripts send it: a shell loop that pipes messages into `sendmail`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testbed::Postfix;

use crate::notes::RECIPIENT;

/// Prints the outcome of each message: `ok ID`, or `no ID EXIT_CODE`. Arguments: count, name,
/// sendmail, recipient, seconds between two messages.
const LOOP: &str = r#"
number=0
while [ $number -lt $1 ]; do
    number=$((number + 1))
    id=$2-$number
    if printf 'X-Test-Id: %s\nSubject: Message %d\n\nThis is message %d.\n' "$id" $number $number |
        "$3" -i -f sender@example.org "$4"
    then echo ok "$id"
    else echo no "$id" $?
    fi
    [ "$5" = 0 ] || sleep "$5"
done
"#;

/// Exit code of a program killed by signal 9, as a shell gives it.
const KILLED: &str = "137";

/// Outcomes of `sendmail` so far.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Ids of accepted messages: exit code 0.
    pub accepted: Vec<String>,
    /// Time of each acceptance, in the same order.
    pub accepted_at: Vec<Instant>,
    /// Refused messages: id and exit code.
    pub refused: Vec<(String, String)>,
}

impl Outcome {
    /// Returns the messages whose `sendmail` was killed: it may have stored them or not.
    pub fn killed(&self) -> impl Iterator<Item = &str> {
        self.refused.iter().filter(|(_, code)| code == KILLED).map(|(id, _)| id.as_str())
    }
}

/// A running loop. Ends when dropped.
pub struct Mailer {
    shell: Child,
    outcome: Arc<Mutex<Outcome>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Mailer {
    /// Starts a loop that sends `count` messages. Their X-Test-Id is `name-1`, `name-2` and so on,
    /// without spaces.
    pub fn start(postfix: &Postfix, sendmail: &Path, name: &str, count: u64) -> Result<Self> {
        Self::start_paced(postfix, sendmail, name, count, Duration::ZERO)
    }

    /// Starts a loop as [`Mailer::start`] does, with a pause after each message.
    pub fn start_paced(
        postfix: &Postfix,
        sendmail: &Path,
        name: &str,
        count: u64,
        pause: Duration,
    ) -> Result<Self> {
        let mut command = postfix.command("/bin/sh");
        command.args(["-c", LOOP, "mailer", &count.to_string(), name]).arg(sendmail);
        command.arg(RECIPIENT).arg(pause.as_secs_f64().to_string());
        let complaints = File::create(postfix.path().join("log/mailer"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(complaints);
        let mut shell = command.spawn().context("/bin/sh: not started")?;
        let output = shell.stdout.take().context("/bin/sh: started without a pipe for output")?;
        let outcome = Arc::default();
        let shared = Arc::clone(&outcome);
        let reader = std::thread::spawn(move || read(output, &shared));
        Ok(Self { shell, outcome, reader: Some(reader) })
    }

    /// Returns the outcomes so far.
    pub fn outcome(&self) -> Outcome {
        lock(&self.outcome).clone()
    }

    /// Returns the number of messages tried.
    pub fn tried(&self) -> u64 {
        let outcome = lock(&self.outcome);
        (outcome.accepted.len() + outcome.refused.len()) as u64
    }

    /// Returns the number of messages accepted.
    pub fn accepted(&self) -> u64 {
        lock(&self.outcome).accepted.len() as u64
    }

    /// Whether the loop has ended and all its output has been read.
    pub fn is_done(&self) -> bool {
        self.reader.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
    }
}

impl Drop for Mailer {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read(output: ChildStdout, outcome: &Mutex<Outcome>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let mut words = line.split(' ').map(str::to_owned);
        match (words.next().as_deref(), words.next(), words.next()) {
            (Some("ok"), Some(id), _) => {
                let mut outcome = lock(outcome);
                outcome.accepted.push(id);
                outcome.accepted_at.push(Instant::now());
            }
            (_, Some(id), code) => lock(outcome).refused.push((id, code.unwrap_or_default())),
            _ => {}
        }
    }
}

fn lock(outcome: &Mutex<Outcome>) -> MutexGuard<'_, Outcome> {
    outcome.lock().unwrap_or_else(PoisonError::into_inner)
}
