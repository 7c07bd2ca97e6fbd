//! Parts that all benchmarks share.

use std::fs::File;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use testbed::Postfix;

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
    let status = command.status().with_context(|| program.display().to_string())?;
    if !status.success() {
        bail!("{}: {status}", program.display());
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
