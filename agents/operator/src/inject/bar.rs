//! Progress of an injection: a bar on a terminal, elsewhere a line every ten seconds.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const BETWEEN_LINES: Duration = Duration::from_secs(10);
const STYLE: &str = "{bar:30} {pos}/{len} bytes, {msg}, {eta} left";

pub(super) struct Bar {
    bar: Option<ProgressBar>,
    told: Instant,
    started: Instant,
    before: u64,
}

impl Bar {
    /// Makes a bar for an injection of this many bytes. Earlier runs submitted `before` messages.
    pub(super) fn new(bytes: u64, before: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(STYLE)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(bytes).with_style(style)
        });
        Self { bar, told: Instant::now(), started: Instant::now(), before }
    }

    pub(super) fn at(&mut self, bytes: u64, messages: u64) {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let rate = (messages - self.before) as f64 / seconds;
        let text = format!("{messages} messages, {rate:.0}/s");
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
            bar.set_message(text);
        } else if self.told.elapsed() >= BETWEEN_LINES {
            self.told = Instant::now();
            eprintln!("{text}");
        }
    }

    /// Prints a line above the bar.
    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}
