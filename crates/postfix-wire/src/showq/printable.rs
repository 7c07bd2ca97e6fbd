//! Conversion of an envelope's bytes to text that can't harm a terminal or break a line.

use crate::address::externalize;

/// Charset that the reader of a listing understands, as `smtputf8_enable` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// ASCII alone.
    Ascii,
    /// All valid UTF-8.
    Utf8,
}

/// Returns an envelope's address in the form of listings.
pub fn address(raw: &[u8], charset: Charset) -> String {
    text(&externalize(raw), charset)
}

/// Returns the text with `?` for each byte that can't be printed.
pub(super) fn text(bytes: &[u8], charset: Charset) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let shown = |c: char| match (c.is_ascii(), charset) {
            (true, _) if !c.is_ascii_control() => (c, 1),
            (false, Charset::Utf8) => (c, 1),
            (true, _) | (false, Charset::Ascii) => ('?', c.len_utf8()),
        };
        out.extend(
            chunk.valid().chars().map(shown).flat_map(|(c, times)| std::iter::repeat_n(c, times)),
        );
        out.extend(chunk.invalid().iter().map(|_| '?'));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_part_is_quoted_where_it_must_be() {
        for (raw, shown) in [
            (&b"ann@example.org"[..], "ann@example.org"),
            (b"ann b@example.org", "\"ann b\"@example.org"),
            (b".ann@x", "\".ann\"@x"),
            (b"a..b@x", "\"a..b\"@x"),
            (b"a\"\\b@x", "\"a\\\"\\\\b\"@x"),
            (b"a@b@c", "\"a@b\"@c"),
            (b"@r:a b@c", "@r:\"a b\"@c"),
            (b"", "\"\""),
            (b"|/bin/prog x", "\"|/bin/prog x\""),
            (b"a\nb@x", "\"a?b\"@x"),
        ] {
            assert_eq!(address(raw, Charset::Utf8), shown);
        }
    }

    #[test]
    fn an_unprintable_byte_is_a_question_mark() {
        assert_eq!(text("caf\u{e9}\x07\x7f".as_bytes(), Charset::Utf8), "caf\u{e9}??");
        assert_eq!(text("caf\u{e9}".as_bytes(), Charset::Ascii), "caf??");
        assert_eq!(text(b"a\xffb", Charset::Utf8), "a?b");
    }
}
