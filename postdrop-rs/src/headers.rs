//! Recipients from a message's headers, for `sendmail -t`, while the message passes through.
//!
//! A header can be folded over several lines and cut into parts by the line length limit. So it is
//! put together first, examined, and then written line by line. `To`, `Cc` and `Bcc` name the
//! recipients. Once a `Resent-` form of one of these headers appears, only `Resent-` headers count,
//! because the message is being sent again (RFC 822 section 4.2). `Bcc` stays in the output:
//! cleanup removes it from mail of every source (`message_drop_headers`).
//!
//! The first line that is neither header nor continuation begins the body. An empty line is written
//! before the body if that first line is not empty.
//!
//! Source: RFC 822 sections 3 and 4; the output of stock `sendmail -t`, against which the tests
//! compare.

use crate::address::addresses;
use crate::content::LineEnd;

/// Error: a header is longer than `header_size_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message header length exceeds safety limit")]
pub struct HeaderTooLong;

/// Limits of a header.
#[derive(Debug, Clone, Copy)]
pub struct HeaderLimits {
    /// Value of `header_size_limit`: bytes after which a header grows no more.
    pub header: usize,
    /// Value of `line_length_limit`: most bytes of a line in one piece.
    pub line: usize,
}

/// Reader of the headers of one message, which passes all lines on and keeps the recipients.
#[derive(Debug)]
pub struct RecipientHeaders {
    limits: HeaderLimits,
    in_headers: bool,
    /// Current header, with folds as line breaks; empty for none.
    header: Vec<u8>,
    previous: Option<LineEnd>,
    recipients: Vec<Vec<u8>>,
    /// Recipients of `Resent-` headers, once there was one.
    resent_recipients: Option<Vec<Vec<u8>>>,
}

impl RecipientHeaders {
    /// Makes a reader that stands before the first line.
    pub fn new(limits: HeaderLimits) -> Self {
        Self {
            limits,
            in_headers: true,
            header: Vec::new(),
            previous: None,
            recipients: Vec::new(),
            resent_recipients: None,
        }
    }

    /// Takes a line or part of a line, and calls `output` with all lines that are complete now.
    pub fn line(
        &mut self,
        line: LineEnd,
        text: &[u8],
        output: &mut impl FnMut(LineEnd, &[u8]),
    ) -> Result<(), HeaderTooLong> {
        if self.in_headers {
            if self.continues(text)? {
                self.previous = Some(line);
                return Ok(());
            }
            self.finish_header(output);
            if let Some(name) = header_name(text) {
                self.begin(name, text);
                self.previous = Some(line);
                return Ok(());
            }
            if !text.is_empty() {
                output(LineEnd::Whole, b"");
            }
            self.in_headers = false;
        }
        output(line, text);
        self.previous = Some(line);
        Ok(())
    }

    /// Ends the message: calls `output` with the remaining lines and returns the recipients.
    pub fn finish(
        mut self,
        output: &mut impl FnMut(LineEnd, &[u8]),
    ) -> Result<Vec<Vec<u8>>, HeaderTooLong> {
        if self.previous == Some(LineEnd::Part) {
            self.line(LineEnd::Whole, b"", output)?;
        }
        self.finish_header(output);
        Ok(self.resent_recipients.unwrap_or(self.recipients))
    }

    /// Adds `text` to the current header if it continues that header. Returns whether it does.
    fn continues(&mut self, text: &[u8]) -> Result<bool, HeaderTooLong> {
        let same_line = self.previous == Some(LineEnd::Part);
        let folded = matches!(text.first(), Some(b' ' | b'\t'));
        if self.header.is_empty() || !(same_line || folded) {
            return Ok(false);
        }
        if self.header.len() >= self.limits.header {
            return Err(HeaderTooLong);
        }
        if !same_line {
            self.header.push(b'\n');
        }
        self.header.extend_from_slice(before_nul(text));
        Ok(true)
    }

    /// Begins a header. `Name : value`, which RFC 822 allows, becomes `Name: value`.
    fn begin(&mut self, name: &[u8], text: &[u8]) {
        let rest = &text[name.len()..];
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        self.header.extend_from_slice(name);
        self.header.extend_from_slice(before_nul(&rest[blanks..]));
    }

    fn finish_header(&mut self, output: &mut impl FnMut(LineEnd, &[u8])) {
        if self.header.is_empty() {
            return;
        }
        let header = std::mem::take(&mut self.header);
        self.keep_recipients(&header);
        for line in header.split(|&byte| byte == b'\n') {
            write_line(line, self.limits.line, output);
        }
        self.header = header;
        self.header.clear();
        self.previous = None;
    }

    fn keep_recipients(&mut self, header: &[u8]) {
        let Some(colon) = header.iter().position(|&byte| byte == b':') else {
            return debug_assert!(false, "a header begins with its name and a colon");
        };
        let (name, value) = (&header[..colon], &header[colon + 1..]);
        let is_any_of =
            |names: [&str; 3]| names.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()));
        if is_any_of(["Resent-To", "Resent-Cc", "Resent-Bcc"]) {
            self.resent_recipients.get_or_insert_default().append(&mut addresses(value));
        } else if self.resent_recipients.is_none() && is_any_of(["To", "Cc", "Bcc"]) {
            self.recipients.append(&mut addresses(value));
        }
    }
}

/// Returns the name, if `text` begins as a header does: printable characters without blanks,
/// optional blanks, a colon.
fn header_name(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|&&byte| byte.is_ascii_graphic() && byte != b':').count();
    let after = text[length..].iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    (length > 0 && after == Some(&b':')).then(|| &text[..length])
}

fn before_nul(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn write_line(mut text: &[u8], limit: usize, output: &mut impl FnMut(LineEnd, &[u8])) {
    while text.len() > limit {
        let (part, rest) = text.split_at(limit);
        output(LineEnd::Part, part);
        text = rest;
    }
    output(LineEnd::Whole, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeaderLimits = HeaderLimits { header: 60, line: 16 };

    fn read(message: &[(LineEnd, &str)]) -> Result<(Vec<String>, Vec<String>), HeaderTooLong> {
        let mut written = Vec::new();
        let mut output = |line, text: &[u8]| {
            let end = if line == Whole { "$" } else { "" };
            written.push(String::from_utf8_lossy(text).into_owned() + end);
        };
        let mut headers = RecipientHeaders::new(LIMITS);
        for (line, text) in message {
            headers.line(*line, text.as_bytes(), &mut output)?;
        }
        let recipients = headers.finish(&mut output)?;
        Ok((written, recipients.into_iter().map(|r| String::from_utf8(r).unwrap()).collect()))
    }

    use LineEnd::{Part, Whole};

    #[test]
    fn recipients_are_those_of_to_cc_and_bcc_folded_or_not() {
        let (written, recipients) = read(&[
            (Whole, "tO : a@x,"),
            (Whole, "\tb@x"),
            (Whole, "Subject: To: no@x"),
            (Whole, "BCC: c@x"),
            (Whole, ""),
            (Whole, "Cc: no@x"),
        ])
        .unwrap();
        assert_eq!(recipients, ["a@x", "b@x", "c@x"]);
        assert_eq!(
            written,
            ["tO: a@x,$", "\tb@x$", "Subject: To: no@", "x$", "BCC: c@x$", "$", "Cc: no@x$"]
        );
    }

    #[test]
    fn resent_headers_replace_the_plain_ones() {
        let (_, recipients) = read(&[
            (Whole, "To: a@x"),
            (Whole, "Resent-Cc: b@x"),
            (Whole, "Cc: c@x"),
            (Whole, "Resent-Bcc: d"),
        ])
        .unwrap();
        assert_eq!(recipients, ["b@x", "d"]);
        assert_eq!(
            read(&[(Whole, "To: a@x"), (Whole, "Resent-To:")]).unwrap().1,
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_body_without_an_empty_line_gets_one() {
        let (written, recipients) =
            read(&[(Whole, "To: a@x"), (Whole, "no header"), (Part, "end")]).unwrap();
        assert_eq!(written, ["To: a@x$", "$", "no header$", "end", "$"]);
        assert_eq!(recipients, ["a@x"]);
    }

    #[test]
    fn a_header_cut_into_parts_is_read_as_one() {
        let (written, recipients) =
            read(&[(Part, "To: aaaaaaaaaaaa"), (Part, "bbbbbbbbbbbbbbbb"), (Whole, "@x")]).unwrap();
        assert_eq!(recipients, ["aaaaaaaaaaaabbbbbbbbbbbbbbbb@x"]);
        assert_eq!(written, ["To: aaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "@x$"]);
    }

    #[test]
    fn a_header_over_the_limit_is_an_error() {
        let line = (Part, "To: aaaaaaaaaaaa");
        assert_eq!(read(&[line, line, line, line, line]), Err(HeaderTooLong));
        assert!(read(&[line, line, line, line]).is_err());
        assert!(read(&[line, line, line, (Whole, "b")]).is_ok());
    }
}
