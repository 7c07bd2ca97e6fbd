//! Telling people: standard error and the mail log, in Postfix's format.
//!
//! ```text
//! standard error   sendmail: fatal: ann(1000): No recipient addresses found in message header
//! mail log         postfix/sendmail[4711]: fatal: ann(1000): No recipient …
//! ```
//!
//! The mail log first: standard error is the caller's, who may have closed it, or given a full disk. What can't be
//! written there is left unsaid; it must never decide over a message.
//!
//! The log is syslog, or Postfix's postlogd when `maillog_file` is set. It is opened only to say something: a
//! submission that goes well says nothing here.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sys;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Worth knowing; the mail log only.
    Note,
    /// Worth knowing to who has asked for more to be said.
    Info,
    /// Not as it should be; the program goes on.
    Warning,
    /// The program ends.
    Fatal,
}

/// Where log lines go.
#[derive(Debug, Clone)]
enum Destination {
    Syslog,
    Postlogd { socket: PathBuf, host: String },
}

/// Writes for one program.
#[derive(Debug, Clone)]
pub struct Log {
    program: &'static str,
    /// What the program was called by, which standard error shows.
    called: String,
    tag: String,
    destination: Destination,
}

impl Log {
    /// As long as `main.cf` is not read.
    pub fn new(program: &'static str) -> Self {
        Self {
            program,
            called: program.to_owned(),
            tag: format!("postfix/{program}"),
            destination: Destination::Syslog,
        }
    }

    /// The name that the program was started by.
    pub fn call(&mut self, name: &str) {
        name.clone_into(&mut self.called);
    }

    /// `syslog_name` of the instance.
    pub fn set_name(&mut self, syslog_name: &str) {
        self.tag = format!("{syslog_name}/{}", self.program);
    }

    /// For an instance with `maillog_file`: its postlogd's socket, and the name of this machine.
    pub fn use_postlogd(&mut self, socket: PathBuf, host: &str) {
        let host = host.split('.').next().unwrap_or(host).to_owned();
        self.destination = Destination::Postlogd { socket, host };
    }

    /// Says it.
    pub fn say(&self, severity: Severity, message: &str) {
        let message = printable(message);
        let (line, priority) = match severity {
            Severity::Note | Severity::Info => (message, libc::LOG_INFO),
            Severity::Warning => (format!("warning: {message}"), libc::LOG_WARNING),
            Severity::Fatal => (format!("fatal: {message}"), libc::LOG_CRIT),
        };
        match &self.destination {
            Destination::Syslog => sys::syslog(&self.tag, priority, &line),
            Destination::Postlogd { socket, host } => self.postlogd(socket, host, &line),
        }
        if severity != Severity::Note {
            self.complain(line.as_bytes());
        }
    }

    /// Says it on standard error alone.
    pub fn complain(&self, words: &[u8]) {
        let line = [self.called.as_bytes(), b": ", words, b"\n"].concat();
        let _ = std::io::stderr().write_all(&line);
    }

    /// postlogd expects lines as syslogd writes them.
    fn postlogd(&self, socket: &PathBuf, host: &str, line: &str) {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let time = sys::timestamp(i64::try_from(now_s).unwrap_or_default());
        let line = format!("{time} {host} {}[{}]: {line}", self.tag, std::process::id());
        // Nobody is there to be told of an error.
        let _ = UnixDatagram::unbound()
            .and_then(|datagram| datagram.set_nonblocking(true).map(|()| datagram))
            .and_then(|datagram| datagram.send_to(line.as_bytes(), socket));
    }
}

/// With `?` for what no terminal should get, which includes bytes that were no text.
fn printable(message: &str) -> String {
    let is_bad = |ch: char| ch.is_control() || ch == char::REPLACEMENT_CHARACTER;
    message.chars().map(|ch| if is_bad(ch) { '?' } else { ch }).collect()
}
