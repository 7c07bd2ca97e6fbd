//! Telling people: standard error and the mail log, in Postfix's format.
//!
//! ```text
//! standard error   sendmail: fatal: ann(1000): No recipient addresses found in message header
//! mail log         postfix/sendmail[4711]: fatal: ann(1000): No recipient …
//! ```
//!
//! Neither may decide over a message or hold it up. Both belong to others, who may have closed them
//! or stopped reading: see [`postfix_wire::maillog`] and [`host::stderr`], which never wait.
//!
//! The log is opened only to say something: a submission that goes well says nothing here.

use postfix_wire::MainCf;
use postfix_wire::maillog::{self, MailLog, MailLogError};

/// The severity of a line.
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

impl Severity {
    fn in_log(self) -> maillog::Severity {
        match self {
            Self::Note | Self::Info => maillog::Severity::Info,
            Self::Warning => maillog::Severity::Warning,
            Self::Fatal => maillog::Severity::Fatal,
        }
    }
}

/// Writes for one program.
#[derive(Debug, Clone)]
pub struct Log {
    /// The name by which the program was called, which standard error shows.
    called: String,
    mail_log: MailLog,
}

impl Log {
    /// Makes the log for the time in which `main.cf` is not read.
    pub fn new(program: &'static str) -> Self {
        Self { called: program.to_owned(), mail_log: MailLog::new(program) }
    }

    /// The name that the program was started by.
    pub fn call(&mut self, name: &str) {
        name.clone_into(&mut self.called);
    }

    /// Has the mail log be where this instance has it.
    pub fn configure(&mut self, main_cf: &MainCf) -> Result<(), MailLogError> {
        self.mail_log.configure(main_cf)
    }

    /// Says it.
    pub fn say(&self, severity: Severity, message: &str) {
        self.mail_log.line(severity.in_log(), message);
        if severity != Severity::Note {
            self.complain(
                format!("{}{}", severity.in_log().prefix(), maillog::harmless(message)).as_bytes(),
            );
        }
    }

    /// Says it on standard error alone.
    pub fn complain(&self, words: &[u8]) {
        host::stderr::line(&[self.called.as_bytes(), b": ", words].concat());
    }

    /// Sends lines that the mail log had no room for, as far as that goes without waiting.
    pub fn flush(&self) {
        self.mail_log.flush();
    }
}
