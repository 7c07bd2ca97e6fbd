//! The password file. All programs that talk to Redis read it here, so that they take the same
//! bytes for the password.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::{EMBEDDED_SUBMITTER, Redis, Settings, SettingsError};

/// Limit of the bytes read of a password file: no password is longer.
const PASSWORD_BYTES_MAX: u64 = 4_096;

impl Redis {
    /// Returns the first line of `redis.password_file`; `None` if that is not set.
    ///
    /// Daemons call this while they are still root. The file is for root alone, or also for
    /// `setgid_group` where submission has no user of its own.
    pub fn password(&self) -> Result<Option<String>, SettingsError> {
        read("redis.password_file", self.password_file.as_deref())
    }
}

/// User and password for Redis.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// ACL user.
    pub user: Option<String>,
    /// Password of the user.
    pub password: Option<String>,
}

impl Settings {
    /// Whether submission has a user of its own.
    pub fn has_submitter(&self) -> bool {
        self.submit.user.is_some() || self.submit.password_file.is_some()
    }

    /// Returns the login of `sendmail` and `postdrop`. For the embedded Redis, the login is the
    /// user for submission. A password file that is set and can't be read is an error there too.
    pub fn submitter(&self) -> Result<Login, SettingsError> {
        let configured = self.configured_submitter()?;
        Ok(match self.redis.url {
            Some(_) => configured,
            None => {
                Login { user: Some(EMBEDDED_SUBMITTER.to_owned()), password: Some(String::new()) }
            }
        })
    }

    fn configured_submitter(&self) -> Result<Login, SettingsError> {
        Ok(match self.has_submitter() {
            true => Login {
                user: self.submit.user.clone(),
                password: read("submit.password_file", self.submit.password_file.as_deref())?,
            },
            false => Login { user: self.redis.user.clone(), password: self.redis.password()? },
        })
    }
}

fn read(setting: &'static str, path: Option<&Path>) -> Result<Option<String>, SettingsError> {
    let Some(path) = path else { return Ok(None) };
    let failed = |source| SettingsError::PasswordFile { setting, path: path.to_owned(), source };
    first_line(path).map(Some).map_err(failed)
}

fn first_line(path: &Path) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(host::file::open(path)?.take(PASSWORD_BYTES_MAX)).read_line(&mut line)?;
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
    fn submission_logs_in_as_the_daemons_do_unless_it_has_a_user_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, name).unwrap();
            Some(path)
        };
        let redis = Redis {
            url: Some("redis://mx".into()),
            user: Some("agent".into()),
            password_file: file("one"),
            memory_mb: None,
        };
        let mut settings = Settings { redis, ..Settings::default() };
        let login = |settings: &Settings| {
            let Login { user, password } = settings.submitter().unwrap();
            (user.unwrap_or_default(), password.unwrap_or_default())
        };
        assert_eq!(login(&settings), ("agent".into(), "one".into()));
        settings.submit.user = Some("mail".into());
        // The agents' password is never used with submission's own user.
        assert_eq!(login(&settings), ("mail".into(), String::new()));
        settings.submit.password_file = file("two");
        assert_eq!(login(&settings), ("mail".into(), "two".into()));
        settings.submit.password_file = Some("/nonexistent".into());
        let error = settings.submitter().map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("submit.password_file: /nonexistent: "), "{error}");
    }

    #[test]
    fn the_embedded_redis_has_a_user_for_submission() {
        let mut settings = Settings::default();
        settings.redis.user = Some("agent".into());
        settings.submit.user = Some("mail".into());
        let Login { user, password } = settings.submitter().unwrap();
        assert_eq!((user.as_deref(), password.as_deref()), (Some(EMBEDDED_SUBMITTER), Some("")));
        settings.submit.password_file = Some("/nonexistent".into());
        assert!(settings.submitter().is_err());
    }

    #[test]
    fn an_unset_password_file_is_no_password_and_a_missing_one_is_named() {
        assert_eq!(Redis::default().password().unwrap(), None);
        let redis = Redis { password_file: Some("/nonexistent".into()), ..Redis::default() };
        let error = redis.password().unwrap_err().to_string();
        assert!(error.starts_with("redis.password_file: /nonexistent: "), "{error}");
    }
}
