//! The list of the quarantine: since when and why each message is there, and its sender, if that
//! can still be read.

use std::process::ExitCode;

use anyhow::{Context, Result};
use comfy_table::{ContentArrangement, Table, presets};
use futures_util::future::try_join_all;
use postfix_wire::{RecordType, Records};
use serde::Serialize;
use serde_json::json;
use spool::{MessageId, Quarantined, Spool, SpoolError, records_of};

use super::show::printable;
use crate::say;

/// Bytes that are read of each message; the sender is one of the first records.
const BEGINNING_BYTES: usize = 8_192;
/// Messages that are read at once.
const AT_ONCE: usize = 16;

#[derive(Debug, Serialize)]
struct QuarantineEntry {
    #[serde(flatten)]
    quarantine: Quarantined,
    /// Sender; none when it can't be read.
    sender: Option<String>,
}

pub(super) async fn print(spool: &Spool, as_json: bool) -> Result<ExitCode> {
    let mut entries = Vec::new();
    let state = spool.library().await?;
    let all = spool
        .all_quarantined()
        .await
        .with_context(|| format!("quarantine: not listed (functions in Redis: {state})"))?;
    for some in all.chunks(AT_ONCE) {
        entries.extend(try_join_all(some.iter().map(|it| entry(spool, it))).await?);
    }
    if as_json {
        say(json!({ "quarantine": entries }));
    } else if entries.is_empty() {
        say("the quarantine is empty");
    } else {
        say(table(&entries));
    }
    Ok(ExitCode::SUCCESS)
}

async fn entry(spool: &Spool, quarantine: &Quarantined) -> Result<QuarantineEntry, SpoolError> {
    let beginning = spool.beginning(quarantine.id, BEGINNING_BYTES).await?;
    Ok(QuarantineEntry { quarantine: quarantine.clone(), sender: sender(&beginning) })
}

fn sender(beginning: &[u8]) -> Option<String> {
    let envelope = Records::new(records_of(beginning).1).map_while(Result::ok);
    let mut envelope = envelope.take_while(|record| record.kind != RecordType::Mesg);
    envelope.find(|record| record.kind == RecordType::From).map(|record| printable(record.data))
}

fn table(entries: &[QuarantineEntry]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["id", "since (UTC)", "bytes", "sender", "reason"]);
    for QuarantineEntry { quarantine, sender } in entries {
        let &Quarantined { id, since_ms, ref reason, bytes } = quarantine;
        let sender =
            sender.as_ref().map_or_else(|| "unreadable".to_owned(), |it| format!("<{it}>"));
        let words = [utc(since_ms), bytes.to_string(), sender, printable(reason.as_bytes())];
        table.add_row(std::iter::once(MessageId::to_string(&id)).chain(words));
    }
    table
}

/// Returns a time in UTC, as `2026-11-21 12:00:00`.
fn utc(unix_ms: u64) -> String {
    let (days, seconds) = (unix_ms / 86_400_000, unix_ms / 1_000 % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Returns year, month and day of a number of days since 1970. Years are counted from March, so
/// that the odd day is the year's last one; 146,097 days are 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year_of_era + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use postfix_wire::record::put;

    #[test]
    fn each_day_has_its_date() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_827_696_999), "2000-02-29 12:34:56");
        assert_eq!(utc(1_798_761_599_000), "2026-12-31 23:59:59");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00");
    }

    #[test]
    fn a_sender_is_read_where_there_is_one() {
        let mut value = b"1 01234567 0 0 host\n".to_vec();
        put(&mut value, RecordType::Time, b"1");
        assert_eq!(sender(&value), None);
        put(&mut value, RecordType::From, b"a\x1b@example.org");
        assert_eq!(sender(&value).as_deref(), Some("a?@example.org"));
        // The rest is cut off, as in a message's beginning.
        put(&mut value, RecordType::Mesg, b"");
        value.extend([b'N', 200]);
        assert_eq!(sender(&value).as_deref(), Some("a?@example.org"));
        assert_eq!(sender(b"rubbish"), None);
    }
}
