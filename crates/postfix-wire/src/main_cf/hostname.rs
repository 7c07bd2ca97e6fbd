//! Check of host names: those in `myhostname` and `mydomain`, and the machine's own.
//!
//! Source: `valid_hostname(3)`.

/// Most bytes of a name (RFC 1035).
const NAME_BYTES_MAX: usize = 255;
/// Most bytes of a part of a name between dots (RFC 1035).
const LABEL_BYTES_MAX: usize = 63;

/// Returns the reason why Postfix refuses a name, or `None` if it accepts the name.
pub(super) fn complaint(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("must not be empty");
    }
    let is_digit = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    name.split('.').find_map(complaint_of_label).or_else(|| match name {
        _ if name.bytes().all(is_digit) => Some("must not be a number or an address"),
        _ if name.len() > NAME_BYTES_MAX => Some("is longer than 255 bytes"),
        _ => None,
    })
}

fn complaint_of_label(label: &str) -> Option<&'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    match label {
        "" => Some("has a dot at its start, at its end, or beside another"),
        _ if !label.bytes().all(is_allowed) => {
            Some("has other characters than letters, digits, '_', '-' and '.'")
        }
        _ if label.starts_with('-') || label.ends_with('-') => {
            Some("has a hyphen beside a dot or at an end")
        }
        _ if label.len() > LABEL_BYTES_MAX => Some("has more than 63 bytes between two dots"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_has_letters_in_labels() {
        let longest = format!("{0}.{0}.{0}.{1}", "x".repeat(63), "y".repeat(63));
        for name in ["a", "a.b", "a_b", "_a", "1a", "1-2", "a.1", "A-B.example", &longest] {
            assert_eq!(complaint(name), None, "{name}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        let (label, name) = ("x".repeat(64), "x.".repeat(128) + "x");
        for name in [
            "",
            ".",
            "a b",
            "a..b",
            ".a",
            "a.",
            "-a",
            "a-",
            "a-.b",
            "a.-b",
            "(none)",
            "$foo",
            "[::1]",
            "::1",
            "1.2.3.4",
            "[1.2.3.4]",
            "17",
            "1.2",
            "caf\u{e9}",
            "a/b",
            "a\tb",
            &label,
            &name,
        ] {
            assert!(complaint(name).is_some(), "{name:?}");
        }
    }
}
