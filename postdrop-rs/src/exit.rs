//! Exit codes of the programs.
//!
//! | code | name | when |
//! |---|---|---|
//! | 0 | | the message is durable |
//! | 64 | `Usage` | options or recipients are wrong |
//! | 65 | `Data` | the message can't be read, or its headers or addresses can't be used |
//! | 69 | `Unavailable` | the message is too big, or a part of the system is missing |
//! | 70 | `Software` | sender or recipient records are missing |
//! | 71 | `System` | the caller has no login name |
//! | 75 | `Temporary` | try again later: nothing was submitted, or, where the message says so, nobody knows |
//! | 77 | `Permission` | this user may not submit mail |
//!
//! The codes are those of sysexits(3), and stock `sendmail` names them in its source, but doesn't
//! end with them: its handler of fatal errors ends the program with 75 before the code is used,
//! whatever it was (seen with 3.7.11; the tests compare). What callers have lived with for twenty
//! years is 75 for every failure, so that is what ours ends with too; the code proper is kept with
//! the failure.

use host::limit::explained;
use postfix_wire::CleanupStatus;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the module says it")]
#[repr(u8)]
pub enum ExitCode {
    Usage = 64,
    Data = 65,
    Unavailable = 69,
    Software = 70,
    System = 71,
    Temporary = 75,
    Permission = 77,
}

impl ExitCode {
    /// Returns the exit code of `sendmail`: see above.
    pub fn as_stock(self) -> u8 {
        Self::Temporary as u8
    }

    /// For a message that was refused.
    pub fn of(status: CleanupStatus) -> Self {
        match status {
            _ if status.contains(CleanupStatus::BAD) => Self::Software,
            _ if status.contains(CleanupStatus::WRITE) => Self::Temporary,
            _ if status.contains(CleanupStatus::NOPERM) => Self::Permission,
            _ => Self::Unavailable,
        }
    }
}

/// A program ends without being able to say that the message is durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// With this code.
    pub code: ExitCode,
    /// And these words.
    pub message: String,
}

impl Failure {
    /// With a code and words.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: without_numbers(&explained(&message.into())) }
    }

    /// Wrong options or arguments.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// Something that may be better later.
    pub fn temporary(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Temporary, message)
    }

    /// Puts `who` in front of the words.
    #[must_use]
    pub fn of(self, who: &str) -> Self {
        Self { message: format!("{who}: {}", self.message), ..self }
    }

    /// Adds the words about another failure.
    #[must_use]
    pub fn and(self, other: Option<String>) -> Self {
        match other {
            Some(other) => Self { message: format!("{}; {other}", self.message), ..self },
            None => self,
        }
    }
}

/// Takes out ` (os error 28)`, which std puts behind the words of a system's error and Postfix
/// doesn't.
pub fn without_numbers(words: &str) -> String {
    let mut rest = words;
    let mut out = String::with_capacity(words.len());
    while let Some(at) = rest.find(OS_ERROR) {
        let after = &rest[at + OS_ERROR.len()..];
        let behind = after.trim_start_matches(|ch: char| ch.is_ascii_digit());
        let is_number = behind.len() < after.len() && behind.starts_with(')');
        let (kept, next) =
            if is_number { (at, &behind[1..]) } else { (at + OS_ERROR.len(), after) };
        out.push_str(&rest[..kept]);
        rest = next;
    }
    out + rest
}

/// The beginning of such a number.
const OS_ERROR: &str = " (os error ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_system_have_no_number_behind_them() {
        let error = std::io::Error::from_raw_os_error(28);
        let message = Failure::temporary(format!("write x: {error}; read y: {error}")).message;
        let twice =
            "write x: No space left on device; read y: No space left on device; make room on ";
        assert!(
            message.starts_with(twice) && message.matches("make room").count() == 1,
            "{message}"
        );
        for words in
            ["", "(os error 1)", "x (os error )", "x (os error 1", "x (os error y)", " (os error "]
        {
            assert_eq!(without_numbers(words), words);
        }
    }
}
