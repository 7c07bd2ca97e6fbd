//! Logical lines of `main.cf` and `master.cf`.
//!
//! A line that starts with whitespace continues the line before. Blank lines and comments (first
//! non-blank character `#`) are skipped, even before a continuation. A continuation without a line
//! before is ignored; Postfix also logs a warning.
//!
//! Source: `readlline(3)`.

/// Logical line: its text, and the number of its first physical line, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogicalLine {
    pub(crate) number: usize,
    pub(crate) text: String,
}

/// Returns all logical lines of a file. A line ends at its first NUL, because Postfix keeps lines
/// as C strings.
pub(crate) fn logical_lines(text: &str) -> Vec<LogicalLine> {
    let mut lines: Vec<LogicalLine> = Vec::new();
    let mut stray = false;
    for (index, line) in text.split('\n').enumerate() {
        let first = line.trim_start_matches(is_space).chars().next();
        if first.is_none() || first == Some('#') {
            continue;
        }
        let continues = line.starts_with(is_space);
        if continues && (stray || lines.is_empty()) {
            stray = true;
            continue;
        }
        stray = false;
        match lines.last_mut().filter(|_| continues) {
            Some(last) => last.text.push_str(line),
            None => lines.push(LogicalLine { number: index + 1, text: line.to_owned() }),
        }
    }
    for line in &mut lines {
        let end = line.text.find('\0').unwrap_or(line.text.len());
        line.text.truncate(end);
    }
    lines
}

/// Returns the result of C's `isspace` in the C locale.
pub(crate) fn is_space(ch: char) -> bool {
    matches!(ch, ' ' | '\t' | '\r' | '\n' | '\x0b' | '\x0c')
}

/// Splits `name = value` as Postfix does. Fails with Postfix's text if the name or the `=` is
/// missing.
pub(crate) fn split_nameval(text: &str) -> Result<(&str, &str), &'static str> {
    let text = text.trim_start_matches(is_space);
    let end = text.find(|ch| is_space(ch) || ch == '=').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Err("missing attribute name");
    }
    match rest.trim_start_matches(is_space).strip_prefix('=') {
        Some(value) => Ok((name, value.trim_matches(is_space))),
        None => Err("missing '=' after attribute name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(text: &str) -> Vec<(usize, String)> {
        logical_lines(text).into_iter().map(|line| (line.number, line.text)).collect()
    }

    #[test]
    fn comments_and_blanks_do_not_end_a_line() {
        let text = "# top\n\na = b\n# between\n  \t\n  c\n # indented\n\td\ne = f";
        assert_eq!(texts(text), [(3, "a = b  c\td".to_owned()), (9, "e = f".to_owned())]);
    }

    #[test]
    fn a_continuation_without_a_line_before_is_ignored() {
        assert_eq!(texts("  a = b\n  c\nd = e\n"), [(3, "d = e".to_owned())]);
    }

    #[test]
    fn names_and_values_are_split_as_by_postfix() {
        assert_eq!(split_nameval(" a=b = c "), Ok(("a", "b = c")));
        assert_eq!(split_nameval("a ="), Ok(("a", "")));
        assert_eq!(split_nameval("= b"), Err("missing attribute name"));
        assert_eq!(split_nameval("a b = c"), Err("missing '=' after attribute name"));
    }

    proptest! {
        #[test]
        fn any_text_has_lines(text in "(?s).{0,200}") {
            for line in logical_lines(&text) {
                prop_assert!(!line.text.starts_with(is_space));
                prop_assert!(!line.text.contains(['\n', '\0']));
                let _ = split_nameval(&line.text);
            }
        }
    }
}
