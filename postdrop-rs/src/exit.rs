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
//! | 75 | `Temporary` | try again later: nothing is submitted, or the error says in doubt |
//! | 77 | `Permission` | this user may not submit mail |
//!
//! The codes are those of sysexits(3). Stock `sendmail` names these codes in its source but never
//! exits with them. Its handler of fatal errors always exits with 75 (seen in 3.7.11; the tests
//! compare). Callers have relied on 75 for every failure for twenty years, so this `sendmail` exits
//! with 75, too. A [`Failure`] keeps its proper code.

use host::limit::explained;
use postfix_wire::CleanupStatus;

/// Exit code of a failure; see the module's table.
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
    /// Returns the exit code of stock `sendmail` for this failure.
    pub fn as_stock(self) -> u8 {
        Self::Temporary as u8
    }

    /// Returns the code for a refused message.
    pub fn of(status: CleanupStatus) -> Self {
        match status {
            _ if status.contains(CleanupStatus::BAD) => Self::Software,
            _ if status.contains(CleanupStatus::WRITE) => Self::Temporary,
            _ if status.contains(CleanupStatus::NOPERM) => Self::Permission,
            _ => Self::Unavailable,
        }
    }
}

/// Failure of a program to make the message durable, or to know that it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Exit code.
    pub code: ExitCode,
    /// Error text for the caller.
    pub message: String,
}

impl Failure {
    /// Makes a failure. [`host::limit::explained`] adds a remedy to `message` where a limit was
    /// reached.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: without_numbers(&explained(&message.into())) }
    }

    /// Makes a failure because of wrong options or arguments.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// Makes a failure that a later attempt may avoid.
    pub fn temporary(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Temporary, message)
    }

    /// Puts `who` before the message.
    #[must_use]
    pub fn of(self, who: &str) -> Self {
        Self { message: format!("{who}: {}", self.message), ..self }
    }

    /// Appends the message of another failure.
    #[must_use]
    pub fn and(self, other: Option<String>) -> Self {
        match other {
            Some(other) => Self { message: format!("{}; {other}", self.message), ..self },
            None => self,
        }
    }
}

/// Removes ` (os error 28)`, which std adds to the text of a system error and Postfix doesn't.
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

/// Text that std puts before the number of a system error.
const OS_ERROR: &str = " (os error ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_system_error_has_no_number() {
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
