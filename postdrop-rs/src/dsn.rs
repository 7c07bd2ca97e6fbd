//! Delivery status notifications: the wishes of `-N`, `-R` and `-V`.
//!
//! `sendmail` ignores a wrong value with a warning and sends the message all the same. In records,
//! the wishes are Postfix's bit masks in decimal.
//!
//! Source: RFC 3461; Postfix `sendmail(1)`, `dsn_mask.h`, `name_mask(3)`.

/// Longest envelope id in bytes, by RFC 3461 section 4.4.
const ENVELOPE_ID_MAX: usize = 100;
/// Mask of `NEVER`, which excludes all others.
const NEVER: u32 = 1;

/// Parses the value of `-N`: the events about which the sender wants notifications. Returns `None`
/// for a wrong value. Calls `warn` for an unknown word and `inform` for each known one.
pub fn notify(
    value: &[u8],
    warn: &mut dyn FnMut(String),
    inform: &mut dyn FnMut(String),
) -> Option<u32> {
    let mut mask = 0;
    let words = value.split(|byte| matches!(byte, b',' | b' ' | b'\t' | b'\r' | b'\n'));
    for word in words.filter(|word| !word.is_empty()) {
        mask |= match word.to_ascii_lowercase().as_slice() {
            b"never" => NEVER,
            b"success" => 1 << 1,
            b"failure" => 1 << 2,
            b"delay" => 1 << 3,
            _ => {
                let (word, value) = (String::from_utf8_lossy(word), String::from_utf8_lossy(value));
                warn(format!("unknown DSN NOTIFY command value \"{word}\" in \"{value}\""));
                return None;
            }
        };
        inform(format!("name_mask: {}", String::from_utf8_lossy(word)));
    }
    (mask != 0 && (mask == NEVER || mask & NEVER == 0)).then_some(mask)
}

/// Parses the value of `-R`: the part of the message that returns with a notification.
pub fn ret(value: &[u8]) -> Option<u32> {
    match value.to_ascii_lowercase().as_slice() {
        b"full" => Some(1),
        b"hdrs" => Some(1 << 1),
        _ => None,
    }
}

/// Returns the envelope id that the notification will name, or the reason why it is not valid.
pub fn envelope_id(value: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    if value.len() > ENVELOPE_ID_MAX {
        Err("too long -V option value")
    } else if value.is_empty() || !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        Err("bad syntax in -V option value")
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_excludes_the_other_events() {
        let mask = |value: &str| notify(value.as_bytes(), &mut drop, &mut drop);
        assert_eq!(mask("NEVER"), Some(1));
        assert_eq!(mask("success, failure,DELAY"), Some(14));
        assert_eq!(
            (mask("never,delay"), mask("x"), mask(""), mask(" ,")),
            (None, None, None, None)
        );
    }

    #[test]
    fn an_envelope_id_is_printable_and_not_too_long() {
        assert!(envelope_id(b"a b~".to_vec()).is_ok());
        assert!(envelope_id(vec![b'x'; 100]).is_ok());
        for bad in [Vec::new(), vec![b'x'; 101], b"a\x7f".to_vec(), b"\xe9".to_vec()] {
            assert!(envelope_id(bad).is_err());
        }
        assert_eq!((ret(b"Full"), ret(b"hdrs"), ret(b"x")), (Some(1), Some(2), None));
    }
}
