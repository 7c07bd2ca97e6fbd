//! The part of Redis's protocol (RESP2) that this client hears: a line of text, a short string, or an error.

use std::io;

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// `+text` or `$n` and n bytes.
    Text(String),
    /// `-text`
    Error(String),
}

/// No answer we ask for is longer; what is longer isn't Redis.
const REPLY_MAX_BYTES: usize = 16 * 1024;

/// The answer at the start of `buffer`, or `None` when more bytes are needed.
pub(super) fn parse(buffer: &[u8]) -> io::Result<Option<Reply>> {
    if buffer.len() > REPLY_MAX_BYTES {
        return Err(strange(buffer));
    }
    let Some(end) = buffer.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let (line, rest) = (&buffer[..end], &buffer[end + 2..]);
    match line.split_first() {
        Some((b'+' | b':', text)) => Ok(Some(Reply::Text(lossy(text)))),
        Some((b'-', text)) => Ok(Some(Reply::Error(lossy(text)))),
        Some((b'$', length)) => parse_bulk(length, rest).ok_or_else(|| strange(buffer)),
        _ => Err(strange(buffer)),
    }
}

/// `None` where it can't be a string; `Some(None)` where it isn't whole yet.
#[allow(clippy::option_option)]
fn parse_bulk(length: &[u8], rest: &[u8]) -> Option<Option<Reply>> {
    let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
    if length > REPLY_MAX_BYTES {
        return None;
    }
    Some(rest.get(..length + 2).map(|text| Reply::Text(lossy(&text[..length]))))
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn strange(buffer: &[u8]) -> io::Error {
    let start = lossy(&buffer[..buffer.len().min(40)]);
    io::Error::new(io::ErrorKind::InvalidData, format!("this is not Redis, it says {start:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Option<Reply> {
        Some(Reply::Text(text.to_owned()))
    }

    #[test]
    fn the_answers_of_redis() {
        assert_eq!(parse(b"+OK\r\n").unwrap(), text("OK"));
        assert_eq!(parse(b"$3\r\nnew\r\n").unwrap(), text("new"));
        assert_eq!(parse(b"$0\r\n\r\n").unwrap(), text(""));
        assert_eq!(parse(b"-OOM no\r\n").unwrap(), Some(Reply::Error("OOM no".to_owned())));
    }

    #[test]
    fn an_answer_is_read_however_it_arrives() {
        let whole = b"$7\r\nalready\r\n";
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]).unwrap(), None, "{cut}");
        }
        assert_eq!(parse(whole).unwrap(), text("already"));
    }

    #[test]
    fn what_is_not_redis_is_an_error_and_not_awaited() {
        for bytes in [b"220 mx ESMTP\r\n".as_slice(), b"$-1\r\n", b"$99999999999\r\n", b"*1\r\n", b"\r\n"] {
            assert!(parse(bytes).is_err(), "{}", lossy(bytes));
        }
        assert!(parse(&[b'+'; REPLY_MAX_BYTES + 1]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fall_over(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
