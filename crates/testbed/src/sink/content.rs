//! Reading of a message after DATA, up to the lone dot, with the fields that identify it.

use std::io::{self, BufRead};

use super::journal::Delivery;

/// Fields to look for, in lower case with their colon.
const TEST_ID: &str = "x-test-id:";
const MESSAGE_ID: &str = "message-id:";
const RECEIVED: &str = "received:";

/// State of reading a message.
#[derive(Default)]
struct MessageReader {
    in_body: bool,
    received_seen: u32,
    line: Vec<u8>,
}

/// Reads a message into `delivery`. Returns whether it was whole.
pub(super) fn read(
    input: &mut impl BufRead,
    keep: bool,
    delivery: &mut Delivery,
) -> io::Result<bool> {
    let mut reader = MessageReader::default();
    let mut content = keep.then(Vec::new);
    loop {
        reader.line.clear();
        if input.read_until(b'\n', &mut reader.line)? == 0 {
            return Ok(false);
        }
        let line: &[u8] = match reader.line.as_slice() {
            b".\r\n" | b".\n" => break,
            [b'.', unstuffed @ ..] => unstuffed,
            line => line,
        };
        delivery.size += line.len() as u64;
        if let Some(content) = &mut content {
            content.extend_from_slice(line);
        }
        if !reader.in_body {
            reader.header_line(delivery);
        }
    }
    delivery.content = content;
    Ok(true)
}

impl MessageReader {
    /// Reads one line of the header. Only the topmost Received field is read beyond its first line.
    fn header_line(&mut self, delivery: &mut Delivery) {
        // The fields that are read here, and the empty line, are ASCII.
        let Ok(line) = std::str::from_utf8(&self.line) else { return };
        let line = line.trim_end();
        self.in_body = line.is_empty();
        self.received_seen += u32::from(value(line, RECEIVED).is_some());
        if let Some(test_id) = value(line, TEST_ID) {
            delivery.test_id = Some(test_id.to_owned());
        } else if let Some(message_id) = value(line, MESSAGE_ID) {
            delivery.message_id = Some(message_id.to_owned());
        } else if self.received_seen == 1 && delivery.queue_id.is_none() {
            delivery.queue_id = queue_id(line);
        }
    }
}

fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| rest.trim())
}

/// Returns the queue id of a Received field, which Postfix writes as `id QUEUEID; date`, or as `id
/// QUEUEID` before a `for` clause.
fn queue_id(line: &str) -> Option<String> {
    let mut words = line.split([' ', '\t', ';']).skip_while(|word| *word != "id");
    words.nth(1).filter(|word| !word.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "Received: by mail.example.org (Postfix, from userid 0)\r\n\
        \tid 4C1B21A0; Sat, 21 Nov 2026 09:00:00 +0000 (UTC)\r\n\
        Received: from x by y\r\n\tid DEEPER; Sat, 21 Nov 2026 09:00:00 +0000\r\n\
        x-TEST-id: 17\r\nMessage-Id: <a@b>\r\n\r\n\
        X-Test-Id: not this\r\n..dot\r\n.\r\nQUIT\r\n";

    #[test]
    fn identity_comes_from_the_header_alone() {
        let (mut delivery, mut input) = (Delivery::default(), MESSAGE.as_bytes());
        assert!(read(&mut input, true, &mut delivery).unwrap());
        assert_eq!(delivery.queue_id.as_deref(), Some("4C1B21A0"));
        assert_eq!(delivery.test_id.as_deref(), Some("17"));
        assert_eq!(delivery.message_id.as_deref(), Some("<a@b>"));
        assert!(delivery.content.unwrap().ends_with(b"\r\n\r\nX-Test-Id: not this\r\n.dot\r\n"));
        assert_eq!(input, b"QUIT\r\n");
    }

    #[test]
    fn a_message_cut_short_is_not_whole() {
        let mut input = &MESSAGE.as_bytes()[..MESSAGE.len() - 10];
        assert!(!read(&mut input, false, &mut Delivery::default()).unwrap());
    }
}
