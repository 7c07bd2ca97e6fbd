//! A process of this program that submits batches, and may do nothing else.
//!
//! `inject` stays root, because it reads files that only root can read. Root must not talk to
//! Redis, or to whatever else may be behind its socket. So another process reads the password of
//! submission, becomes `mail_owner`, and gets batches over a pipe. A batch is answered by a line:
//!
//! ```text
//!   batch:    messages (u32)   of each: id (26 bytes), arrival in ms (u64), bytes (u32), records
//!   answer:   "ok", "later <why>" or "never <why>"
//! ```

use std::io::{self, Read, Write};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use agents::daemon::{self, Options};
use anyhow::{Context, Result, bail, ensure};
use spool::{MessageId, Spool, SpoolError, Submission};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

pub(super) struct Composed {
    pub(super) id: MessageId,
    pub(super) arrival: Duration,
    pub(super) records: Vec<u8>,
}

/// Length of a message's id, in bytes.
const ID_BYTES: usize = 26;
const OK: &str = "ok";
const LATER: &str = "later";
const NEVER: &str = "never";

/// Reason why a batch was not, or perhaps not, submitted.
pub(super) struct Unsubmitted {
    pub(super) why: String,
    pub(super) is_retryable: bool,
}

/// The submitting process, which ends with this value.
pub(super) struct Pusher {
    process: Child,
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Pusher {
    pub(super) fn start(options: &Options, uid: u32) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("submit-batches").arg(uid.to_string()).arg("-c").arg(&options.config_directory);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command
            .spawn()
            .map_err(host::limit::starting)
            .context("submitting process: not started")?;
        let pipes = (process.stdin.take(), process.stdout.take());
        let (Some(input), Some(output)) = pipes else {
            bail!("submitting process: started without pipes")
        };
        Ok(Self { process, input, answers: BufReader::new(output).lines() })
    }

    /// Submits a batch once, and returns the outcome.
    pub(super) async fn submit(
        &mut self,
        batch: &[Composed],
    ) -> Result<std::result::Result<(), Unsubmitted>> {
        let mut bytes = u32::try_from(batch.len())?.to_le_bytes().to_vec();
        for Composed { id, arrival, records } in batch {
            bytes.extend_from_slice(id.to_string().as_bytes());
            bytes.extend_from_slice(&milliseconds(*arrival).to_le_bytes());
            bytes.extend_from_slice(&u32::try_from(records.len())?.to_le_bytes());
            bytes.extend_from_slice(records);
        }
        let sent = self.input.write_all(&bytes).await;
        match (sent, self.answers.next_line().await?) {
            (Ok(()), Some(answer)) => Ok(outcome(&answer)),
            _ => bail!(
                "submitting process: ended early: {}; see its last message",
                self.process.wait().await?
            ),
        }
    }
}

fn milliseconds(arrival: Duration) -> u64 {
    u64::try_from(arrival.as_millis()).unwrap_or(u64::MAX)
}

fn outcome(answer: &str) -> std::result::Result<(), Unsubmitted> {
    match answer.split_once(' ').unwrap_or((answer, "")) {
        (OK, _) => Ok(()),
        (word, why) => Err(Unsubmitted { why: why.to_owned(), is_retryable: word == LATER }),
    }
}

/// Runs the submitting process, until its input ends.
pub(crate) fn run(options: &Options, uid: u32) -> Result<ExitCode> {
    let instance = daemon::Instance::open(options)?;
    // The process is still root here: the password may be for root and setgid_group alone.
    let (spool, host) = (instance.submitting()?, instance.host());
    instance.drop_privileges()?;
    daemon::block_on(async {
        let mut input = io::stdin().lock();
        while let Some(batch) = read(&mut input)? {
            let answer = answer(submit(&spool, &host, uid, &batch).await);
            let mut output = io::stdout().lock();
            output.write_all(answer.as_bytes())?;
            output.flush()?;
        }
        Ok(ExitCode::SUCCESS)
    })?
}

async fn submit(
    spool: &Spool,
    host: &str,
    uid: u32,
    batch: &[Composed],
) -> std::result::Result<(), SpoolError> {
    let all = batch.iter().map(|Composed { id, arrival, records }| Submission {
        id: *id,
        uid,
        arrival_ms: milliseconds(*arrival),
        host,
        records: &records[..],
    });
    spool.submit_many(&all.collect::<Vec<_>>()).await
}

fn answer(submitted: std::result::Result<(), SpoolError>) -> String {
    match submitted {
        Ok(()) => format!("{OK}\n"),
        Err(error) => {
            let word = if error.is_retryable() { LATER } else { NEVER };
            format!("{word} {}\n", error.to_string().replace('\n', " "))
        }
    }
}

/// Reads the next batch; `None` at the end.
fn read(input: &mut impl Read) -> Result<Option<Vec<Composed>>> {
    let mut count = [0; 4];
    let first = input.read(&mut count)?;
    if first == 0 {
        return Ok(None);
    }
    input.read_exact(&mut count[first..])?;
    (0..u32::from_le_bytes(count)).map(|_| read_one(input)).collect::<Result<_>>().map(Some)
}

fn read_one(input: &mut impl Read) -> Result<Composed> {
    let (mut id, mut arrival_ms, mut length) = ([0; ID_BYTES], [0; 8], [0; 4]);
    input.read_exact(&mut id)?;
    input.read_exact(&mut arrival_ms)?;
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    let mut records = Vec::new();
    input.take(length.into()).read_to_end(&mut records)?;
    ensure!(
        records.len() as u64 == u64::from(length),
        "batch: not submitted: cut off, since `optimus inject` ended"
    );
    let id: MessageId = std::str::from_utf8(&id)?.parse()?;
    Ok(Composed { id, arrival: Duration::from_millis(u64::from_le_bytes(arrival_ms)), records })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_tells_the_outcome_of_the_batch() {
        assert!(outcome(answer(Ok(())).trim_end()).is_ok());
        let away = answer(Err(SpoolError::Unavailable("a\nb".to_owned())));
        let away = outcome(away.trim_end()).err().unwrap();
        assert_eq!((away.why.as_str(), away.is_retryable), ("Redis is not available: a b", true));
        let refused = answer(Err(SpoolError::Refused("x".to_owned())));
        assert!(!outcome(refused.trim_end()).err().unwrap().is_retryable);
    }

    #[test]
    fn a_batch_that_is_cut_off_is_an_error_and_no_input_is_the_end() {
        assert!(read(&mut &b""[..]).unwrap().is_none());
        for cut in [&b"\x01\0"[..], b"\x01\0\0\0", b"\x01\0\0\0ABC"] {
            assert!(read(&mut &cut[..]).is_err(), "{cut:?}");
        }
        assert!(read(&mut &b"\0\0\0\0"[..]).unwrap().unwrap().is_empty());
    }
}
