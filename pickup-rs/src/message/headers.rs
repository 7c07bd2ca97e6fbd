//! Headers of a message: whether it has a message id.
//!
//! Cleanup adds a `Message-Id:` to a message that has none, or `Resent-Message-Id:` if it has any
//! `Resent-` header. pickup-rs adds such a header first, so both must agree on what a header is
//! (`mime_state.c`, `is_header.c`). A header is a line whose first record has a name, blanks, and a
//! colon. Records and lines that continue a header belong to it. The first line of another form
//! ends all headers.

use postfix_wire::{Record, RecordType};

/// Header that the message lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingId {
    MessageId,
    ResentMessageId,
}

impl MissingId {
    pub(super) fn header_name(self) -> &'static str {
        match self {
            Self::MessageId => "Message-Id",
            Self::ResentMessageId => "Resent-Message-Id",
        }
    }
}

/// The headers by which cleanup knows a resent message (`header_opts.c`).
const RESENT_HEADERS: [&[u8]; 8] = [
    b"resent-bcc",
    b"resent-cc",
    b"resent-date",
    b"resent-from",
    b"resent-message-id",
    b"resent-reply-to",
    b"resent-sender",
    b"resent-to",
];

/// Scanner of content, record by record.
#[derive(Debug, Default)]
pub(super) struct HeaderScan {
    ended: bool,
    in_header: bool,
    line_continues: bool,
    has_message_id: bool,
    has_resent_message_id: bool,
    resent: bool,
}

impl HeaderScan {
    /// Takes the next content record.
    pub(super) fn see(&mut self, record: &Record<'_>) {
        if self.ended {
            return;
        }
        let continues =
            std::mem::replace(&mut self.line_continues, record.kind == RecordType::Cont);
        let folded = matches!(record.data.first(), Some(b' ' | b'\t'));
        if self.in_header && (continues || folded) {
            return;
        }
        match header_name(record.data) {
            Some(name) => self.note(name),
            None => self.ended = true,
        }
    }

    fn note(&mut self, name: &[u8]) {
        self.in_header = true;
        let name = name.to_ascii_lowercase();
        self.has_message_id |= name == b"message-id";
        self.has_resent_message_id |= name == b"resent-message-id";
        self.resent |= RESENT_HEADERS.contains(&name.as_slice());
    }

    /// Returns the missing header. The caller must have passed all content to [`Self::see`].
    pub(super) fn missing_id(&self) -> Option<MissingId> {
        match (self.resent, self.has_message_id, self.has_resent_message_id) {
            (false, false, _) => Some(MissingId::MessageId),
            (true, _, false) => Some(MissingId::ResentMessageId),
            (false, true, _) | (true, _, true) => None,
        }
    }
}

/// Returns the name of the header that starts here, if one does: printable ASCII without blanks,
/// before optional blanks and a colon.
fn header_name(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let blanks =
        line[..colon].iter().rev().take_while(|&&byte| matches!(byte, b' ' | b'\t')).count();
    let name = &line[..colon - blanks];
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(records: &[(RecordType, &str)]) -> Option<MissingId> {
        let mut scan = HeaderScan::default();
        for (kind, data) in records {
            scan.see(&Record { kind: *kind, data: data.as_bytes() });
        }
        scan.missing_id()
    }

    fn missing_in_lines(lines: &[&str]) -> Option<MissingId> {
        missing(&lines.iter().map(|line| (RecordType::Norm, *line)).collect::<Vec<_>>())
    }

    #[test]
    fn a_message_id_counts_in_every_spelling() {
        for header in
            ["Message-Id: <x@y>", "MESSAGE-ID:<x@y>", "message-id \t: <x@y>", "Message-ID:"]
        {
            assert_eq!(missing_in_lines(&["Subject: x", header, "", "body"]), None, "{header}");
        }
    }

    #[test]
    fn a_message_id_outside_of_the_headers_does_not_count() {
        for lines in [
            &[][..],
            &[""],
            &["Subject: x"],
            &["Subject: x", "", "Message-Id: <in the body>"],
            &["Subject: x", "no header", "Message-Id: <after what is no header>"],
            &["Subject: x", "\tMessage-Id: <folded>"],
            &["X-Message-Id: <x@y>"],
            &["Message Id: <x@y>"],
            &[" Message-Id: <x@y>"],
            &["From someone Sat Nov 21 09:00:00 2026", "Message-Id: <x@y>"],
            &["Subj\u{e9}ct: x", "Message-Id: <x@y>"],
            &[": x", "Message-Id: <x@y>"],
        ] {
            assert_eq!(missing_in_lines(lines), Some(MissingId::MessageId), "{lines:?}");
        }
    }

    #[test]
    fn a_resent_message_needs_a_resent_message_id() {
        assert_eq!(
            missing_in_lines(&["Resent-From: a@b", "Message-Id: <x@y>"]),
            Some(MissingId::ResentMessageId)
        );
        assert_eq!(missing_in_lines(&["Resent-From: a@b", "Resent-Message-Id: <x@y>"]), None);
        assert_eq!(missing_in_lines(&["Resent-Nonsense: a@b"]), Some(MissingId::MessageId));
    }

    #[test]
    fn a_line_in_several_records_is_one_line() {
        use RecordType::{Cont, Norm};
        let long = [(Cont, "Subject: x"), (Norm, "Message-Id: <same line>")];
        assert_eq!(missing(&long), Some(MissingId::MessageId));
        let then = [(Cont, "Subject: x"), (Cont, "yyy"), (Norm, ""), (Norm, "Message-Id: <x@y>")];
        assert_eq!(missing(&then), None);
    }
}
