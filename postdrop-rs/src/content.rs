//! Reader of a message's lines from standard input, for `sendmail`.
//!
//! A line longer than `line_length_limit` comes in parts; only the last part is a whole line, and
//! may be empty. Text that ends without a line break ends in a part. `From ` and `>From ` lines
//! before the message belong to mailbox format and UUCP and are dropped. Lines from Windows and
//! SMTP end with CRLF; [`LineEndings`] says whether the CR is removed. A line with a lone dot ends
//! the message, unless an option says otherwise.
//!
//! Source: Postfix sendmail(1), `sendmail_fix_line_endings` and `line_length_limit` in postconf(5).

use std::io::{self, BufRead, Read};
use std::str::FromStr;

/// End of a piece of text: the end of its line, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// The line ends here.
    Whole,
    /// The line goes on in the next piece, or the text ended without a line break.
    Part,
}

/// Value of `sendmail_fix_line_endings`: the lines from which CR before LF is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEndings {
    /// Every line.
    Always,
    /// Every line, if the first line has such a CR.
    Strict,
    /// No line.
    Never,
}

impl FromStr for LineEndings {
    type Err = ();

    fn from_str(value: &str) -> Result<Self, ()> {
        match value {
            "always" => Ok(Self::Always),
            "strict" => Ok(Self::Strict),
            "never" => Ok(Self::Never),
            _ => Err(()),
        }
    }
}

/// Rules for reading a message.
#[derive(Debug, Clone, Copy)]
pub struct ContentRules {
    /// Lines from which CR before LF is removed.
    pub line_endings: LineEndings,
    /// Whether a lone dot ends the message.
    pub dot_ends: bool,
    /// Most bytes of a line in one piece; at least 1.
    pub line_limit: usize,
}

/// Reader of one message's lines.
pub struct ContentReader<R> {
    input: R,
    rules: ContentRules,
    line_endings: LineEndings,
    before_message: bool,
    previous: Option<LineEnd>,
}

impl<R: BufRead> ContentReader<R> {
    /// Makes a reader of `input`, which stands before the first line.
    pub fn new(input: R, rules: ContentRules) -> Self {
        Self {
            input,
            rules,
            line_endings: rules.line_endings,
            before_message: true,
            previous: None,
        }
    }

    /// Reads the next line or part of a line into `text`, without the line break. Returns `None` at
    /// the end of the message.
    pub fn next_line(&mut self, text: &mut Vec<u8>) -> io::Result<Option<LineEnd>> {
        loop {
            let Some(line) = read_line(&mut self.input, self.rules.line_limit, text)? else {
                return Ok(None);
            };
            let previous = self.previous.replace(line);
            self.decide_line_endings(line, text);
            self.before_message &= line == LineEnd::Whole && is_from_line(text);
            if self.before_message {
                continue;
            }
            self.strip(line, text);
            let ended = self.rules.dot_ends && previous != Some(LineEnd::Part) && text == b".";
            return Ok((!ended).then_some(line));
        }
    }

    fn decide_line_endings(&mut self, line: LineEnd, text: &[u8]) {
        if self.line_endings == LineEndings::Strict && line == LineEnd::Whole {
            let crlf = text.ends_with(b"\r");
            self.line_endings = if crlf { LineEndings::Always } else { LineEndings::Never };
        }
    }

    fn strip(&self, line: LineEnd, text: &mut Vec<u8>) {
        if self.line_endings == LineEndings::Always && line == LineEnd::Whole {
            let kept = text.iter().rposition(|&byte| byte != b'\r').map_or(0, |last| last + 1);
            text.truncate(kept);
        }
    }
}

/// Reads at most `limit` bytes, up to a line break, which is left out. Text of `limit` bytes is a
/// part, even when the line break comes next.
fn read_line(
    input: &mut impl BufRead,
    limit: usize,
    text: &mut Vec<u8>,
) -> io::Result<Option<LineEnd>> {
    text.clear();
    let read = input.by_ref().take(limit as u64).read_until(b'\n', text)?;
    Ok(match text.last() {
        Some(b'\n') => {
            text.pop();
            Some(LineEnd::Whole)
        }
        _ => (read > 0).then_some(LineEnd::Part),
    })
}

fn is_from_line(text: &[u8]) -> bool {
    let quotes = text.iter().take_while(|&&byte| byte == b'>').count();
    text[quotes..].starts_with(b"From ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: ContentRules =
        ContentRules { line_endings: LineEndings::Always, dot_ends: true, line_limit: 8 };

    fn read(input: &[u8], rules: ContentRules) -> Vec<(LineEnd, String)> {
        let mut content = ContentReader::new(input, rules);
        let (mut lines, mut text) = (Vec::new(), Vec::new());
        while let Some(line) = content.next_line(&mut text).unwrap() {
            lines.push((line, String::from_utf8_lossy(&text).into_owned()));
        }
        lines
    }

    fn whole(text: &str) -> (LineEnd, String) {
        (LineEnd::Whole, text.to_owned())
    }

    fn part(text: &str) -> (LineEnd, String) {
        (LineEnd::Part, text.to_owned())
    }

    #[test]
    fn long_lines_come_in_parts_and_a_full_part_is_never_whole() {
        assert_eq!(read(b"1234567\n", RULES), [whole("1234567")]);
        assert_eq!(read(b"12345678\n", RULES), [part("12345678"), whole("")]);
        assert_eq!(read(b"123456789", RULES), [part("12345678"), part("9")]);
        assert_eq!(read(b"", RULES), []);
    }

    #[test]
    fn mailbox_lines_before_the_message_are_dropped() {
        let rules = ContentRules { line_limit: 80, ..RULES };
        assert_eq!(
            read(b"From a b\n>>From c\nSubject: x\nFrom d\n", rules),
            [whole("Subject: x"), whole("From d")]
        );
        assert_eq!(read(b"From without end", rules), [part("From without end")]);
    }

    #[test]
    fn line_endings_follow_the_setting() {
        let text = b"a\r\nb\nc\r\r\n\rd";
        let with = |line_endings| read(text, ContentRules { line_endings, ..RULES });
        assert_eq!(with(LineEndings::Always), [whole("a"), whole("b"), whole("c"), part("\rd")]);
        assert_eq!(with(LineEndings::Strict), with(LineEndings::Always));
        assert_eq!(
            with(LineEndings::Never),
            [whole("a\r"), whole("b"), whole("c\r\r"), part("\rd")]
        );
        let strict = ContentRules { line_endings: LineEndings::Strict, ..RULES };
        assert_eq!(read(b"a\nb\r\n", strict), [whole("a"), whole("b\r")]);
    }

    #[test]
    fn a_lone_dot_ends_the_message() {
        assert_eq!(read(b"a\n.\nb\n", RULES), [whole("a")]);
        assert_eq!(read(b"a\n.\r\nb\n", RULES), [whole("a")]);
        assert_eq!(read(b"a\n..\n.", RULES), [whole("a"), whole("..")]);
        assert_eq!(read(b"12345678.\n", RULES), [part("12345678"), whole(".")]);
        let rules = ContentRules { dot_ends: false, ..RULES };
        assert_eq!(read(b"a\n.\nb", rules), [whole("a"), whole("."), part("b")]);
    }

    proptest! {
        #[test]
        fn rules_that_change_no_line_leave_the_content_unchanged(
            input in any::<Vec<u8>>(),
            line_limit in 1_usize..20,
        ) {
            let line_endings = LineEndings::Never;
            let rules = ContentRules { line_endings, dot_ends: false, line_limit };
            let mut content = ContentReader::new(&input[..], rules);
            content.before_message = false;
            let (mut output, mut text) = (Vec::new(), Vec::new());
            while let Some(line) = content.next_line(&mut text).unwrap() {
                prop_assert!(text.len() <= line_limit);
                output.extend_from_slice(&text);
                if line == LineEnd::Whole {
                    output.push(b'\n');
                }
            }
            prop_assert_eq!(output, input);
        }
    }
}
