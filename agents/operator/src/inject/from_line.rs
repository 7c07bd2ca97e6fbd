//! The line before each message of an mbox: `From ann@example.org Sat Nov 21 09:20:13 2026`.
//!
//! RFC 4155 has an address and the date as asctime(3) writes it. Mail programs have varied both for
//! forty years. So an address is any word, or one in quotes. Seconds may be missing, and a time
//! zone may stand before or after the year. Whatever follows is ignored. A line of prose has no
//! weekday, month, day and time behind its second word.

/// Beginning of a separator, and of some lines of prose.
const START: &[u8] = b"From ";
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Most words that are looked at; no date has more.
const DATE_WORDS: usize = 7;

/// Whether the line begins as a separator does.
pub(super) fn begins_with_from(line: &[u8]) -> bool {
    line.starts_with(START)
}

/// Whether the line has an address and a date.
pub(super) fn is_separator(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(START) else { return false };
    let date = &rest[address_bytes(rest)..];
    let words = date.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let words: Vec<&str> =
        words.take(DATE_WORDS).map_while(|word| std::str::from_utf8(word).ok()).collect();
    let is_in =
        |names: &[&str], word: &str| names.iter().any(|name| name.eq_ignore_ascii_case(word));
    match words[..] {
        [weekday, month, day, time, ref years @ ..] => {
            is_in(&WEEKDAYS, weekday)
                && is_in(&MONTHS, month)
                && is_number(day, 1..=31)
                && is_time(time)
                && years.iter().take(3).any(|year| year.len() == 4 && is_number(year, 1970..=9999))
        }
        _ => false,
    }
}

/// Returns the length of the address: up to the first blank that is not in quotes.
fn address_bytes(text: &[u8]) -> usize {
    let mut is_quoted = false;
    let ends = |&byte: &u8| {
        is_quoted ^= byte == b'"';
        !is_quoted && byte.is_ascii_whitespace()
    };
    match text.iter().position(ends) {
        // There is no address, or quotes don't end.
        Some(0) | None => text.len(),
        Some(end) => end,
    }
}

/// Whether a word is a time, as `09:20:13` or `09:20`.
fn is_time(word: &str) -> bool {
    let parts: Vec<&str> = word.split(':').collect();
    let is_minute = |part: &&str| part.len() == 2 && is_number(part, 0..=60);
    matches!(parts.len(), 2 | 3) && is_number(parts[0], 0..=23) && parts[1..].iter().all(is_minute)
}

fn is_number(word: &str, range: std::ops::RangeInclusive<u32>) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
        && word.parse().is_ok_and(|number| range.contains(&number))
}

/// Whether a line may stand first in a message: a header, or the empty line behind no headers.
pub(super) fn may_begin_message(line: &[u8]) -> bool {
    let name = line.iter().take_while(|byte| byte.is_ascii_graphic() && **byte != b':').count();
    let after = line[name..].trim_ascii_start();
    line.trim_ascii_end().is_empty()
        || name > 0 && after.starts_with(b":")
        || line.starts_with(b">From ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_has_an_address_and_a_date() {
        for line in [
            "From ann@example.org Sat Nov 21 09:20:13 2026\n",
            "From ann  Sat Nov  1 09:20:13 2026\r\n",
            "From - Sat Nov 01 09:20:13 2026",
            "From MAILER-DAEMON Sat Nov 21 09:20 2026",
            "From \"a b\"@example.org Sat Nov 21 09:20:13 2026",
            "From ann@example.org Sat Nov 21 09:20:13 2026 -0700",
            "From ann@example.org Sat Nov 21 09:20:13 MET DST 2026",
            "From ann!bob Sat Nov 21 09:20:13 2026 remote from host",
        ] {
            assert!(is_separator(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn prose_is_no_separator() {
        for line in [
            "From here on\n",
            "From \n",
            "From Sat Nov 21 09:20:13 2026",
            "From ann@example.org\n",
            "From ann@example.org Sat Nov 21\n",
            "From ann@example.org Sat Nov 21 2026\n",
            "From ann@example.org Sat Nov 41 09:20:13 2026",
            "From ann@example.org Sat Nov 21 29:20:13 2026",
            "From ann@example.org Sat Nov 21 09:20:13",
            "From ann@example.org 2026-11-21 09:20:13",
            "From \"ann Sat Nov 21 09:20:13 2026",
            "from ann@example.org Sat Nov 21 09:20:13 2026",
            ">From ann@example.org Sat Nov 21 09:20:13 2026",
            "From one meeting to the next, Sat Nov 21 09:20:13 2026",
        ] {
            assert!(!is_separator(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn a_message_begins_with_a_header_or_an_empty_line() {
        for (line, expected) in [
            ("Subject: x\n", true),
            ("subject :x", true),
            ("\r\n", true),
            ("", true),
            (">From x y\n", true),
            ("and so on\n", false),
            ("at ten: come\n", false),
            (": x\n", false),
            (" x: y\n", false),
        ] {
            assert_eq!(may_begin_message(line.as_bytes()), expected, "{line:?}");
        }
    }
}
