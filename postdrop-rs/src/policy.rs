//! Users' rights to submit mail and to see the queue: `authorized_submit_users` and
//! `authorized_mailq_users`.
//!
//! The list is searched from left to right for the caller's login name (`unknown` if there is
//! none). The first pattern that matches decides: `!` in front of it denies. No match denies.
//! Patterns are names, lookup tables ([`crate::table`]), and files of patterns. A table or file
//! that can't answer ends the search with a temporary failure that names it. Such a failure neither
//! permits nor counts as "no match".
//!
//! The right to a sender's address is another rule: [`crate::sender`].
//!
//! Source: Postfix `user_acl(3)`, `match_list(3)`, `postconf(5)`.

use crate::exit::{ExitCode, Failure};
use crate::instance::Instance;
use crate::list::items;
use crate::log::{Log, Severity};
use crate::table::{Folding, Tables, Unanswered};

/// Deepest nesting of files of patterns.
const MAX_FILE_DEPTH: u32 = 10;

/// Entry of the list. An entry with an odd number of `!`s denies.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    denies: bool,
}

/// Checks that this user may submit mail. Fails with [`ExitCode::Permission`] if not, and with
/// another code if the list can't be read or searched.
pub fn may_submit(instance: &Instance, uid: u32, log: &Log) -> Result<(), Failure> {
    may("authorized_submit_users", "submit mail", instance, uid, log)
}

/// Checks that this user may see the queue. Root and the queue's owner always may. Fails as
/// [`may_submit`] does.
pub fn may_view_queue(instance: &Instance, uid: u32, log: &Log) -> Result<(), Failure> {
    let is_owner = || Ok(login_name(uid)?.is_some_and(|name| name == instance.text("mail_owner")));
    if uid == 0 || (!instance.text("authorized_mailq_users").starts_with("static:") && is_owner()?)
    {
        return Ok(());
    }
    may("authorized_mailq_users", "view the mail queue", instance, uid, log)
}

fn may(
    parameter: &'static str,
    what: &str,
    instance: &Instance,
    uid: u32,
    log: &Log,
) -> Result<(), Failure> {
    let list = instance.text(parameter);
    if list.starts_with("static:") {
        return Ok(());
    }
    let name = login_name(uid)?.unwrap_or_else(|| "unknown".to_owned());
    let search = Search { parameter, tables: Tables { instance, log } };
    let mut patterns = Vec::new();
    search.read(&list, false, 0, &mut patterns)?;
    if search.permits(&patterns, &name.to_lowercase())? {
        return Ok(());
    }
    Err(Failure::new(ExitCode::Permission, format!("User {name}({uid}) is not allowed to {what}")))
}

/// Asks the name service for a user's login name. Fails if the service doesn't answer, because the
/// user may be a known one.
pub(crate) fn login_name(uid: u32) -> Result<Option<String>, Failure> {
    let user = names::user(uid)
        .map_err(|error| Failure::temporary(format!("user ID {uid}: not looked up: {error}")))?;
    Ok(user.map(|user| String::from_utf8_lossy(&user.name).into_owned()))
}

/// Search in one list.
struct Search<'a> {
    parameter: &'static str,
    tables: Tables<'a>,
}

impl Search<'_> {
    /// Reads the whole list and its files. An error anywhere in the list is a failure for every
    /// user.
    fn read(
        &self,
        list: &str,
        denies: bool,
        depth: u32,
        patterns: &mut Vec<Pattern>,
    ) -> Result<(), Failure> {
        let mut rest = list;
        while let Some(item) = items(rest).next() {
            rest = after(rest, item);
            if item.starts_with('#') {
                let words = format!(
                    "{}: comment at end of line is not supported: {item} {rest}",
                    self.parameter
                );
                self.tables.log.say(Severity::Warning, &words);
                break;
            }
            let text = item.trim_start_matches('!');
            let denies = denies ^ ((item.len() - text.len()) % 2 == 1);
            if text.is_empty() {
                return Err(self.failure("no pattern after '!'"));
            } else if text.starts_with('/') {
                self.read_file(text, denies, depth, patterns)?;
            } else {
                patterns.push(Pattern { text: text.to_owned(), denies });
            }
        }
        Ok(())
    }

    /// Reads a file line by line, so that a comment ends with its line.
    fn read_file(
        &self,
        path: &str,
        denies: bool,
        depth: u32,
        patterns: &mut Vec<Pattern>,
    ) -> Result<(), Failure> {
        if depth >= MAX_FILE_DEPTH {
            return Err(
                self.failure(&format!("{path}: not read: files nested too deep; remove a level"))
            );
        }
        let text = std::fs::read(path).map_err(|error| {
            Failure::temporary(format!("open file {path}: {}", in_words(&error)))
        })?;
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.split_inclusive('\n').filter(|line| !line.starts_with('#'));
        lines.try_for_each(|line| self.read(line, denies, depth + 1, patterns))
    }

    /// Returns whether the list permits `key`, the login name in lower case.
    fn permits(&self, patterns: &[Pattern], key: &str) -> Result<bool, Failure> {
        for Pattern { text, denies } in patterns {
            let matches = if text.contains(':') && !text.starts_with('[') {
                let found = self.tables.lookup(text, key, Folding::Done);
                found.map_err(|unanswered| self.unusable(text, unanswered))?.is_some()
            } else {
                text.to_lowercase() == key
            };
            if matches {
                return Ok(!denies);
            }
        }
        Ok(false)
    }

    fn unusable(&self, table: &str, unanswered: Unanswered) -> Failure {
        match unanswered.unopened {
            Some(why) => Failure::temporary(why),
            None => self.failure(&format!("{table}: table lookup problem")),
        }
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::temporary(format!("{}: {what}", self.parameter))
    }
}

/// Returns the rest of the list after an item and its separator.
fn after<'a>(list: &'a str, item: &str) -> &'a str {
    let end = item.as_ptr() as usize - list.as_ptr() as usize + item.len();
    list.get(end + 1..).unwrap_or_default()
}

/// Returns the system's error text, without Rust's error number.
fn in_words(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |code| nix::Error::from_raw(code).desc().to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use postfix_wire::main_cf::MainCf;

    use super::*;

    fn search(list: &str) -> Result<bool, String> {
        let config_directory = Path::new("/nonexistent");
        let main_cf =
            MainCf::parse("command_directory = /nonexistent\n", config_directory, "x").unwrap();
        let instance = Instance { config_directory: config_directory.to_owned(), main_cf };
        let log = Log::new("sendmail");
        let search = Search { parameter: "x", tables: Tables { instance: &instance, log: &log } };
        let mut patterns = Vec::new();
        let read = search.read(list, false, 0, &mut patterns);
        read.and_then(|()| search.permits(&patterns, "ann")).map_err(|failure| failure.message)
    }

    #[test]
    fn the_first_match_decides_and_no_match_denies() {
        assert_eq!(search("bob, Ann"), Ok(true));
        assert_eq!(search("!ann, static:all"), Ok(false));
        assert_eq!(search("!bob static:all"), Ok(true));
        assert_eq!(search("!!ann"), Ok(true));
        assert_eq!(search("bob"), Ok(false));
        assert_eq!(search(""), Ok(false));
        assert_eq!(search("bob # ann"), Ok(false));
        assert!(search("ann, !").unwrap_err().contains("no pattern after"));
    }

    #[test]
    fn patterns_can_be_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, "# who may\nbob # ann\n!carol, ann\n").unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(search(path), Ok(true));
        assert_eq!(search(&format!("!{path}")), Ok(false));
        std::fs::write(path, path).unwrap();
        assert!(search(path).unwrap_err().contains("too deep"));
        assert_eq!(search("ann /none").unwrap_err(), "open file /none: No such file or directory");
    }

    #[test]
    fn a_table_that_can_not_be_asked_is_named_and_permits_nothing() {
        assert!(
            search("!hash:/etc/users, ann")
                .unwrap_err()
                .contains("hash:/etc/users: execute postmap")
        );
    }
}
