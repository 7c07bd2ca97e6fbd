//! The part of Redis's protocol (RESP2) that this client hears: a line of text, a number, or an error.

use std::io;

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// `+text`
    Text(String),
    /// `:number`
    Number(u64),
    /// `-text`
    Error(String),
}

/// No answer we ask for is longer; what is longer isn't Redis.
const REPLY_MAX_BYTES: usize = 16 * 1024;

/// The answer at the start of `buffer` and how long it is, or `None` when more bytes are needed.
pub(super) fn parse(buffer: &[u8]) -> io::Result<Option<(Reply, usize)>> {
    let Some(end) = buffer.windows(2).position(|two| two == b"\r\n") else {
        return if buffer.len() > REPLY_MAX_BYTES { Err(strange(buffer)) } else { Ok(None) };
    };
    let reply = match buffer[..end].split_first() {
        Some((b'+', text)) => Some(Reply::Text(lossy(text))),
        Some((b'-', text)) => Some(Reply::Error(lossy(text))),
        Some((b':', text)) => lossy(text).parse().ok().map(Reply::Number),
        _ => None,
    };
    reply.map(|reply| Some((reply, end + 2))).ok_or_else(|| strange(buffer))
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

    #[test]
    fn the_answers_of_redis() {
        let parsed = |bytes| parse(bytes).unwrap().unwrap();
        assert_eq!(parsed(b"+OK\r\n"), (Reply::Text("OK".to_owned()), 5));
        assert_eq!(parsed(b":17\r\n"), (Reply::Number(17), 5));
        assert_eq!(parsed(b"-OOM no\r\n"), (Reply::Error("OOM no".to_owned()), 9));
    }

    #[test]
    fn an_answer_is_read_however_it_arrives_and_the_next_one_left() {
        let whole = b":815\r\n:0\r\n";
        for cut in 0..6 {
            assert_eq!(parse(&whole[..cut]).unwrap(), None, "{cut}");
        }
        for cut in 6..=whole.len() {
            assert_eq!(parse(&whole[..cut]).unwrap(), Some((Reply::Number(815), 6)));
        }
    }

    #[test]
    fn what_is_not_redis_is_an_error_and_not_awaited() {
        for bytes in [b"220 mx ESMTP\r\n".as_slice(), b"$-1\r\n", b":x\r\n", b"*1\r\n", b"\r\n"] {
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
