//! The fields of a log line's spans, on the line.
//!
//! A function that works on one message does so in a span that has the message's id. So each line
//! that is logged meanwhile carries the id, also a line of an inner function that doesn't know it.
//!
//! ```text
//! span:   message{id=01ARZ3NDEKTSV4RRFFQ69G5FAV lot=7}
//! event:  warn!(lot = 7, reason = "disk full", "refused for now")
//! line:   refused for now lot=7 reason="disk full" id=01ARZ3NDEKTSV4RRFFQ69G5FAV
//! ```
//!
//! A line has each field once: the event's own, then those of its spans that the event lacks. An
//! inner span's field hides an outer one's of the same name.
//!
//! A span is made once for a piece of work, never in a loop or in a poll. Its level must be
//! `ERROR`: a filter that leaves out a span leaves out its fields, also on lines of a higher level.

mod format;

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, Scope};

pub use self::format::LineFormat;

/// Layer that keeps the fields of each span, as text, with the span.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepFields;

/// Fields of one span, by name.
#[derive(Debug, Default)]
struct SpanFields(Vec<(&'static str, String)>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for KeepFields {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else {
            return debug_assert!(false, "a new span is in the registry");
        };
        let mut kept = SpanFields::default();
        attributes.record(&mut kept);
        span.extensions_mut().insert(kept);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else {
            return debug_assert!(false, "a span that records is in the registry");
        };
        if let Some(kept) = span.extensions_mut().get_mut::<SpanFields>() {
            values.record(kept);
        }
    }
}

impl Visit for SpanFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.retain(|(name, _)| *name != field.name());
        self.0.push((field.name(), format!("{value:?}")));
    }
}

/// Writes the fields of an event's spans that the event lacks, each as ` name=value`. Leaves out a
/// value with which the `message` begins, as Postfix's lines begin with the queue id.
pub fn write_fields<'a, S: LookupSpan<'a>>(
    to: &mut dyn Write,
    event: &Event<'_>,
    message: &str,
    scope: Option<Scope<'a, S>>,
) -> fmt::Result {
    let mut written: Vec<&'static str> = event.fields().map(|field| field.name()).collect();
    let begins =
        |value: &str| message.strip_prefix(value).is_some_and(|rest| rest.starts_with(": "));
    for span in scope.into_iter().flatten() {
        let extensions = span.extensions();
        for (name, value) in extensions.get::<SpanFields>().iter().flat_map(|kept| &kept.0) {
            if !written.contains(name) && !begins(value) {
                write!(to, " {name}={value}")?;
            }
            written.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
