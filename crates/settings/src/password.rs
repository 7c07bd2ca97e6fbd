//! The password file. One reader, because every program that talks to Redis must take the same bytes for the password.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::{Redis, SettingsError};

/// No password is longer.
const PASSWORD_BYTES_MAX: u64 = 4_096;

impl Redis {
    /// The first line of `redis.password_file`; `None` if that is not set.
    ///
    /// Daemons call this while they are still root: the file is for root and `setgid_group`, and `mail_owner` is not in
    /// that group.
    pub fn password(&self) -> Result<Option<String>, SettingsError> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let failed = |source| SettingsError::PasswordFile { path: path.clone(), source };
        first_line(path).map(Some).map_err(failed)
    }
}

fn first_line(path: &Path) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(File::open(path)?.take(PASSWORD_BYTES_MAX)).read_line(&mut line)?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(content: &str) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, content).unwrap();
        Redis { password_file: Some(path), ..Redis::default() }.password().unwrap()
    }

    #[test]
    fn the_first_line_without_its_end_is_the_password() {
        for content in ["pass word", "pass word\n", "pass word\r\n", "pass word\nsecond\n"] {
            assert_eq!(password(content).as_deref(), Some("pass word"), "{content:?}");
        }
    }

    #[test]
    fn no_file_is_no_password_and_a_missing_one_is_an_error_that_names_it() {
        assert_eq!(Redis::default().password().unwrap(), None);
        let redis = Redis { password_file: Some("/nonexistent".into()), ..Redis::default() };
        let error = redis.password().unwrap_err().to_string();
        assert!(error.starts_with("redis.password_file: /nonexistent: "), "{error}");
    }
}
