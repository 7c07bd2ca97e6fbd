//! Expansion of `$name` in values.
//!
//! ```text
//! text     = { literal | "$$" | "$" name | "${" expr "}" | "$(" expr ")" }
//! expr     = name                            its value, expanded
//!          | test "?" branch                 if the test is not empty
//!          | test ":" branch                 if the test is empty or undefined
//!          | test "?{" text "}" ":" branch   either
//!          | relation                        "true" or nothing
//! test     = name | relation
//! relation = "{" text "}" op "{" text "}"    op: == != < <= >= >, with `level` after it for
//!                                            compatibility levels
//! branch   = text | "{" text "}"
//! ```
//!
//! A test reads the unexpanded value, as in Postfix. The matching bracket is found by counting
//! brackets of its own kind only. An undefined name is empty.
//!
//! A parameter may refer to itself, and references that double grow exponentially. So depth, steps
//! and size have limits, which the errors name. Postfix limits only the depth.
//!
//! Source: `mac_parse(3)`, `mac_expand(3)`, `compat_level(3)`.

use std::borrow::Cow;
use std::cmp::Ordering;

/// Deepest nesting of references, as in Postfix.
pub const MAX_DEPTH: usize = 100;
/// Most literals and references that the expansion of one value may take.
pub const MAX_STEPS: usize = 100_000;
/// Most bytes of an expanded value.
pub const MAX_EXPANDED_BYTES: usize = 1024 * 1024;

/// Blanks that may surround operands.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// Error: a value can't be expanded. Postfix would log the same text and stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// `${` or `$(` has no end.
    #[error("truncated macro reference: {0:?}")]
    Truncated(String),
    /// `$` has no name.
    #[error("empty macro name: {0:?}")]
    EmptyName(String),
    /// A name has other characters than letters, digits and `_`.
    #[error("attribute name syntax error at: {0:?}")]
    Name(String),
    /// `{` has no `}`.
    #[error("unbalanced {{}} in attribute expression: {0:?}")]
    Unbalanced(String),
    /// Another form was expected at this place.
    #[error("{expected} expected at: {at:?}")]
    Expected {
        /// Expected form.
        expected: &'static str,
        /// Text at the place of the mistake.
        at: String,
    },
    /// A number is too large.
    #[error("bad conversion: {0}")]
    Number(String),
    /// A level isn't `major.minor.patch`.
    #[error("malformed compatibility level syntax: {0:?}")]
    Level(String),
    /// References are nested deeper than [`MAX_DEPTH`]: most likely a parameter refers to itself.
    #[error("unreasonable macro call nesting: {0:?}")]
    Depth(String),
    /// The expansion takes more than [`MAX_STEPS`] steps or [`MAX_EXPANDED_BYTES`] bytes.
    #[error("expands to more than {MAX_EXPANDED_BYTES} bytes or in more than {MAX_STEPS} steps")]
    Size,
}

/// Source of unexpanded values.
pub trait Lookup {
    /// Returns the unexpanded value, or `None` if the name is not defined.
    fn raw(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// Returns `text` with all references expanded. Fails at a syntax error or a limit.
pub fn expand(text: &str, lookup: &dyn Lookup) -> Result<String, ExpandError> {
    let mut steps = 0;
    Expander { lookup, steps: &mut steps, out: String::new() }.run(text, 0)
}

struct Expander<'a> {
    lookup: &'a dyn Lookup,
    steps: &'a mut usize,
    out: String,
}

impl Expander<'_> {
    fn run(mut self, text: &str, depth: usize) -> Result<String, ExpandError> {
        self.text(text, depth)?;
        Ok(self.out)
    }

    /// Expands an operand of a relation, with an output of its own.
    fn operand(&mut self, text: &str, depth: usize) -> Result<String, ExpandError> {
        Expander { lookup: self.lookup, steps: self.steps, out: String::new() }.run(text, depth + 1)
    }

    fn text(&mut self, text: &str, depth: usize) -> Result<(), ExpandError> {
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            self.literal(&rest[..at], depth)?;
            let after = &rest[at + 1..];
            rest = match after.strip_prefix('$') {
                Some(after) => {
                    self.literal("$", depth)?;
                    after
                }
                None => self.reference(text, after, depth)?,
            };
        }
        self.literal(rest, depth)
    }

    fn literal(&mut self, text: &str, depth: usize) -> Result<(), ExpandError> {
        if text.is_empty() {
            return Ok(());
        }
        self.step(text, depth)?;
        self.out.push_str(text);
        if self.out.len() > MAX_EXPANDED_BYTES { Err(ExpandError::Size) } else { Ok(()) }
    }

    fn step(&mut self, text: &str, depth: usize) -> Result<(), ExpandError> {
        *self.steps += 1;
        if depth > MAX_DEPTH {
            return Err(ExpandError::Depth(excerpt(text)));
        }
        if *self.steps > MAX_STEPS { Err(ExpandError::Size) } else { Ok(()) }
    }

    /// Expands the reference after a `$`. Returns the text after the reference.
    fn reference<'t>(
        &mut self,
        whole: &str,
        after: &'t str,
        depth: usize,
    ) -> Result<&'t str, ExpandError> {
        let (expression, rest) = match after.chars().next() {
            Some('{') => balanced(after, '{', '}'),
            Some('(') => balanced(after, '(', ')'),
            _ => Some(after.split_at(after.find(|ch| !is_name(ch)).unwrap_or(after.len()))),
        }
        .ok_or_else(|| ExpandError::Truncated(excerpt(whole)))?;
        if expression.is_empty() {
            return Err(ExpandError::EmptyName(excerpt(whole)));
        }
        self.step(expression, depth)?;
        self.expression(expression, depth)?;
        Ok(rest)
    }

    fn expression(&mut self, expression: &str, depth: usize) -> Result<(), ExpandError> {
        let trimmed = expression.trim_start_matches(BLANKS);
        let (value, operator, rest) = if trimmed.starts_with('{') {
            self.relation(trimmed, depth)?
        } else {
            self.named(trimmed)?
        };
        let is_set = value.as_ref().is_some_and(|value| !value.is_empty());
        match operator {
            None => self.text(&value.unwrap_or_default(), depth + 1),
            Some('?') => self.branches(is_set, rest, depth),
            Some(_) => {
                let (text, rest) = branch(rest)?;
                expect_end(rest)?;
                if is_set { Ok(()) } else { self.text(text, depth + 1) }
            }
        }
    }

    /// Expands the branches after a `?`: `text`, or `{text}` with an optional `:text`.
    fn branches(&mut self, is_set: bool, rest: &str, depth: usize) -> Result<(), ExpandError> {
        let (if_set, rest) = branch(rest)?;
        let if_unset = match rest.strip_prefix(':') {
            Some(rest) => {
                let (text, rest) = branch(rest)?;
                expect_end(rest)?;
                text
            }
            None if rest.is_empty() => "",
            None => return Err(expected("\":\"", rest)),
        };
        self.text(if is_set { if_set } else { if_unset }, depth + 1)
    }

    /// Reads a name and the operator after it. Returns the rest of the text, too.
    fn named<'t>(&self, text: &'t str) -> Result<Test<'t>, ExpandError> {
        let end = text.find(|ch| !is_name(ch)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let (operator, rest) = operator(rest).ok_or_else(|| ExpandError::Name(excerpt(rest)))?;
        Ok((self.lookup.raw(name).map(|value| value.into_owned().into()), operator, rest))
    }

    /// Reads a relation and the operator after it. Returns the rest of the text, too.
    fn relation<'t>(&mut self, text: &'t str, depth: usize) -> Result<Test<'t>, ExpandError> {
        let (left, rest) = payload(text)?;
        let (relation, rest) = Relation::parse(rest)?;
        let rest = rest.trim_start_matches(BLANKS);
        if !rest.starts_with('{') {
            return Err(expected("\"{expression}\"", rest));
        }
        let (right, rest) = payload(rest)?;
        let (left, right) = (self.operand(left, depth)?, self.operand(right, depth)?);
        let holds = relation.holds(&left, &right)?;
        let (operator, rest) = operator(rest).ok_or_else(|| expected("\"?\" or \":\"", rest))?;
        Ok((Some(if holds { "true" } else { "" }.into()), operator, rest))
    }
}

/// Value under test, operator after it, and the rest of the text.
type Test<'t> = (Option<Cow<'t, str>>, Option<char>, &'t str);

/// Reads `?` or `:` after blanks, or the end of the text. Returns the rest of the text, too.
fn operator(text: &str) -> Option<(Option<char>, &str)> {
    let text = text.trim_start_matches(BLANKS);
    match text.chars().next() {
        None => Some((None, text)),
        Some(ch @ ('?' | ':')) => Some((Some(ch), &text[1..])),
        Some(_) => None,
    }
}

/// Returns the inside of the braces and the rest, or all of a text without braces.
fn branch(text: &str) -> Result<(&str, &str), ExpandError> {
    let trimmed = text.trim_start_matches(BLANKS);
    if trimmed.starts_with('{') { payload(trimmed) } else { Ok((text, "")) }
}

/// Returns the inside of the braces that `text` starts with, and the rest without its leading
/// blanks.
fn payload(text: &str) -> Result<(&str, &str), ExpandError> {
    let (inner, rest) =
        balanced(text, '{', '}').ok_or_else(|| ExpandError::Unbalanced(excerpt(text)))?;
    Ok((inner, rest.trim_start_matches(BLANKS)))
}

/// Returns the text between the `open` that `text` starts with and the matching `close`, and the
/// rest. Returns `None` if the `close` is missing.
pub(crate) fn balanced(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    let mut level = 0usize;
    for (at, ch) in text.char_indices() {
        if ch == open {
            level += 1;
        } else if ch == close {
            level -= 1;
            if level == 0 {
                return Some((&text[1..at], &text[at + 1..]));
            }
        }
    }
    None
}

fn is_name(ch: char) -> bool {
    ch.is_ascii_alphanumeric() || ch == '_'
}

fn expect_end(rest: &str) -> Result<(), ExpandError> {
    if rest.is_empty() { Ok(()) } else { Err(expected("end of expression", rest)) }
}

fn expected(expected: &'static str, at: &str) -> ExpandError {
    ExpandError::Expected { expected, at: excerpt(at) }
}

/// Returns the part of `text` that an error shows.
fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Check whether a comparison holds for this order of its operands.
type Accepts = fn(Ordering) -> bool;

/// Comparison of two operands.
#[derive(Debug, Clone, Copy)]
struct Relation {
    accepts: Accepts,
    of_levels: bool,
}

impl Relation {
    const OPERATORS: [(&'static str, Accepts); 6] = [
        ("==", Ordering::is_eq),
        ("!=", Ordering::is_ne),
        ("<", Ordering::is_lt),
        ("<=", Ordering::is_le),
        (">=", Ordering::is_ge),
        (">", Ordering::is_gt),
    ];

    /// Reads the operator at the start of `text`. Returns the rest of the text, too.
    fn parse(text: &str) -> Result<(Self, &str), ExpandError> {
        let end = text.find(|ch| !"<>!=?+-*/~&|%".contains(ch)).unwrap_or(text.len());
        let (symbol, rest) = text.split_at(end);
        let (_, accepts) = Self::OPERATORS
            .into_iter()
            .find(|(known, _)| *known == symbol)
            .ok_or_else(|| expected("comparison", text))?;
        let end = rest.find(|ch: char| !ch.is_ascii_alphanumeric()).unwrap_or(rest.len());
        match rest.split_at(end) {
            ("", rest) => Ok((Self { accepts, of_levels: false }, rest)),
            ("level", rest) => Ok((Self { accepts, of_levels: true }, rest)),
            _ => Err(expected("known operator suffix", rest)),
        }
    }

    fn holds(self, left: &str, right: &str) -> Result<bool, ExpandError> {
        let order = if self.of_levels {
            level(left)?.cmp(&level(right)?)
        } else if is_digits(left) && is_digits(right) {
            number(left)?.cmp(&number(right)?)
        } else {
            left.as_bytes().cmp(right.as_bytes())
        };
        Ok((self.accepts)(order))
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(text: &str) -> Result<i64, ExpandError> {
    text.parse().map_err(|_| ExpandError::Number(excerpt(text)))
}

/// Reads a compatibility level: `major`, `major.minor` or `major.minor.patch`.
fn level(text: &str) -> Result<(i64, i64, i64), ExpandError> {
    const MAX_MAJOR: i64 = i64::MAX >> 20;
    const MAX_MINOR: i64 = 0x3ff;
    let malformed = || ExpandError::Level(excerpt(text));
    let part = |part: Option<&str>, max| match part {
        None => Ok(0),
        // C's strtol accepts leading blanks and a sign.
        Some(digits) => digits
            .trim_start_matches(crate::lines::is_space)
            .parse::<i64>()
            .ok()
            .filter(|number| (0..=max).contains(number))
            .ok_or_else(malformed),
    };
    let mut parts = text.splitn(3, '.');
    Ok((
        part(parts.next(), MAX_MAJOR)?,
        part(parts.next(), MAX_MINOR)?,
        part(parts.next(), MAX_MINOR)?,
    ))
}
