//! Parts that all benchmarks share.

use std::fs::File;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use comfy_table::Table;
use serde::Serialize;
use testbed::Postfix;
use trials::table;

/// Path of Postfix's own sendmail in Debian.
pub(crate) const STOCK_SENDMAIL: &str = "/usr/sbin/sendmail";

/// Arguments of `sendmail`, the same for both. A recipient follows.
const ENVELOPE: [&str; 3] = ["-i", "-f", "sender@example.org"];
/// Recipient of messages, where any will do.
const RECIPIENT: &str = "recipient@example.net";

/// Returns the middle value, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// Rounds to a thousandth.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Returns a table of rows that begin with names and go on with figures, of two decimals.
pub(crate) fn table_of<const N: usize, const M: usize>(
    heads: &[&str],
    rows: impl IntoIterator<Item = ([String; N], [f64; M])>,
) -> Table {
    let mut table = table(heads);
    for (names, figures) in rows {
        table.add_row(names.into_iter().chain(figures.map(|figure| format!("{figure:.2}"))));
    }
    table
}

/// Moments of one message: when its `sendmail` started and exited.
#[derive(Clone, Copy)]
pub(crate) struct Submitted {
    started: Instant,
    exited: Instant,
}

impl Submitted {
    /// Submits one message.
    pub(crate) fn by(postfix: &Postfix, program: &Path, message: &Path) -> Result<Self> {
        let started = Instant::now();
        run_once(postfix, program, message)?;
        Ok(Self { started, exited: Instant::now() })
    }
}

/// Times of messages until now, their delivery, in milliseconds. A caller waits from `sendmail`'s
/// start; from its exit counts only the part that the caller doesn't wait for. Stock's `sendmail`
/// has Postfix at work before it exits, so the second figure alone would flatter it.
#[derive(Default)]
pub(crate) struct Times {
    from_start: Vec<f64>,
    from_exit: Vec<f64>,
}

/// Medians of [`Times`], and the longest, in milliseconds.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Medians {
    pub(crate) from_start_ms: f64,
    pub(crate) from_exit_ms: f64,
    pub(crate) longest_from_start_ms: f64,
}

impl Times {
    /// Notes that the message has been delivered just now.
    pub(crate) fn delivered(&mut self, submitted: Submitted) {
        self.from_start.push(submitted.started.elapsed().as_secs_f64() * 1000.0);
        self.from_exit.push(submitted.exited.elapsed().as_secs_f64() * 1000.0);
    }

    pub(crate) fn medians(self) -> Medians {
        let longest = self.from_start.iter().copied().fold(0.0, f64::max);
        Medians {
            from_start_ms: rounded(median(self.from_start)),
            from_exit_ms: rounded(median(self.from_exit)),
            longest_from_start_ms: rounded(longest),
        }
    }
}

/// Returns the contestants in the order of this round: each goes first in turn.
pub(crate) fn order<T: Copy, const N: usize>(mut contestants: [T; N], round: usize) -> [T; N] {
    contestants.rotate_left(round % N);
    contestants
}

/// Writes a message of about `size` bytes to a file of the instance.
pub(crate) fn message_file(postfix: &Postfix, test_id: &str, size: usize) -> Result<PathBuf> {
    let line = "The quick brown fox jumps over the lazy dog, again and again.\n";
    let path = postfix.path().join(format!("message-{test_id}"));
    let body = line.repeat(size.div_ceil(line.len()));
    std::fs::write(&path, format!("X-Test-Id: {test_id}\nSubject: Message {test_id}\n\n{body}"))?;
    Ok(path)
}

/// Runs `program` once with this file as its standard input, as a shell would.
pub(crate) fn run_once(postfix: &Postfix, program: &Path, message: &Path) -> Result<()> {
    run_once_to(RECIPIENT, postfix, program, message)
}

/// Does the same as [`run_once`], for another recipient.
pub(crate) fn run_once_to(
    to: &str,
    postfix: &Postfix,
    program: &Path,
    message: &Path,
) -> Result<()> {
    let mut command = postfix.command(program);
    command.args(ENVELOPE).arg(to).stdin(Stdio::from(File::open(message)?));
    let status = command.status().with_context(|| format!("{}: not started", program.display()))?;
    if !status.success() {
        bail!("{}: message not submitted: {status}", program.display());
    }
    Ok(())
}

/// Listener for stock postdrop's triggers in the place of a stopped pickup. Without it postdrop
/// would warn of each, which costs time and is no part of insertion.
pub(crate) struct Bell {
    path: PathBuf,
    listener: Option<JoinHandle<()>>,
}

impl Bell {
    pub(crate) fn new(postfix: &Postfix) -> Result<Self> {
        let path = postfix.queue_dir().join("public/pickup");
        let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
        let listen =
            move || for _ in listener.incoming().map_while(Result::ok).take_while(is_trigger) {};
        Ok(Self { path, listener: Some(std::thread::spawn(listen)) })
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // The listener ends at a connection without a word.
        drop(UnixStream::connect(&self.path));
        self.listener.take().map(JoinHandle::join);
        let _ = std::fs::remove_file(&self.path);
    }
}

fn is_trigger(mut stream: &UnixStream) -> bool {
    stream.read(&mut [0; 16]).is_ok_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5_f64.to_bits());
    }

    #[test]
    fn each_contestant_goes_first_once() {
        assert_eq!(
            (order([1, 2, 3], 0), order([1, 2, 3], 1), order([1, 2, 3], 5)),
            ([1, 2, 3], [2, 3, 1], [3, 1, 2])
        );
    }
}
