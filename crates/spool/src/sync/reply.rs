//! The part of Redis's protocol (RESP2) that this client reads: a line of text, a number, an error,
//! or a list of these.

use std::io;

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// `+text`, or `$length` and the text.
    Text(String),
    /// `:number`.
    Number(u64),
    /// `-text`.
    Error(String),
    /// `*count` and the items.
    List(Vec<Reply>),
}

/// Limit of an answer, bytes; no expected answer is longer.
const REPLY_MAX_BYTES: usize = 16 * 1024;
/// Limit of nesting: `HELLO` has lists of modules, each with lists of its own.
const DEPTH_MAX: u32 = 4;

/// Reason for which there is no answer yet.
enum Stop {
    /// More bytes are needed.
    Unfinished,
    /// The bytes are not Redis's protocol.
    Malformed,
}

/// Returns the answer at the start of `buffer` and its length; `None` when more bytes are needed.
pub(super) fn parse(buffer: &[u8]) -> io::Result<Option<(Reply, usize)>> {
    match reply(buffer, DEPTH_MAX) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(Stop::Unfinished) if buffer.len() <= REPLY_MAX_BYTES => Ok(None),
        Err(Stop::Unfinished | Stop::Malformed) => Err(malformed(buffer)),
    }
}

fn reply(buffer: &[u8], depth: u32) -> Result<(Reply, usize), Stop> {
    let end = buffer.windows(2).position(|two| two == b"\r\n").ok_or(Stop::Unfinished)?;
    let (kind, text) = buffer[..end].split_first().ok_or(Stop::Malformed)?;
    let rest = &buffer[end + 2..];
    let (reply, bytes) = match kind {
        b'+' => (Reply::Text(lossy(text)), 0),
        b'-' => (Reply::Error(lossy(text)), 0),
        b':' => (Reply::Number(number(text)?), 0),
        b'$' => bulk(rest, length(text)?)?,
        b'*' if depth > 0 => list(rest, length(text)?, depth - 1)?,
        _ => return Err(Stop::Malformed),
    };
    Ok((reply, end + 2 + bytes))
}

fn bulk(rest: &[u8], length: usize) -> Result<(Reply, usize), Stop> {
    let whole = rest.get(..length + 2).ok_or(Stop::Unfinished)?;
    let text = whole.strip_suffix(b"\r\n").ok_or(Stop::Malformed)?;
    Ok((Reply::Text(lossy(text)), whole.len()))
}

fn list(rest: &[u8], count: usize, depth: u32) -> Result<(Reply, usize), Stop> {
    let (mut items, mut at) = (Vec::new(), 0);
    while items.len() < count {
        let (item, bytes) = reply(&rest[at..], depth)?;
        items.push(item);
        at += bytes;
    }
    Ok((Reply::List(items), at))
}

fn number(text: &[u8]) -> Result<u64, Stop> {
    lossy(text).parse().map_err(|_| Stop::Malformed)
}

fn length(text: &[u8]) -> Result<usize, Stop> {
    let length = number(text)?.try_into().map_err(|_| Stop::Malformed)?;
    if length > REPLY_MAX_BYTES { Err(Stop::Malformed) } else { Ok(length) }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn malformed(buffer: &[u8]) -> io::Error {
    let start = lossy(&buffer[..buffer.len().min(40)]);
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server is not Redis: its answer begins with {start:?}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_of_each_kind_are_read() {
        let parsed = |bytes| parse(bytes).unwrap().unwrap();
        assert_eq!(parsed(b"+OK\r\n"), (Reply::Text("OK".to_owned()), 5));
        assert_eq!(parsed(b":17\r\n"), (Reply::Number(17), 5));
        assert_eq!(parsed(b"-OOM no\r\n"), (Reply::Error("OOM no".to_owned()), 9));
    }

    #[test]
    fn a_list_is_read_with_all_that_is_in_it() {
        let whole = b"*4\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*1\r\n*0\r\n:0\r\n";
        let text = |text: &str| Reply::Text(text.to_owned());
        let modules = Reply::List(vec![Reply::List(vec![])]);
        let list = Reply::List(vec![text("role"), text("master"), text("modules"), modules]);
        assert_eq!(parse(whole).unwrap(), Some((list, whole.len() - 4)));
        for cut in 0..whole.len() - 4 {
            assert_eq!(parse(&whole[..cut]).unwrap(), None, "{cut}");
        }
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
    fn bytes_of_another_protocol_are_an_error_at_once() {
        let deep = b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n";
        let not_redis =
            [b"220 mx ESMTP\r\n".as_slice(), b"$-1\r\n", b":x\r\n", b"*99999\r\n", b"\r\n", deep];
        for bytes in not_redis {
            assert!(parse(bytes).is_err(), "{}", lossy(bytes));
        }
        assert!(parse(&[b'+'; REPLY_MAX_BYTES + 1]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
