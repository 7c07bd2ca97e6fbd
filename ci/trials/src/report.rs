//! Output of a trial: a table for people, or one JSON object for programs.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Format of the result on standard output. Progress goes to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// A table.
    Table,
    /// One JSON object.
    Json,
}

impl Output {
    /// Returns JSON if `json` is set, otherwise a table.
    pub fn new(json: bool) -> Self {
        if json { Self::Json } else { Self::Table }
    }

    /// Prints `value`, or the table that `draw` makes of it.
    pub fn print<T: Serialize>(
        self,
        value: &T,
        draw: impl FnOnce(&T) -> Table,
    ) -> anyhow::Result<()> {
        match self {
            Self::Table => println!("{}", draw(value)),
            Self::Json => println!("{}", serde_json::to_string(value)?),
        }
        Ok(())
    }
}

/// Converts a trial's end to an exit code: success if the trial could be run and its result is
/// clean.
pub fn end(program: &str, is_clean: anyhow::Result<bool>) -> ExitCode {
    match is_clean {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes a table with these column heads; all columns but the first have numbers.
pub fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(heads);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Returns seconds, rounded to a hundredth.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}

/// Progress towards a number of messages: a bar on a terminal, else a line for each tenth.
pub struct Progress {
    bar: ProgressBar,
    lines: bool,
    tenths: u64,
}

impl Progress {
    /// Returns a bar that shows nothing yet.
    pub fn new(what: &str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:40} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        Self { bar, lines: !std::io::stderr().is_terminal(), tenths: 0 }
    }

    /// Shows the progress so far.
    pub fn set(&mut self, position: u64, message: &str) {
        self.bar.set_position(position);
        self.bar.set_message(message.to_owned());
        let total = self.bar.length().unwrap_or(0).max(1);
        let tenths = position * 10 / total;
        if self.lines && tenths > self.tenths {
            self.tenths = tenths;
            eprintln!("{}: {position} of {total} {message}", self.bar.prefix());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
