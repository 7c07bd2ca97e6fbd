//! Printer of a listing as text, as of `mailq` and `postqueue -p`.

use super::{Entry, Recipient};

/// Column where a reason ends.
const REASON_END: usize = 76;

/// Printer of entries, with totals for the last line.
#[derive(Debug, Clone)]
pub struct TextListing {
    has_long_ids: bool,
    messages: u64,
    bytes: u64,
}

impl TextListing {
    /// Returns a printer with the columns for `enable_long_queue_ids`.
    pub fn new(has_long_ids: bool) -> Self {
        Self { has_long_ids, messages: 0, bytes: 0 }
    }

    /// Returns one message's lines. `local_time` formats seconds since the Unix epoch as
    /// `Sat Nov 21 09:20:13`.
    pub fn entry(&mut self, entry: &Entry, local_time: impl Fn(i64) -> String) -> String {
        let mut lines = match (self.messages, self.has_long_ids) {
            (0, true) => {
                self.columns("----Queue ID-----", "--Size--", "---Arrival Time----")
                    + "--Sender/Recipient------\n"
            }
            (0, false) => {
                self.columns("-Queue ID-", "--Size--", "----Arrival Time----")
                    + "-Sender/Recipient-------\n"
            }
            _ => "\n".to_owned(),
        };
        self.messages += 1;
        self.bytes += entry.bytes;
        let (id, size) = (entry.id.clone() + marks(entry), entry.bytes.to_string());
        lines += &self.columns(&id, &size, &local_time(entry.arrival_s));
        lines += &entry.sender;
        lines.push('\n');
        self.recipients(&mut lines, &entry.recipients);
        lines
    }

    /// Appends recipients. A reason is printed once, before the recipients in a row that share it.
    fn recipients(&self, lines: &mut String, recipients: &[Recipient]) {
        let mut said = "";
        for Recipient { address, reason } in recipients {
            if reason != said {
                said = reason;
                let shown = if reason.is_empty() { "reason unavailable" } else { reason };
                *lines += &" ".repeat(REASON_END.saturating_sub(shown.len()));
                *lines += &format!("({shown})\n");
            }
            *lines += &self.columns("", "", "");
            *lines += address;
            lines.push('\n');
        }
    }

    fn columns(&self, id: &str, size: &str, time: &str) -> String {
        if self.has_long_ids {
            format!("{id:<17} {size:>8} {time:<19} ")
        } else {
            format!("{id:<11} {size:>7} {time:<20} ")
        }
    }

    /// Returns the last line: the totals, or the text for an empty queue.
    pub fn summary(&self) -> String {
        match self.messages {
            0 => "Mail queue is empty\n".to_owned(),
            1 => format!("\n-- {} Kbytes in 1 Request.\n", self.bytes / 1024),
            more => format!("\n-- {} Kbytes in {more} Requests.\n", self.bytes / 1024),
        }
    }
}

fn marks(entry: &Entry) -> &'static str {
    match (entry.queue.as_str(), entry.is_expired) {
        ("active", false) => "*",
        ("active", true) => "*#",
        ("hold", false) => "!",
        ("hold", true) => "!#",
        (_, false) => "",
        (_, true) => "#",
    }
}
