//! Tests of an example service under the real master.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{Postfix, until};

const LIMIT: Duration = Duration::from_secs(10);

/// Returns the example's path; cargo builds it beside the tests.
fn echo_service() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(|deps| deps.parent()).context("no target directory")?;
    let program = profile.join("examples/echo-service");
    ensure!(
        program.exists(),
        "{} is missing: cargo builds examples unless told to build less",
        program.display()
    );
    Ok(program)
}

fn start() -> Result<Postfix> {
    Postfix::builder()
        .service("echo unix - - n - 1 echo-service -o syslog_name=postfix/$service_name")
        .service("other unix - - n - 1 echo-service")
        .daemon("echo-service", echo_service()?)
        .start()
}

/// Sends a line. Returns the answer, or `None` when the service closed the connection.
fn ask(postfix: &Postfix, line: &str) -> Result<Option<String>> {
    ask_service(postfix, "echo", line)
}

fn ask_service(postfix: &Postfix, service: &str, line: &str) -> Result<Option<String>> {
    let mut stream = UnixStream::connect(postfix.queue_dir().join("private").join(service))?;
    stream.set_read_timeout(Some(LIMIT))?;
    writeln!(stream, "{line}")?;
    match BufReader::new(stream).lines().next() {
        None => Ok(None),
        Some(Err(error)) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
        Some(line) => Ok(Some(line.with_context(|| postfix.log())?)),
    }
}

fn pid(answer: &str) -> Result<i32> {
    Ok(answer.split(' ').next().context("no pid")?.parse()?)
}

#[test]
fn master_starts_a_service_and_clients_reach_it() -> Result<()> {
    let postfix = start()?;
    let first = ask(&postfix, "hello")?.context("no answer")?;
    ensure!(first.ends_with(" postfix/echo hello"), "{first}");
    let second = ask(&postfix, "again")?.context("no answer")?;
    ensure!(pid(&first)? == pid(&second)?, "{first}, {second}");
    Ok(())
}

#[test]
fn a_process_that_was_used_may_die_without_being_throttled() -> Result<()> {
    let postfix = start()?;
    let first = ask(&postfix, "hello")?.context("no answer")?;
    // The second answer shows that the process has said "available" after the first answer. master
    // reads all waiting status messages before it starts another service.
    ask(&postfix, "again")?.context("no answer")?;
    ask_service(&postfix, "other", "hello")?.context("no answer")?;
    ensure!(ask(&postfix, "die")?.is_none());
    let second = ask(&postfix, "again")?.context("no answer")?;
    ensure!(pid(&first)? != pid(&second)?, "{second}");
    until(LIMIT, "master to notice", || postfix.log().contains("exit status 1"))?;
    ensure!(!postfix.log().contains("bad command startup"), "{}", postfix.log());
    Ok(())
}

#[test]
fn a_process_that_was_only_taken_is_throttled() -> Result<()> {
    let postfix = start()?;
    ensure!(ask(&postfix, "die")?.is_none());
    until(LIMIT, "master to throttle", || postfix.log().contains("bad command startup"))
}

#[test]
fn a_service_ends_when_master_is_gone() -> Result<()> {
    let postfix = start()?;
    let pid = pid(&ask(&postfix, "hello")?.context("no answer")?)?;
    postfix.kill9_master();
    let process = PathBuf::from(format!("/proc/{pid}/cmdline"));
    until(LIMIT, "end of the service", || {
        std::fs::read(&process).map_or(true, |line| line.is_empty())
    })
}
