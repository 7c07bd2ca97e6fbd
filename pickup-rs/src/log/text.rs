//! An event as text.

use std::fmt::{self, Write};

use tracing::Event;
use tracing::field::{Field, Visit};

/// Returns the event's message and fields as one line.
pub(super) fn of(event: &Event<'_>) -> String {
    let mut text = Text::default();
    event.record(&mut text);
    let separator = if text.message.is_empty() || text.fields.is_empty() { "" } else { " " };
    format!("{}{separator}{}", text.message, text.fields)
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
            name if self.fields.is_empty() => write!(self.fields, "{name}={value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    struct Capture(mpsc::Sender<String>);

    impl<S: tracing::Subscriber> Layer<S> for Capture {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.send(of(event)).unwrap();
        }
    }

    fn captured(emit: impl FnOnce()) -> String {
        let (sender, receiver) = mpsc::channel();
        with_default(tracing_subscriber::registry().with(Capture(sender)), emit);
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
}
