//! Options of postdropd.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::exit::Failure;

/// Options, with the defaults that [`crate::postdropd`] explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Configuration directory of `-c`.
    pub(super) config_directory: Option<PathBuf>,
    /// Most connections in all.
    pub(super) connections: usize,
    /// Most connections of one user.
    pub(super) connections_per_user: usize,
    /// Longest time for which a peer may be silent, or leave an answer unread.
    pub(super) idle: Duration,
    /// Longest time of a connection.
    pub(super) total: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config_directory: None,
            connections: 512,
            connections_per_user: 64,
            // Pauses of 300 s between two commands are allowed in SMTP on standard input.
            idle: Duration::from_secs(600),
            total: Duration::from_secs(3_600),
        }
    }
}

impl Options {
    /// Parses the command line.
    pub(super) fn parse(mut arguments: impl Iterator<Item = Vec<u8>>) -> Result<Self, Failure> {
        let mut options = Self::default();
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(usage);
            match &name[..] {
                b"-c" => options.config_directory = Some(OsString::from_vec(value()?).into()),
                b"--connections" => options.connections = number(&value()?)?,
                b"--connections-per-user" => options.connections_per_user = number(&value()?)?,
                b"--idle-s" => options.idle = Duration::from_secs(number(&value()?)?),
                b"--total-s" => options.total = Duration::from_secs(number(&value()?)?),
                _ => return Err(usage()),
            }
        }
        Ok(options)
    }
}

/// Parses a number of at least 1. No sensible bound needs more digits than `u32` has.
fn number<N: TryFrom<u32>>(text: &[u8]) -> Result<N, Failure> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u32>().ok());
    number
        .filter(|number| *number > 0)
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(usage)
}

fn usage() -> Failure {
    Failure::usage(
        "usage: postdropd [-c config_dir] [--connections N] [--connections-per-user N] [--idle-s \
            N] [--total-s N]",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, Failure> {
        Options::parse(text.split_ascii_whitespace().map(|word| word.as_bytes().to_vec()))
    }

    #[test]
    fn an_option_that_is_not_set_keeps_its_default() {
        assert_eq!(parse("").unwrap(), Options::default());
        let options = parse("-c /x --connections 7 --idle-s 9").unwrap();
        assert_eq!((options.config_directory, options.connections), (Some("/x".into()), 7));
        assert_eq!(
            (options.idle, options.total),
            (Duration::from_secs(9), Options::default().total)
        );
    }

    #[test]
    fn an_invalid_option_is_refused() {
        for text in
            ["-x", "x", "-c", "--idle-s", "--idle-s 0", "--connections -1", "--total-s 4294967296"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
