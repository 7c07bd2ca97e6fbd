//! A Rust file, line by line, with code, text in quotes and comments told apart.
//!
//! A rule about comments must not fire at a string, nor one about code at a comment. The scanner
//! knows just enough of Rust's grammar for that: quotes of all kinds, nested comments, and the
//! difference between a character and a lifetime.

/// The purpose of a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comment {
    /// `///`: documents the item that follows.
    Outer,
    /// `//!`: documents the file or module.
    Inner,
    /// Any other.
    Plain,
}

/// One line. `code` and `quoted` have the original's columns, with blanks for each other's text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SourceLine {
    pub(super) code: String,
    pub(super) quoted: String,
    pub(super) comment: Option<(Comment, String)>,
    /// Whether the line has a raw string: text of another language.
    pub(super) has_raw: bool,
}

/// Splits a file into lines.
pub(super) fn lines(text: &str) -> Vec<SourceLine> {
    let mut scanner = Scanner { rest: text, lines: vec![SourceLine::default()], before: ' ' };
    while !scanner.rest.is_empty() {
        scanner.step();
    }
    scanner.lines
}

struct Scanner<'a> {
    rest: &'a str,
    lines: Vec<SourceLine>,
    /// The last character of code, which tells a raw string from a name that ends in `r`.
    before: char,
}

impl Scanner<'_> {
    fn step(&mut self) {
        if self.rest.starts_with("//") {
            self.line_comment();
        } else if self.rest.starts_with("/*") {
            self.block_comment();
        } else if let Some((opening, hashes)) = self.raw_opening() {
            self.code(opening);
            self.quotation(&format!("\"{}", "#".repeat(hashes)), false);
        } else if self.rest.starts_with('"') {
            self.code(1);
            self.quotation("\"", true);
        } else if let Some(length) = character(self.rest) {
            self.code(1);
            self.quoted(length - 2);
            self.code(1);
        } else {
            let length = self.rest.chars().next().map_or(0, char::len_utf8);
            self.code(length);
        }
    }

    fn line_comment(&mut self) {
        let length = self.rest.find('\n').unwrap_or(self.rest.len());
        let text = &self.rest[..length];
        let (kind, text) = match () {
            () if text.starts_with("////") => (Comment::Plain, &text[2..]),
            () if text.starts_with("///") => (Comment::Outer, &text[3..]),
            () if text.starts_with("//!") => (Comment::Inner, &text[3..]),
            () => (Comment::Plain, &text[2..]),
        };
        self.line().comment = Some((kind, text.to_owned()));
        self.rest = &self.rest[length..];
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while !self.rest.is_empty() {
            let length = match () {
                () if self.rest.starts_with("/*") => {
                    depth += 1;
                    2
                }
                () if self.rest.starts_with("*/") => {
                    depth -= 1;
                    2
                }
                () => self.rest.chars().next().map_or(1, char::len_utf8),
            };
            self.take(length, |_, _| ());
            if depth == 0 {
                break;
            }
        }
    }

    /// Returns the length of a raw string's beginning, and its number of `#`.
    fn raw_opening(&self) -> Option<(usize, usize)> {
        let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
            self.rest.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(['"', '#']))
        })?;
        let hashes = self.rest[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
        let opening = prefix.len() + hashes + 1;
        let opens = self.rest[..opening.min(self.rest.len())].ends_with('"');
        (opens && !is_of_name(self.before)).then_some((opening, hashes))
    }

    fn quotation(&mut self, end: &str, escapes: bool) {
        while !self.rest.is_empty() && !self.rest.starts_with(end) {
            let first = self.rest.chars().next().map_or(1, char::len_utf8);
            let escaped = escapes && self.rest.starts_with('\\');
            let second = self.rest[first..].chars().next().filter(|_| escaped);
            self.line().has_raw |= !escapes;
            self.quoted(first + second.map_or(0, char::len_utf8));
        }
        self.code(end.len().min(self.rest.len()));
    }

    fn code(&mut self, length: usize) {
        if let Some(last) = self.rest[..length].chars().last() {
            self.before = last;
        }
        self.take(length, |line, character| {
            line.code.push(character);
            line.quoted.push(' ');
        });
    }

    fn quoted(&mut self, length: usize) {
        self.take(length, |line, character| {
            line.code.push(' ');
            line.quoted.push(character);
        });
    }

    fn take(&mut self, length: usize, put: impl Fn(&mut SourceLine, char)) {
        let (taken, rest) = self.rest.split_at(length);
        for character in taken.chars() {
            match character {
                '\n' => self.lines.push(SourceLine::default()),
                other => put(self.line(), other),
            }
        }
        self.rest = rest;
    }

    fn line(&mut self) -> &mut SourceLine {
        if self.lines.is_empty() {
            self.lines.push(SourceLine::default());
        }
        let last = self.lines.len() - 1;
        &mut self.lines[last]
    }
}

/// Returns the length of a character literal with its quotes; `None` for a lifetime and anything
/// else.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    let closing = match first {
        '\\' => 2 + inner.get(2..)?.find('\'')?,
        other => other.len_utf8(),
    };
    inner.get(closing..)?.starts_with('\'').then_some(closing + 2)
}

/// Whether a character may stand in a name.
pub(super) fn is_of_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<String> {
        lines(text).into_iter().map(|line| line.code.trim_end().to_owned()).collect()
    }

    #[test]
    fn comments_are_told_by_their_kind() {
        let kinds: Vec<_> = lines("//! a\n/// b\n// c\n//// d\nlet e = 1; // f")
            .into_iter()
            .filter_map(|line| line.comment)
            .map(|(kind, text)| (kind, text.trim().to_owned()))
            .collect();
        let of = |kind, text: &str| (kind, text.to_owned());
        let expected = [
            of(Comment::Inner, "a"),
            of(Comment::Outer, "b"),
            of(Comment::Plain, "c"),
            of(Comment::Plain, "// d"),
            of(Comment::Plain, "f"),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn quoted_text_is_no_code() {
        assert_eq!(
            codes(r#"f("a // \" b", 'c', '\'', '"') // "d"#),
            [r#"f("         ", ' ', '  ', ' ')"#]
        );
        assert_eq!(codes("r#\"a \" b\"# x"), ["r#\"     \"# x"]);
        assert_eq!(codes("br\"a\\\" x"), ["br\"  \" x"]);
        assert_eq!(codes("for\"a\""), ["for\" \""]);
    }

    #[test]
    fn text_in_quotes_keeps_its_columns_over_lines() {
        let lines = lines("f(\"ab\ncd\", x)");
        assert_eq!(lines[0].quoted, "   ab");
        assert_eq!(lines[1].quoted.trim_end(), "cd");
        assert_eq!(lines[1].code, "  \", x)");
    }

    #[test]
    fn lifetimes_are_code() {
        assert_eq!(codes("fn f<'a>(x: &'a str) {}"), ["fn f<'a>(x: &'a str) {}"]);
    }

    #[test]
    fn nested_comments_end_with_the_outer_one() {
        assert_eq!(codes("a /* b /* c */ d\n */ e"), ["a", " e"]);
    }
}
