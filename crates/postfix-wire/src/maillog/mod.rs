//! Mail log: lines to syslog or to postlogd, in Postfix's form, without ever waiting.
//!
//! ```text
//! syslog     /dev/log        <22>Nov 21 09:20:13 postfix/sendmail[4711]: fatal: ...
//! postlogd   public/postlog  Nov 21 09:20:13 mail postfix/sendmail[4711]: fatal: ...
//! ```
//!
//! A log that is full, missing or of the wrong type must neither delay mail nor decide its fate.
//! The C library's syslog(3) waits while `/dev/log` has no reader. In this module every socket is
//! non-blocking. A line that can't be sent waits in memory until the next line or
//! [`MailLog::flush`]. At most [`channel::WAITING_MAX`] lines wait. Further lines are lost and
//! counted, and a later line reports their number. A program that ends at once loses its waiting
//! lines.
//!
//! Source: `maillog_client(3)`, `msg_logger(3)`, `msg_syslog(3)`, `mail_params.c`.

pub mod channel;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::MainCf;
use channel::Channel;

/// Socket to which the C library's syslog(3) sends lines.
const SYSLOG_SOCKET: &str = "/dev/log";

/// Most bytes of a line's text, as in Postfix's lines to postlogd.
pub const TEXT_BYTES_MAX: usize = 2000;

/// Number of the facility `mail`, which is used until `main.cf` is read.
const FACILITY_MAIL: u8 = 2;

/// Names for `syslog_facility`, and their numbers in syslog(3). Postfix takes `kern`, whose number
/// is 0, for an unknown name.
const FACILITIES: [(&str, u8); 19] = [
    ("user", 1),
    ("mail", FACILITY_MAIL),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Event without trouble.
    Info,
    /// Irregularity; the program goes on.
    Warning,
    /// Failure; the program goes on.
    Error,
    /// Failure; the program ends.
    Fatal,
}

impl Severity {
    /// Returns the word that starts a line, with its colon; empty for [`Severity::Info`].
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Info => "",
            Self::Warning => "warning: ",
            Self::Error => "error: ",
            Self::Fatal => "fatal: ",
        }
    }

    /// Returns the severity's number in syslog(3).
    fn number(self) -> u8 {
        match self {
            Self::Info => 6,
            Self::Warning => 4,
            Self::Error => 3,
            Self::Fatal => 2,
        }
    }
}

/// Error: stock Postfix refuses a setting of the mail log. Lines go on to the former log; the
/// administrator must correct `main.cf`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailLogError {
    /// `syslog_facility` names no facility.
    #[error("file {}: parameter syslog_facility: unrecognized value: {value}", path.display())]
    Facility {
        /// Path of `main.cf`.
        path: PathBuf,
        /// Value of the parameter.
        value: String,
    },
    /// `maillog_file` has a forbidden path.
    #[error("maillog_file value '{value}' does not match any prefix in maillog_file_prefixes")]
    Prefix {
        /// Value of the parameter.
        value: String,
    },
}

/// Mail log of one program. Clones share the socket and the waiting lines.
#[derive(Debug, Clone)]
pub struct MailLog {
    program: &'static str,
    tag: String,
    facility: u8,
    /// Name of the machine, for postlogd.
    host: Option<String>,
    channel: Arc<Mutex<Channel>>,
}

impl MailLog {
    /// Returns the log of a program that has not read `main.cf` yet: syslog, facility mail.
    pub fn new(program: &'static str) -> Self {
        let channel = Arc::new(Mutex::new(Channel::to(SYSLOG_SOCKET.into())));
        Self {
            program,
            tag: format!("postfix/{program}"),
            facility: FACILITY_MAIL,
            host: None,
            channel,
        }
    }

    /// Logs from now on as `main_cf` says: `syslog_name`, `syslog_facility`, `maillog_file`. After
    /// an error the lines go to the same socket as before.
    pub fn configure(&mut self, main_cf: &MainCf) -> Result<(), MailLogError> {
        let text = |name| main_cf.get(name).unwrap_or_default();
        let path = main_cf.config_directory().join("main.cf");
        let value = text("syslog_facility");
        self.facility = facility(&value).ok_or(MailLogError::Facility { path, value })?;
        self.tag = format!("{}/{}", text("syslog_name"), self.program);
        let file = text("maillog_file");
        if file.is_empty() {
            return Ok(());
        }
        let prefixes = text("maillog_file_prefixes");
        let mut prefixes = prefixes.split([',', ' ', '\t', '\r', '\n']).filter(|it| !it.is_empty());
        if !prefixes.any(|prefix| file.starts_with(prefix)) {
            return Err(MailLogError::Prefix { value: file });
        }
        let public = Path::new(&text("queue_directory")).join("public");
        self.use_postlogd(public.join(text("postlog_service_name")), &text("myhostname"));
        Ok(())
    }

    fn use_postlogd(&mut self, socket: PathBuf, host: &str) {
        self.host = Some(host.split('.').next().unwrap_or_default().to_owned());
        self.channel = Arc::new(Mutex::new(Channel::to(socket)));
    }

    /// Logs a line, with [`harmless`] text, or keeps the line for later.
    pub fn line(&self, severity: Severity, text: &str) {
        let line = |severity, text: &str| self.form(severity, text);
        let text = format!("{}{}", severity.prefix(), harmless(&host::limit::explained(text)));
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.send(line(severity, &text), |lost| {
            line(
                Severity::Warning,
                &format!("warning: mail log: {lost} lines lost; see to syslog or postlogd"),
            )
        });
    }

    /// Sends waiting lines, as far as the log takes them at once.
    pub fn flush(&self) {
        let notice = |lost| {
            self.form(
                Severity::Warning,
                &format!("warning: mail log: {lost} lines lost; see to syslog or postlogd"),
            )
        };
        self.channel.lock().unwrap_or_else(PoisonError::into_inner).flush(notice);
    }

    fn form(&self, severity: Severity, text: &str) -> String {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let time = host::local_time::local_time(i64::try_from(now_s).unwrap_or_default()).of_log();
        let (tag, process) = (&self.tag, std::process::id());
        match &self.host {
            Some(host) => format!("{time} {host} {tag}[{process}]: {text}"),
            None => {
                let priority = self.facility * 8 + severity.number();
                format!("<{priority}>{time} {tag}[{process}]: {text}")
            }
        }
    }
}

fn facility(name: &str) -> Option<u8> {
    FACILITIES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// Returns the text with `?` for control characters and for U+FFFD, so that nobody can forge a
/// line. Cuts the text to [`TEXT_BYTES_MAX`], so that nobody can flood the log.
pub fn harmless(text: &str) -> String {
    let is_bad = |ch: char| ch.is_control() || ch == char::REPLACEMENT_CHARACTER;
    let fits = |&(at, ch): &(usize, char)| at + ch.len_utf8() <= TEXT_BYTES_MAX;
    text.char_indices().take_while(fits).map(|(_, ch)| if is_bad(ch) { '?' } else { ch }).collect()
}

#[cfg(test)]
mod tests;
