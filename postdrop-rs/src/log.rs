//! Messages to people, in Postfix's format: on standard error and in the mail log.
//!
//! ```text
//! standard error   sendmail: fatal: ann(1000): No recipient addresses found in message header
//! mail log         postfix/sendmail[4711]: fatal: ann(1000): No recipient …
//! ```
//!
//! Neither output may decide over a message or delay it. Both outputs belong to other processes,
//! which may have closed them or stopped reading. See [`postfix_wire::maillog`] and
//! [`host::stderr`], which never wait.
//!
//! The log is opened only when there is a line to write. A submission without trouble writes no
//! line.

use postfix_wire::MainCf;
use postfix_wire::maillog::{self, MailLog, MailLogError};

/// Severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Fact, for the mail log only.
    Note,
    /// Fact that the caller asked for.
    Info,
    /// Irregularity; the program goes on.
    Warning,
    /// Reason why the program ends.
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

/// Log of one program.
#[derive(Debug, Clone)]
pub struct Log {
    /// Name by which the program was called; lines on standard error begin with it.
    called: String,
    mail_log: MailLog,
}

impl Log {
    /// Makes a log with defaults, until `main.cf` is read.
    pub fn new(program: &'static str) -> Self {
        Self { called: program.to_owned(), mail_log: MailLog::new(program) }
    }

    /// Sets the name by which the program was called.
    pub fn call(&mut self, name: &str) {
        name.clone_into(&mut self.called);
    }

    /// Sends the mail log's lines to the place that `main_cf` names.
    pub fn configure(&mut self, main_cf: &MainCf) -> Result<(), MailLogError> {
        self.mail_log.configure(main_cf)
    }

    /// Writes a line to the mail log, and to standard error unless it is a [`Severity::Note`].
    pub fn say(&self, severity: Severity, message: &str) {
        self.mail_log.line(severity.in_log(), message);
        if severity != Severity::Note {
            self.complain(
                format!("{}{}", severity.in_log().prefix(), maillog::harmless(message)).as_bytes(),
            );
        }
    }

    /// Writes a line to standard error alone.
    pub fn complain(&self, words: &[u8]) {
        host::stderr::line(&[self.called.as_bytes(), b": ", words].concat());
    }

    /// Sends waiting lines of the mail log, as far as possible without waiting.
    pub fn flush(&self) {
        self.mail_log.flush();
    }
}
