//! A line of an agent's log: time, level, target, the event, and the fields of its spans.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Form of an agent's lines. The subscriber must have the layer [`KeepFields`](super::KeepFields).
#[derive(Debug, Clone, Copy, Default)]
pub struct LineFormat;

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        SystemTime.format_time(&mut to)?;
        let metadata = event.metadata();
        write!(to, " {:>5} {}: ", metadata.level(), metadata.target())?;
        context.field_format().format_fields(to.by_ref(), event)?;
        super::write_fields(&mut to, event, "", context.event_scope())?;
        writeln!(to)
    }
}
