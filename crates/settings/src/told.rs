//! An error and its causes as one line, for a program's end: logs and supervisors cut at line
//! breaks.

use std::error::Error;

/// Returns the error, then each of its causes. A cause that the error's own text contains already
/// is left out.
pub fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = one_line(&error.to_string());
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    for cause in causes.map(|cause| one_line(&cause.to_string())) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("x: {source}")]
    struct Doubling {
        source: std::io::Error,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("start")]
    struct Silent {
        source: Doubling,
    }

    #[test]
    fn each_cause_is_told_once_and_on_one_line() {
        let error = Silent { source: Doubling { source: std::io::Error::other("no\n  way\n") } };
        assert_eq!(told(&error), "start: x: no; way");
    }
}
