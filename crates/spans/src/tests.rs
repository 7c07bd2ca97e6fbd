//! Lines as an agent writes them, without time and target.

use std::io;
use std::sync::mpsc;

use tracing::subscriber::with_default;
use tracing::{Subscriber, error_span, info, warn};
use tracing_subscriber::layer::SubscriberExt;

use super::{KeepFields, LineFormat};

struct Lines(mpsc::Sender<Vec<u8>>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(line.to_owned()).unwrap();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn subscriber(lines: mpsc::Sender<Vec<u8>>, filter: &str) -> impl Subscriber + Send + Sync {
    let log = tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter);
    let log = log.event_format(LineFormat).with_writer(move || Lines(lines.clone()));
    log.finish().with(KeepFields)
}

fn logged_by(filter: &str, work: impl FnOnce()) -> Vec<String> {
    let (sender, lines) = mpsc::channel();
    with_default(subscriber(sender, filter), work);
    let text = |line: Vec<u8>| {
        let line = String::from_utf8(line).unwrap();
        line.trim_end().split_once("spans::tests: ").unwrap().1.to_owned()
    };
    lines.into_iter().map(text).collect()
}

fn logged(work: impl FnOnce()) -> Vec<String> {
    logged_by("trace", work)
}

#[test]
fn a_line_has_the_fields_of_its_spans_that_it_lacks() {
    let lines = logged(|| {
        let _entered = error_span!("message", id = 5, lot = 7).entered();
        info!(lot = 8, reason = "full", "refused");
        info!("unaware");
    });
    assert_eq!(lines, [r#"refused lot=8 reason="full" id=5"#, "unaware id=5 lot=7"]);
    assert_eq!(logged(|| info!(lot = 8, "outside")), ["outside lot=8"]);
}

#[test]
fn a_field_that_is_learned_later_is_on_the_lines_after_it() {
    let lines = logged(|| {
        let span = error_span!("message", id = 5, queue_id = tracing::field::Empty);
        span.in_scope(|| info!("before"));
        span.record("queue_id", "4C1B21A0");
        span.in_scope(|| info!("after"));
        span.record("queue_id", "5C1B21A0");
        span.in_scope(|| info!("again"));
    });
    let named = ["after id=5 queue_id=4C1B21A0", "again id=5 queue_id=5C1B21A0"];
    assert_eq!(lines, ["before id=5", named[0], named[1]]);
}

#[test]
fn an_inner_span_s_field_hides_an_outer_one_s() {
    let lines = logged(|| {
        let _outer = error_span!("outer", id = 5, node = "n").entered();
        let _inner = error_span!("inner", id = 6).entered();
        info!("line");
    });
    assert_eq!(lines, ["line id=6 node=n"]);
}

#[test]
fn a_filter_that_leaves_out_lines_keeps_the_spans_of_the_others() {
    let lines = logged_by("error", || {
        let _entered = error_span!("message", id = 5).entered();
        warn!("left out");
        tracing::error!("kept");
    });
    assert_eq!(lines, ["kept id=5"]);
}
