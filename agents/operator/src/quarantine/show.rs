//! One message, as far as it can be read. Records are shown with their names, content as it is.
//! Bytes behind an unreadable place are shown as they are, too. Headers that tell a person what the
//! message is are decoded.

use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;

use anyhow::{Context, Result};
use postfix_wire::{Record, RecordType, Records};
use spool::{Message, MessageId, Spool, records_of};

const SHOWN_HEADERS: [&str; 6] = ["From", "To", "Cc", "Subject", "Date", "Message-ID"];

pub(super) async fn print(spool: &Spool, id: MessageId) -> Result<ExitCode> {
    let value = spool.stored(id).await?.with_context(|| {
        format!("{id}: Redis has no such message; see `optimus quarantine` for the ids")
    })?;
    let (mut text, trouble) = text(id, &value);
    if stdout().is_terminal() {
        text.iter_mut()
            .filter(|byte| byte.is_ascii_control() && !b"\n\t".contains(byte))
            .for_each(|byte| *byte = b'?');
    }
    // A reader who has seen enough closes the pipe, which is no failure.
    let _ = stdout().lock().write_all(&text);
    trouble.iter().for_each(|words| eprintln!("optimus: {id}: {words}"));
    Ok(ExitCode::SUCCESS)
}

/// Returns the text to show, and the faults of the message.
fn text(id: MessageId, value: &[u8]) -> (Vec<u8>, Vec<String>) {
    let (about, records) = records_of(value);
    let mut trouble = Vec::new();
    if let Err(damage) = Message::decode(id, value.to_vec()) {
        trouble.push(damage.to_string());
    }
    let mut text = format!("*** STORED {id} ***\nabout: {}\n", printable(about)).into_bytes();
    let mut reader = Records::new(records);
    let (mut at, mut content) = (0, Vec::new());
    while let Some(record) = reader.next() {
        match record {
            Ok(record) => {
                if matches!(record.kind, RecordType::Norm | RecordType::Cont) {
                    append(&mut content, record);
                }
                append(&mut text, record);
            }
            Err(error) => {
                let rest = &records[at..];
                trouble.push(format!(
                    "{error}, at byte {at} of the records; the last {} bytes are shown as they are",
                    rest.len()
                ));
                text.extend_from_slice(b"*** UNREADABLE ***\n");
                text.extend_from_slice(rest);
                text.push(b'\n');
            }
        }
        at = reader.offset();
    }
    text.extend(decoded_headers(&content).into_bytes());
    (text, trouble)
}

/// Returns some headers, decoded as a mail reader shows them.
fn decoded_headers(content: &[u8]) -> String {
    let Ok((headers, _)) = mailparse::parse_headers(content) else { return String::new() };
    let is_shown = |name: &str| SHOWN_HEADERS.iter().any(|shown| name.eq_ignore_ascii_case(shown));
    let shown = headers.iter().filter(|header| is_shown(&header.get_key_ref()));
    let lines =
        shown.map(|it| format!("{}: {}\n", it.get_key_ref(), printable(it.get_value().as_bytes())));
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("*** DECODED HEADERS ***\n{lines}") }
}

fn append(text: &mut Vec<u8>, Record { kind, data }: Record<'_>) {
    match kind {
        RecordType::Norm => text.extend([data, b"\n"].concat()),
        RecordType::Cont => text.extend_from_slice(data),
        RecordType::Mesg => text.extend_from_slice(b"*** CONTENT ***\n"),
        RecordType::Xtra => text.extend_from_slice(b"*** EXTRACTED ***\n"),
        RecordType::End => text.extend_from_slice(b"*** END ***\n"),
        other => text.extend(format!("{}: {}\n", name(other), printable(data)).into_bytes()),
    }
}

fn name(kind: RecordType) -> String {
    match kind {
        RecordType::Time => "time".to_owned(),
        RecordType::Full => "full name".to_owned(),
        RecordType::From => "sender".to_owned(),
        RecordType::Rcpt => "recipient".to_owned(),
        RecordType::Attr => "attribute".to_owned(),
        other => char::from(u8::from(other)).to_string(),
    }
}

/// Returns text on one line, without characters that a terminal would obey.
pub(super) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text.trim_ascii_end())
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use postfix_wire::record::put;

    #[test]
    fn headers_are_shown_as_a_mail_reader_shows_them() {
        let content =
            b"Received: x\nSubject: =?utf-8?q?caf=C3=A9?=\n =?utf-8?b?IQ==?=\nto: \x1b[31m<a@x>\n\n\
                To: no\n";
        let expected = "*** DECODED HEADERS ***\nSubject: caf\u{e9}!\nto: ?[31m<a@x>\n";
        assert_eq!(decoded_headers(content), expected);
        assert_eq!(decoded_headers(b"\nno header\n"), "");
    }

    #[test]
    fn a_message_is_shown_up_to_where_it_can_be_read_and_then_as_it_is() {
        let id = MessageId::from_parts(1, 1);
        let mut value = b"1 01234567 0 1 host\n".to_vec();
        for (kind, data) in [
            (RecordType::From, "a@example.org"),
            (RecordType::Mesg, ""),
            (RecordType::Cont, "one "),
            (RecordType::Norm, "line"),
        ] {
            put(&mut value, kind, data.as_bytes());
        }
        value.extend(b"#rest");
        let (text, trouble) = text(id, &value);
        let text = String::from_utf8(text).unwrap();
        let expected = "about: 1 01234567 0 1 host\nsender: a@example.org\n*** CONTENT ***\n\
            one line\n*** UNREADABLE ***\n#rest\n";
        assert!(text.ends_with(expected), "{text}");
        assert!(trouble[0].contains("checksum") && trouble[1].contains("last 5"), "{trouble:?}");
    }
}
