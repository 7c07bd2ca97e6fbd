//! mbox: messages one after the other, each after a line `From ADDRESS DATE` (see
//! [`super::from_line`]).
//!
//! A separator stands at the beginning or after an empty line, which is no message's. Headers or an
//! empty line follow it. The dialects differ in how they quote a message's own lines that begin
//! with `From `:
//!
//! | dialect | such lines | so |
//! |---|---|---|
//! | mboxo | `From ` gets a `>` | a line that was `>From ` already can't be told from it |
//! | mboxrd | `From `, `>From `, `>>From ` … get one more `>` | it can be undone |
//! | mboxcl | as in mboxo, and `Content-Length` counts the body's bytes | no separator is looked for in the body |
//! | mboxcl2 | stay as they are, and `Content-Length` counts | the same |
//!
//! Some lines may be a separator or text, and a wrong guess would cut a message in two or make one
//! of two. Such a line has an address and a date, but no empty line before it or no header behind
//! it. Or it has no address or date, but an empty line before it and a header behind it. And a
//! `Content-Length` may point to a place where no message ends. A message with such a line is
//! unusable and named, unless the caller says that all these lines are text. It ends at the next
//! separator that is beyond doubt.
//!
//! The input can be large without being mail. So lines are read in pieces, and a message is kept up
//! to a limit only.

use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

use super::from_line::{begins_with_from, is_separator, may_begin_message};

/// Size of a piece; a longer line is read in several.
const PIECE_BYTES: u64 = 64 * 1024;

/// Way in which messages are separated and `From ` lines were quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Mboxo,
    Mboxrd,
    Mboxcl,
    Mboxcl2,
}

impl Dialect {
    fn counts(self) -> bool {
        matches!(self, Self::Mboxcl | Self::Mboxcl2)
    }
}

/// Rules by which an mbox is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct MboxRules {
    pub(super) dialect: Dialect,
    /// Whether a line that may be a separator or text is text.
    pub(super) doubtful_is_text: bool,
    /// Most bytes of a message.
    pub(super) message_bytes_max: usize,
}

/// Place in an input, with the CRC-32C of all bytes before it. The checksum tells whether an input
/// is the one that was marked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) offset: u64,
    checksum: u32,
}

impl Mark {
    fn after(self, bytes: &[u8]) -> Self {
        let checksum = crc32c::crc32c_append(self.checksum, bytes);
        Self { offset: self.offset + bytes.len() as u64, checksum }
    }
}

/// Reads messages one by one.
pub(super) struct Mbox<R> {
    input: R,
    rules: MboxRules,
    /// Current piece of a line; `begins` tells whether it is the line's first.
    line: Vec<u8>,
    begins: bool,
    /// Place where the current piece begins.
    mark: Mark,
    /// Next piece, which tells whether the current one is a separator.
    next: Vec<u8>,
}

/// Text between two separators.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MboxEntry {
    /// Offset at which its separator begins.
    pub(super) offset: u64,
    pub(super) message: Result<Vec<u8>, Unusable>,
}

/// Reason why an entry is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("text stands before the first line \"From \"")]
    NoSeparator,
    #[error("larger than message_size_limit; raise that limit in main.cf")]
    TooLarge,
    #[error(
        "byte {at}: a line that begins with \"From \" is text or a separator; see \
            --doubtful-is-text"
    )]
    Doubtful { at: u64 },
    #[error("byte {at}: no message ends where Content-Length says")]
    WrongLength { at: u64 },
}

/// Judgement of a line that begins with `From `.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FromLine {
    Separator,
    Text,
    Doubtful,
}

impl<R: BufRead> Mbox<R> {
    pub(super) fn new(input: R, rules: MboxRules) -> Self {
        let (line, next) = (Vec::new(), Vec::new());
        Self { input, rules, line, begins: true, mark: Mark::default(), next }
    }

    /// Returns the place where the next entry begins.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// Skips to the mark of this entry or a later one. The bytes up to there are read, since their
    /// checksum tells whether the input is the marked one.
    pub(super) fn skip_to(&mut self, mark: Mark) -> io::Result<()> {
        while self.mark.offset < mark.offset {
            if !self.line.is_empty() {
                self.mark = self.mark.after(&self.line);
                self.line = std::mem::take(&mut self.next);
                continue;
            }
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let left = usize::try_from(mark.offset - self.mark.offset).unwrap_or(usize::MAX);
            let count = bytes.len().min(left);
            self.mark = self.mark.after(&bytes[..count]);
            self.input.consume(count);
        }
        let is_same = self.mark == mark;
        let words =
            format!("the first {} bytes are not those that were read the last time", mark.offset);
        if is_same { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, words)) }
    }

    /// Returns the next entry; `None` at the end.
    pub(super) fn next_entry(&mut self) -> io::Result<Option<MboxEntry>> {
        while self.line.is_empty() || is_empty(&self.line) {
            if !self.read_line()? {
                return Ok(None);
            }
        }
        let (offset, is_message) = (self.mark.offset, begins_with_from(&self.line));
        let mut reading = Reading::new(self.rules);
        let mut in_separator = true;
        while self.read_line()? {
            in_separator &= !self.begins;
            if in_separator {
                continue;
            }
            if self.begins && !reading.is_counted() && begins_with_from(&self.line) {
                match self.judged(reading.after_empty) {
                    FromLine::Separator => {
                        reading.end();
                        break;
                    }
                    FromLine::Doubtful => reading.doubt(self.mark.offset),
                    FromLine::Text => {}
                }
            }
            reading.take(&self.line, self.begins, self.mark.offset);
        }
        let message = if is_message { reading.message() } else { Err(Unusable::NoSeparator) };
        Ok(Some(MboxEntry { offset, message }))
    }

    fn judged(&self, after_empty: bool) -> FromLine {
        let begins_message = may_begin_message(&self.next);
        match (is_separator(&self.line), after_empty) {
            (true, true) if begins_message => FromLine::Separator,
            (true, true) => FromLine::Doubtful,
            (true, false) | (false, true) if begins_message && !is_empty(&self.next) => {
                FromLine::Doubtful
            }
            _ => FromLine::Text,
        }
    }

    /// Reads the next piece. Returns whether there was one.
    fn read_line(&mut self) -> io::Result<bool> {
        self.begins = self.line.is_empty() || self.line.ends_with(b"\n");
        self.mark = self.mark.after(&self.line);
        if self.next.is_empty() {
            read_piece(&mut self.input, &mut self.next)?;
        }
        std::mem::swap(&mut self.line, &mut self.next);
        read_piece(&mut self.input, &mut self.next)?;
        Ok(!self.line.is_empty())
    }
}

/// Reads a piece of a line. Leaves `piece` empty at the end.
fn read_piece(input: &mut impl BufRead, piece: &mut Vec<u8>) -> io::Result<()> {
    piece.clear();
    input.take(PIECE_BYTES).read_until(b'\n', piece).map(drop)
}

/// A message, as far as it is read.
struct Reading {
    rules: MboxRules,
    message: Vec<u8>,
    is_cut: bool,
    after_empty: bool,
    unusable: Option<Unusable>,
    in_headers: bool,
    /// Bytes of the body that are still to come, by `Content-Length`; none before that header is
    /// read.
    counted: Option<u64>,
    /// Offset at which the last piece ended.
    offset: u64,
}

impl Reading {
    fn new(rules: MboxRules) -> Self {
        let (message, counted, unusable) = (Vec::new(), None, None);
        Self {
            rules,
            message,
            is_cut: false,
            after_empty: false,
            unusable,
            in_headers: true,
            counted,
            offset: 0,
        }
    }

    /// Whether the next line belongs to the body, whatever the line says.
    fn is_counted(&self) -> bool {
        !self.in_headers && self.counted.is_some_and(|left| left > 0)
    }

    fn doubt(&mut self, at: u64) {
        if !self.rules.doubtful_is_text {
            self.unusable.get_or_insert(Unusable::Doubtful { at });
        }
    }

    fn take(&mut self, line: &[u8], begins: bool, at: u64) {
        let is_behind = !self.in_headers && self.counted == Some(0);
        if is_behind && !is_empty(line) {
            self.unusable.get_or_insert(Unusable::WrongLength { at });
        }
        self.count(line, begins);
        self.offset = at + line.len() as u64;
        self.after_empty = begins && is_empty(line);
        self.is_cut |= self.message.len() > self.rules.message_bytes_max;
        if !self.is_cut {
            let text = if begins { unquoted(line, self.rules.dialect) } else { line };
            self.message.extend_from_slice(text);
        }
    }

    fn count(&mut self, line: &[u8], begins: bool) {
        if self.in_headers {
            let length = content_length(line).filter(|_| begins && self.rules.dialect.counts());
            self.counted = self.counted.or(length);
            self.in_headers = !(begins && is_empty(line));
        } else {
            // A body without a line break at its end has one in an mbox, which isn't counted.
            self.counted = self.counted.map(|left| left.saturating_sub(line.len() as u64));
        }
    }

    /// Takes off the empty line before a separator.
    fn end(&mut self) {
        let empty = if self.message.ends_with(b"\r\n") { 2 } else { 1 };
        self.message.truncate(self.message.len() - if self.is_cut { 0 } else { empty });
    }

    fn message(mut self) -> Result<Vec<u8>, Unusable> {
        self.is_cut |= self.message.len() > self.rules.message_bytes_max;
        let unusable = self
            .unusable
            .or(self.is_counted().then_some(Unusable::WrongLength { at: self.offset }));
        match (unusable, self.is_cut) {
            (Some(unusable), _) => Err(unusable),
            (None, true) => Err(Unusable::TooLarge),
            (None, false) => Ok(self.message),
        }
    }
}

/// Returns the value of the header `Content-Length`, in bytes.
fn content_length(line: &[u8]) -> Option<u64> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    name.trim_end().eq_ignore_ascii_case("Content-Length").then(|| value.trim().parse().ok())?
}

fn is_empty(line: &[u8]) -> bool {
    matches!(line, b"\n" | b"\r\n")
}

fn unquoted(line: &[u8], dialect: Dialect) -> &[u8] {
    let quotes = line.iter().take_while(|it| **it == b'>').count();
    let is_quoted = match dialect {
        Dialect::Mboxo | Dialect::Mboxcl => quotes == 1,
        Dialect::Mboxrd => quotes > 0,
        Dialect::Mboxcl2 => false,
    };
    if is_quoted && begins_with_from(&line[quotes..]) { &line[1..] } else { line }
}

#[cfg(test)]
#[path = "mbox_tests.rs"]
mod tests;
