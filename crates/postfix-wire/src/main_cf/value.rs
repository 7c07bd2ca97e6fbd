//! Reading of parameters' values as numbers, times, and yes or no.

use super::defaults::ValueKind;

/// Reads `yes` or `no`, in any case.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("yes") {
        Some(true)
    } else if text.eq_ignore_ascii_case("no") {
        Some(false)
    } else {
        None
    }
}

/// Reads a decimal number. As with C's `strtol`, blanks and a sign may precede the digits.
pub(super) fn parse_int(text: &str) -> Option<i64> {
    text.trim_start_matches(crate::lines::is_space).parse().ok()
}

/// Reads a time: a number and a unit, `s`, `m`, `h`, `d` or `w`. Returns seconds. Text after the
/// unit is ignored, as in Postfix.
pub(super) fn parse_time_s(text: &str, default_unit: char) -> Option<u64> {
    let text = text.trim_start_matches(crate::lines::is_space);
    let sign = usize::from(text.starts_with(['+', '-']));
    let end = text[sign..].find(|ch: char| !ch.is_ascii_digit()).map_or(text.len(), |at| at + sign);
    let number: i32 = text[..end].parse().ok()?;
    let seconds = match text[end..].chars().next().unwrap_or(default_unit) {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        'w' => 7 * 24 * 60 * 60,
        _ => return None,
    };
    let number = u64::try_from(number).ok()?;
    // The product must fit C's int, as in Postfix.
    (seconds == 1 || number < i32::MAX as u64 / seconds).then_some(number * seconds)
}

/// Returns the unit of a parameter's default, which a time without a unit gets.
pub(super) fn unit_of(default: &str) -> char {
    default.chars().find(char::is_ascii_alphabetic).unwrap_or('s')
}

/// Returns the reason why Postfix refuses `text` as a value of this kind, or `None` if it accepts
/// the value.
pub(super) fn complaint(kind: ValueKind, default: &str, text: &str) -> Option<String> {
    match kind {
        ValueKind::Text => None,
        ValueKind::NonEmpty => text.is_empty().then(|| "must not be empty".to_owned()),
        ValueKind::Bool => parse_bool(text).is_none().then(|| "must be yes or no".to_owned()),
        ValueKind::Int { min, max } => match parse_int(text) {
            None => Some("is not a number".to_owned()),
            Some(number) if number < min => Some(format!("is less than {min}")),
            Some(number) if number > max => Some(format!("is more than {max}")),
            Some(_) => None,
        },
        ValueKind::Time { min_s, max_s } => match parse_time_s(text, unit_of(default)) {
            None => Some("is not a time: a number and s, m, h, d or w".to_owned()),
            Some(seconds) if seconds < min_s => Some(format!("is less than {min_s}s")),
            Some(seconds) if seconds > max_s => Some(format!("is more than {max_s}s")),
            Some(_) => None,
        },
    }
}
