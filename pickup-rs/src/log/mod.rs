//! Log lines where Postfix's go: to syslog, or to postlogd when `maillog_file` is set.
//!
//! ```text
//! Nov 21 09:04:00 mail postfix/pickup[4711]: 4C1B21A0: uid=1000 from=<alice@example.org>
//! ```
//!
//! The text of an event is its message, then its fields as `name=value`; warnings and errors say so in front, as with
//! Postfix. Lines that log analysers know are messages without fields. Control characters become `?`, so that nothing a
//! user submits can forge a line.
//!
//! Source: `maillog_client(3)`, `msg_logger(3)`, `msg_syslog(3)`.

mod datagram;
mod syslog;
mod text;

use std::path::Path;

use postfix_wire::MainCf;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use datagram::Postlog;
use syslog::Syslog;

/// Events with this target end the process; their lines say `fatal`.
pub const FATAL: &str = "fatal";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Info,
    Warning,
    Error,
    Fatal,
}

impl Severity {
    fn of(level: Level, target: &str) -> Self {
        match level {
            Level::ERROR if target == FATAL => Self::Fatal,
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warning,
            _ => Self::Info,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Info => "",
            Self::Warning => "warning: ",
            Self::Error => "error: ",
            Self::Fatal => "fatal: ",
        }
    }
}

#[derive(Debug)]
enum Destination {
    Syslog(Syslog),
    Postlog(Postlog),
}

impl Destination {
    fn of(main_cf: &MainCf, program: &str) -> Self {
        let text = |name| main_cf.get(name).unwrap_or_default();
        let tag = format!("{}/{program}", text("syslog_name"));
        if text("maillog_file").is_empty() {
            return Self::Syslog(Syslog::open(&tag, &text("syslog_facility")));
        }
        let socket = Path::new(&text("queue_directory")).join("public").join(text("postlog_service_name"));
        Self::Postlog(Postlog::new(&tag, &text("myhostname"), &socket))
    }

    fn line(&self, severity: Severity, text: &str) {
        let line = format!("{}{text}", severity.prefix());
        match self {
            Self::Syslog(syslog) => syslog.line(severity, &line),
            Self::Postlog(postlog) => postlog.line(&line),
        }
    }
}

impl<S: Subscriber> Layer<S> for Destination {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        self.line(Severity::of(*metadata.level(), metadata.target()), &text::of(event));
    }
}

/// Sends this process's events where `main_cf` says, under the name `<syslog_name>/<program>`. The first call counts.
pub fn init(main_cf: &MainCf, program: &str, verbose: bool) {
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let subscriber = tracing_subscriber::registry().with(level).with(Destination::of(main_cf, program));
    let _ = tracing::subscriber::set_global_default(subscriber);
}
