//! An event as text.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Returns an event as one line: the message, the fields, and fields of the event's spans that the
/// event lacks.
pub(super) fn of<S>(event: &Event<'_>, context: &Context<'_, S>) -> String
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let mut text = Text::default();
    event.record(&mut text);
    let Text { message, mut fields } = text;
    // Writing to a String can't fail.
    let _ = spans::write_fields(&mut fields, event, &message, context.event_scope(event));
    let fields = fields.trim_start();
    let separator = if message.is_empty() || fields.is_empty() { "" } else { " " };
    format!("{message}{separator}{fields}")
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String can't fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::{Layer, SubscriberExt};

    struct Capture(mpsc::Sender<String>);

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
        fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
            self.0.send(of(event, &context)).unwrap();
        }
    }

    fn captured(emit: impl FnOnce()) -> String {
        let (sender, receiver) = mpsc::channel();
        let subscriber = tracing_subscriber::registry().with(spans::KeepFields);
        with_default(subscriber.with(Capture(sender)), emit);
        receiver.recv().unwrap()
    }

    #[test]
    fn a_message_without_fields_stands_alone() {
        let (id, uid) = ("4C1B21A0", 1000);
        assert_eq!(
            captured(|| tracing::info!("{id}: uid={uid} from=<a@b>")),
            "4C1B21A0: uid=1000 from=<a@b>"
        );
    }

    #[test]
    fn fields_follow_the_message() {
        assert_eq!(
            captured(|| tracing::warn!(lot = 7, why = "fenced", "discarded")),
            "discarded lot=7 why=fenced"
        );
        assert_eq!(captured(|| tracing::warn!(lot = 7)), "lot=7");
    }

    #[test]
    fn the_fields_of_spans_follow_except_for_the_queue_id_that_begins_the_line() {
        let in_span = |emit: fn()| {
            let queue_id = "4C1B21A0";
            captured(|| tracing::error_span!("message", id = 5, queue_id).in_scope(emit))
        };
        assert_eq!(in_span(|| tracing::info!("4C1B21A0: uid=0")), "4C1B21A0: uid=0 id=5");
        assert_eq!(in_span(|| tracing::warn!(lot = 7)), "lot=7 id=5 queue_id=4C1B21A0");
        let other = "4C1B21A01: of another file id=5 queue_id=4C1B21A0";
        assert_eq!(in_span(|| tracing::info!("4C1B21A01: of another file")), other);
    }
}
