//! Questions to the name service, through getent(1).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};

/// Path of getent, which is part of Debian's libc-bin and always there.
const GETENT: &str = "/usr/bin/getent";
/// Exit code of getent when there is no such entry.
const NOT_FOUND: i32 = 2;
/// Limit of open files with which any name service can work.
const FILES_ENOUGH: u64 = 64;
/// Memory limit with which any name service can work, in bytes: the usual size of a stack.
const BYTES_ENOUGH: u64 = 8 * 1024 * 1024;
/// Limit of an answer, bytes; only a group with very many members would be longer.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The name service gives no answer. The name may exist: try again later.
#[derive(Debug, thiserror::Error)]
#[error("{GETENT} {database} {key}: {reason}")]
pub struct NameError {
    database: &'static str,
    key: String,
    reason: String,
    /// Whether there is no getent(1) here that this user may run.
    pub(crate) is_missing: bool,
}

/// Returns getent's output; `None` when there is no such entry.
pub(crate) fn getent(
    database: &'static str,
    key: &str,
    deadline: Instant,
) -> Result<Vec<u8>, NameError> {
    let failed =
        |reason: String| NameError { database, key: key.to_owned(), reason, is_missing: false };
    let missing = |error: &io::Error| {
        matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
    };
    let mut child = spawn(database, key)
        .map_err(|error| NameError { is_missing: missing(&error), ..failed(error.to_string()) })?;
    let answer = child.stdout.take().map_or(Ok(Vec::new()), |stdout| read(stdout, deadline));
    if answer.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    match status.code() {
        Some(0) => Ok(answer),
        Some(NOT_FOUND) if limits_are_tight() => Err(failed(
            "not found, which proves nothing within such tight limits; raise \
                ulimit"
                .to_owned(),
        )),
        Some(NOT_FOUND) => Ok(Vec::new()),
        _ => Err(failed(status.to_string())),
    }
}

/// Whether limits are too tight for an honest answer. A name service without files or memory says
/// that there is no such entry. A caller could choose such limits to pass for
/// an unknown user.
fn limits_are_tight() -> bool {
    let below = |resource, enough| getrlimit(resource).map_or(true, |(soft, _)| soft < enough);
    below(Resource::RLIMIT_NOFILE, FILES_ENOUGH)
        || [Resource::RLIMIT_AS, Resource::RLIMIT_DATA, Resource::RLIMIT_STACK]
            .into_iter()
            .any(|resource| below(resource, BYTES_ENOUGH))
}

fn spawn(database: &str, key: &str) -> io::Result<Child> {
    let mut command = Command::new(GETENT);
    command.args([database, "--", key].map(OsStr::new)).env_clear();
    command
        .stdin(nothing()?)
        .stdout(Stdio::piped())
        .stderr(nothing()?)
        .spawn()
        .map_err(host::limit::starting)
}

/// Opens a directory in the place of `/dev/null`, which may be missing. A directory can be neither
/// read nor written.
fn nothing() -> io::Result<Stdio> {
    File::open("/").map(Stdio::from)
}

fn read(mut stdout: ChildStdout, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    loop {
        wait_for_input(&stdout, deadline)?;
        let mut bytes = [0; 4096];
        match stdout.read(&mut bytes)? {
            0 => return Ok(answer),
            some => answer.extend_from_slice(&bytes[..some]),
        }
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(io::Error::other("answer: longer than the limit"));
        }
    }
}

fn wait_for_input(stdout: &ChildStdout, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounding up keeps the last millisecond from becoming a busy loop.
        let left_ms = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(left_ms)) {
            Ok(0) if Instant::now() >= deadline => return Err(ErrorKind::TimedOut.into()),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test runs in a process of its own, since it lowers the limit for good.
    #[test]
    fn tight_limits_make_no_user_unknown() {
        if std::env::var_os(TIGHT).is_none() {
            let this = std::env::current_exe().unwrap();
            let test = "getent::tests::tight_limits_make_no_user_unknown";
            let status = Command::new("/bin/sh")
                .args([
                    "-c",
                    "ulimit -n 20; exec \"$0\" --exact \"$1\"",
                    this.to_str().unwrap(),
                    test,
                ])
                .env(TIGHT, "1")
                .status();
            assert!(status.unwrap().success());
            return;
        }
        let soon = Instant::now() + crate::LIMIT;
        assert!(!getent("passwd", "0", soon).unwrap().is_empty());
        assert!(
            getent("passwd", "4294967288", soon)
                .unwrap_err()
                .to_string()
                .contains("proves nothing")
        );
    }

    const TIGHT: &str = "OPTIMUS_TEST_TIGHT";

    #[test]
    fn a_database_that_does_not_exist_is_an_error_that_names_it() {
        let error = getent("nonsense", "x", Instant::now() + crate::LIMIT).unwrap_err().to_string();
        assert!(error.starts_with("/usr/bin/getent nonsense x: "), "{error}");
    }

    #[test]
    fn an_answer_is_not_awaited_beyond_the_deadline() {
        let mut child =
            Command::new("/bin/sleep").arg("600").stdout(Stdio::piped()).spawn().unwrap();
        let error = read(child.stdout.take().unwrap(), Instant::now()).unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
