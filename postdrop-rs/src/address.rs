//! Addresses in recipient headers and on the command line, read as forgivingly as Postfix reads
//! them.
//!
//! RFC 822 section 6 defines an address list, but scripts send other forms: bare words, missing
//! brackets, empty members, `|command` and `/file`, commas forgotten between addresses. Refusing
//! such a header would refuse mail that stock Postfix accepts. So the reader accepts any text and
//! never fails.
//!
//! # Theory
//!
//! The text becomes tokens: words (atoms, quoted strings, domain literals, all without their
//! quoting), comments, and single operator characters. Tokens are then read from right to left,
//! because the end of an address shows its form:
//!
//! ```text
//! To: Ann <ann@a>, team: bob@b, "c d"@c;, dan eve
//!          ◀──────  '>' opens an address that ends, leftwards, at '<'; the phrase before it is
//!                   skipped
//!                  ◀─────────────────── ';' opens a group; a ':' then ends it, its name is skipped
//!                                          ◀── two words with nothing between: a comma is missing
//! ```
//!
//! The tokens between two separators are one address, joined without space. Comments belong to no
//! address. Each token is read once, so the time is linear in the text.
//!
//! Source: RFC 822 sections 3 and 6; the grammar of stock Postfix, with which the tests compare
//! this module.

/// Operator characters: RFC 822 `specials`, and `|`, `%` and `!` from older address forms.
const OPERATORS: &[u8] = b"|%!()<>@,;:\\\".[]";

/// Piece of an address list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// Atom, quoted string or domain literal, unquoted.
    Word(Vec<u8>),
    Comment,
    Operator(u8),
}

/// Returns the addresses in `text`, in order, unquoted. NUL ends the text, as it does in Postfix.
pub fn addresses(text: &[u8]) -> Vec<Vec<u8>> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    AddressReader::new(Scanner { rest: text }.tokens()).read()
}

/// Splitter of text into tokens.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl Scanner<'_> {
    fn tokens(mut self) -> Vec<Token> {
        let mut tokens = Vec::new();
        while let Some(&first) = self.rest.first() {
            if is_space(first) {
                self.skip();
            } else {
                tokens.push(self.token(first));
            }
        }
        tokens
    }

    fn token(&mut self, first: u8) -> Token {
        match first {
            b'(' => self.comment(),
            b'[' => self.domain_literal(),
            b'"' => self.quoted_string(),
            // A backslash makes an atom of the text that follows.
            b'\\' => Token::Word(self.collect(is_atom)),
            operator if OPERATORS.contains(&operator) => {
                self.skip();
                Token::Operator(operator)
            }
            _ => Token::Word(self.collect(is_atom)),
        }
    }

    fn quoted_string(&mut self) -> Token {
        self.skip();
        let text = self.collect(|byte| byte != b'"');
        self.skip();
        Token::Word(text)
    }

    fn domain_literal(&mut self) -> Token {
        self.skip();
        let mut text = vec![b'['];
        text.append(&mut self.collect(|byte| byte != b']'));
        text.push(b']');
        self.skip();
        Token::Word(text)
    }

    /// Reads a comment. Comments nest; an unfinished comment takes the rest of the text.
    fn comment(&mut self) -> Token {
        let mut depth = 0_usize;
        while let Some(byte) = self.skip() {
            match byte {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\\' => drop(self.skip()),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        Token::Comment
    }

    /// Reads bytes up to the first one that `belongs` refuses. An escaped byte is always read.
    /// White space becomes a blank.
    fn collect(&mut self, belongs: impl Fn(u8) -> bool) -> Vec<u8> {
        let mut text = Vec::new();
        while let Some(&byte) = self.rest.first() {
            if byte != b'\\' && !belongs(byte) {
                break;
            }
            self.skip();
            let byte = if byte == b'\\' { self.skip() } else { Some(byte) };
            let Some(byte) = byte else { break };
            text.push(if is_space(byte) { b' ' } else { byte });
        }
        text
    }

    fn skip(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }
}

/// Reader of addresses from tokens, from right to left.
struct AddressReader {
    /// Tokens that are not read yet; the last one comes next.
    tokens: Vec<Token>,
    /// Tokens of the current address, last one first.
    gathered: Vec<Token>,
    /// Finished addresses, last first.
    addresses: Vec<Vec<u8>>,
}

impl AddressReader {
    fn new(tokens: Vec<Token>) -> Self {
        Self { tokens, gathered: Vec::new(), addresses: Vec::new() }
    }

    fn read(mut self) -> Vec<Vec<u8>> {
        let mut word_may_follow = true;
        let mut inside_group = false;
        while let Some(token) = self.tokens.pop() {
            let is_word = matches!(token, Token::Word(_));
            match token {
                Token::Comment => continue,
                Token::Operator(b',') => self.finish(),
                Token::Operator(b';') => {
                    self.finish();
                    inside_group = true;
                }
                Token::Operator(b':') if inside_group => {
                    self.finish();
                    self.skip_to(b",");
                    continue;
                }
                Token::Operator(b'>') => {
                    self.finish();
                    self.bracketed();
                    self.skip_to(b">;,:");
                    // The colon before a bracketed address belongs to the name that was skipped.
                    if !inside_group && self.tokens.last() == Some(&Token::Operator(b':')) {
                        self.tokens.pop();
                    }
                }
                Token::Word(_) if !word_may_follow => {
                    self.finish();
                    self.gathered.push(token);
                }
                Token::Word(_) | Token::Operator(_) => self.gathered.push(token),
            }
            word_may_follow = !is_word;
        }
        self.finish();
        self.addresses.reverse();
        self.addresses
    }

    /// Reads the inside of `<...>`, or of `...>` when the bracket is missing.
    fn bracketed(&mut self) {
        while let Some(token) = self.tokens.pop() {
            match token {
                Token::Operator(b'<') => break,
                Token::Comment => {}
                Token::Word(_) | Token::Operator(_) => self.gathered.push(token),
            }
        }
        self.finish();
    }

    /// Makes an address of the gathered tokens, if there are any.
    fn finish(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let mut address = Vec::new();
        for token in self.gathered.drain(..).rev() {
            match token {
                Token::Word(mut text) => address.append(&mut text),
                Token::Operator(operator) => address.push(operator),
                Token::Comment => {}
            }
        }
        self.addresses.push(address);
    }

    /// Drops tokens down to one of `separators`, which stays.
    fn skip_to(&mut self, separators: &[u8]) {
        let keep = self.tokens.iter().rposition(
            |token| matches!(token, Token::Operator(operator) if separators.contains(operator)),
        );
        self.tokens.truncate(keep.map_or(0, |position| position + 1));
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_atom(byte: u8) -> bool {
    !is_space(byte) && !OPERATORS.contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<String> {
        addresses(text.as_bytes()).into_iter().map(|a| String::from_utf8(a).unwrap()).collect()
    }

    #[test]
    fn a_list_with_names_groups_and_comments_is_read() {
        assert_eq!(
            read(r#"Ann (of A) <ann@a>, team: bob@b, "c d"@c;, <@relay:dan@d>, eve@[127.0.0.1]"#),
            ["ann@a", "bob@b", "c d@c", "@relay:dan@d", "eve@[127.0.0.1]"]
        );
    }

    #[test]
    fn addresses_outside_of_rfc_822_are_read() {
        assert_eq!(read("root"), ["root"]);
        assert_eq!(read("alice bob@x"), ["alice", "bob@x"]);
        assert_eq!(read("a@x,, ,b@x,"), ["a@x", "b@x"]);
        assert_eq!(read("host!user"), ["host!user"]);
        assert_eq!(read("|/prog, /file, :include:/l"), ["|/prog", "/file", ":include:/l"]);
        assert_eq!(read("a@b <c@d> <e@f>"), ["c@d", "e@f"]);
        assert_eq!(read("team: a@x, b@x"), ["team:a@x", "b@x"]);
        assert_eq!(read("Ann <ann@a"), ["Ann<ann@a"]);
    }

    #[test]
    fn empty_text_has_no_address_and_an_empty_quoted_string_is_one() {
        assert_eq!(read(""), Vec::<String>::new());
        assert_eq!(read(" <> (nobody), ;"), Vec::<String>::new());
        assert_eq!(read("\"\""), [""]);
    }

    #[test]
    fn quoting_is_removed_and_line_breaks_become_blanks() {
        assert_eq!(read(r#"a\@b@c"#), ["a@b@c"]);
        assert_eq!(read("\"a\r\nb\"@c, [d\\]\n e"), ["a  b@c", "[d]  e]"]);
        assert_eq!(read("a\\"), ["a"]);
    }

    proptest! {
        #[test]
        fn no_text_yields_an_address_with_a_line_break_or_more_bytes_than_itself(
            text in any::<Vec<u8>>(),
        ) {
            let all = addresses(&text);
            prop_assert!(all.iter().flatten().all(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
            // An unfinished domain literal gains its bracket.
            prop_assert!(all.iter().map(Vec::len).sum::<usize>() <= text.len() + 1);
        }

        #[test]
        fn plain_addresses_come_back_in_order(
            list in prop::collection::vec("[a-z]{1,8}@[a-z]{1,8}\\.[a-z]{2}", 0..6),
        ) {
            prop_assert_eq!(read(&list.join(", ")), list);
        }
    }
}
