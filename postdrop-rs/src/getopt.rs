//! Command lines as getopt(3) reads them, where options end at the first operand.
//!
//! ```text
//! -ti        two options
//! -fann      one with its value attached
//! -f ann     one with its value in the next argument, of any form
//! --         ends the options
//! ```
//!
//! Two readers read one command line, because the meaning of options depends on a configuration
//! that an option names. `sendmail` also has arguments of another form, so a reader can look at the
//! next argument and skip it.
//!
//! Source: POSIX `getopt`; glibc's words for mistakes.

/// Item that a reader finds on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLineItem {
    /// Option, and its value, which is empty for an option without one.
    Option(u8, Vec<u8>),
    /// Mistake in an option.
    Wrong(Mistake),
}

/// Mistake on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// No option has this letter.
    Unknown(u8),
    /// The option takes a value, but the command line ends.
    NoValue(u8),
}

impl Mistake {
    /// Returns glibc's message, which follows the program's name. The letter comes from the caller
    /// and may be any byte.
    pub fn words(self) -> Vec<u8> {
        let (what, letter) = match self {
            Self::Unknown(letter) => ("invalid option", letter),
            Self::NoValue(letter) => ("option requires an argument", letter),
        };
        [what.as_bytes(), b" -- '", &[letter], b"'"].concat()
    }
}

/// Option letters in getopt(3)'s form: a `:` follows each letter that takes a value.
pub type Letters = &'static [u8];

/// Reader of a command line without the program's name.
#[derive(Debug, Clone)]
pub struct Getopt {
    letters: Letters,
    arguments: Vec<Vec<u8>>,
    index: usize,
    /// Number of bytes that were read of the argument at `index`.
    within: usize,
}

impl Getopt {
    /// Makes a reader that stands before the first argument.
    pub fn new(letters: Letters, arguments: Vec<Vec<u8>>) -> Self {
        Self { letters, arguments, index: 0, within: 0 }
    }

    /// Returns the argument that is read next or was begun, and the argument after that.
    pub fn ahead(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        let at = |index| self.arguments.get(index).map(Vec::as_slice);
        (at(self.index), at(self.index + 1))
    }

    /// Skips the next argument.
    pub fn pass_over(&mut self) {
        self.index += 1;
        self.within = 0;
    }

    /// Returns the operands.
    pub fn operands(self) -> Vec<Vec<u8>> {
        self.arguments.into_iter().skip(self.index).collect()
    }

    fn takes_value(&self, letter: u8) -> Option<bool> {
        let known = !matches!(letter, b':' | b';');
        let at = self.letters.iter().position(|&known| known == letter).filter(|_| known)?;
        Some(self.letters.get(at + 1) == Some(&b':'))
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        let attached = self.arguments[self.index][self.within..].to_vec();
        self.pass_over();
        if !attached.is_empty() {
            return Some(attached);
        }
        let value = self.arguments.get(self.index).cloned()?;
        self.pass_over();
        Some(value)
    }
}

impl Iterator for Getopt {
    type Item = CommandLineItem;

    fn next(&mut self) -> Option<CommandLineItem> {
        let argument = self.arguments.get(self.index)?;
        if self.within == 0 {
            if argument == b"--" {
                self.pass_over();
                return None;
            }
            if argument.len() < 2 || argument[0] != b'-' {
                return None;
            }
            self.within = 1;
        }
        let letter = argument[self.within];
        self.within += 1;
        let takes_value = self.takes_value(letter);
        if takes_value == Some(true) {
            let value = self.value();
            return Some(value.map_or(CommandLineItem::Wrong(Mistake::NoValue(letter)), |v| {
                CommandLineItem::Option(letter, v)
            }));
        }
        if self.within == self.arguments[self.index].len() {
            self.pass_over();
        }
        Some(match takes_value {
            Some(_) => CommandLineItem::Option(letter, Vec::new()),
            None => CommandLineItem::Wrong(Mistake::Unknown(letter)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> (Vec<String>, Vec<String>) {
        let arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        let mut getopt = Getopt::new(b"ab:c", arguments);
        let mut found = Vec::new();
        for one in getopt.by_ref() {
            found.push(match one {
                CommandLineItem::Option(letter, value) => {
                    format!("{}={}", char::from(letter), String::from_utf8(value).unwrap())
                }
                CommandLineItem::Wrong(mistake) => String::from_utf8(mistake.words()).unwrap(),
            });
        }
        (found, getopt.operands().into_iter().map(|o| String::from_utf8(o).unwrap()).collect())
    }

    #[test]
    fn letters_are_bundled_and_values_attached_or_next() {
        let (found, operands) = read(&["-acb1", "-b", "-a", "-b", "--", "x", "-a"]);
        assert_eq!(found, ["a=", "c=", "b=1", "b=-a", "b=--"]);
        assert_eq!(operands, ["x", "-a"]);
    }

    #[test]
    fn options_end_at_two_dashes_at_one_dash_and_at_an_empty_argument() {
        assert_eq!(read(&["-a", "--", "-c"]).1, ["-c"]);
        assert_eq!(read(&["-", "-c"]).1, ["-", "-c"]);
        assert_eq!(read(&["", "-c"]).1, ["", "-c"]);
    }

    #[test]
    fn a_mistake_is_reported_and_the_rest_is_read() {
        let (found, operands) = read(&["-xa:", "-b"]);
        assert_eq!(
            found,
            [
                "invalid option -- 'x'",
                "a=",
                "invalid option -- ':'",
                "option requires an argument -- 'b'"
            ]
        );
        assert!(operands.is_empty());
    }
}
