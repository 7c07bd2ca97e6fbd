//! Events as lines in Postfix's mail log: see [`postfix_wire::maillog`].
//!
//! ```text
//! Nov 21 09:04:00 mail postfix/pickup[4711]: 4C1B21A0: uid=1000 from=<alice@example.org>
//! ```
//!
//! The text of an event is its message, then its fields and those of its spans ([`spans`]) as
//! `name=value`. Warnings and errors begin with their severity, as Postfix's do. Lines that log
//! analysers know are messages without fields of their own.

mod text;

use std::time::Duration;

use anyhow::Result;
use postfix_wire::MainCf;
use postfix_wire::maillog::{MailLog, Severity};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Target of an event that ends the process; its line says `fatal`.
pub const FATAL: &str = "fatal";

/// Pause between two attempts to send lines that the log had no room for.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

fn severity(level: Level, target: &str) -> Severity {
    match level {
        Level::ERROR if target == FATAL => Severity::Fatal,
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warning,
        _ => Severity::Info,
    }
}

struct Lines(MailLog);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        self.0.line(severity(*metadata.level(), metadata.target()), &text::of(event, &context));
    }
}

/// Sends this process's events to the log that `main_cf` names, as `<syslog_name>/<program>`. Only
/// the first call has an effect. Fails if stock Postfix refuses the log settings; then events go to
/// syslog.
pub fn init(main_cf: &MainCf, program: &'static str, verbose: bool) -> Result<MailLog> {
    let mut log = MailLog::new(program);
    let configured = log.configure(main_cf);
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let subscriber = tracing_subscriber::registry().with(level).with(spans::KeepFields);
    let subscriber = subscriber.with(Lines(log.clone()));
    let _ = tracing::subscriber::set_global_default(subscriber);
    configured?;
    Ok(log)
}

/// Sends waiting lines again and again; never returns.
pub async fn keep_flushing(log: &MailLog) {
    let mut interval = tokio::time::interval(FLUSH_INTERVAL);
    loop {
        interval.tick().await;
        log.flush();
    }
}
