//! Lookup tables of the access rules: `type:name`, of any type that the installed Postfix knows.
//!
//! This module answers `static:` itself, because nearly every site has it. For all other types it
//! runs stock `postmap -q`, once per lookup. Their formats belong to Postfix and its plug-ins:
//! `hash`, `lmdb`, `cidr`, `pcre`, `ldap`, `proxy` and more. A set-group-id program is no place for
//! a second reader of them. See `docs/decisions/0010-*`.
//!
//! ```text
//! exit 0, a line          found
//! exit 1, no output       not found       (warnings may be printed)
//! any other end           unknown         the caller of `lookup` must not permit anything
//! ```
//!
//! postmap runs with the group's rights, as stock postdrop reads the tables, so a table may be
//! hidden from users. The user chooses only the key, which is a login name. The environment is the
//! administrator's (`import_environment`), the working directory is the queue's, and standard input
//! is `/dev/null`. The kernel keeps the user from tracing postmap.
//!
//! Source: Postfix `postmap(1)`, `dict_open(3)`, `clean_env(3)`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::instance::Instance;
use crate::list::{items, without_braces};
use crate::log::{Log, Severity};

/// Party that makes a key lower case, for tables with lower-case keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folding {
    /// The table makes the key lower case.
    ByTable,
    /// The caller has made the key lower case.
    Done,
}

/// Failure of a table to answer, which is neither "found" nor "not found".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Reason, if the table can't be opened; `None` if the lookup itself failed.
    pub unopened: Option<String>,
}

/// Lookup tables of one instance.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    /// Instance that has these tables.
    pub instance: &'a Instance,
    /// Log for trouble with the tables.
    pub log: &'a Log,
}

impl Tables<'_> {
    /// Returns the entry of `table` for `key`, or `None` if there is no entry.
    pub fn lookup(
        &self,
        table: &str,
        key: &str,
        folding: Folding,
    ) -> Result<Option<String>, Unanswered> {
        if table.split_once(':').is_none_or(|(_, name)| name.is_empty()) {
            let words =
                format!("open dictionary: expecting \"type:name\" form instead of \"{table}\"");
            return Err(Unanswered { unopened: Some(words) });
        }
        if let Some(value) = static_value(table) {
            return Ok(Some(value.to_owned()));
        }
        // postmap would take `-` for its standard input, and look up nothing for an empty key.
        if matches!(key, "-" | "") {
            return Err(unanswered(
                table,
                &format!("key {key:?}: not asked: postmap can't look this key up"),
            ));
        }
        let output = self.postmap(table, key, folding).output().map_err(host::limit::starting);
        let output =
            output.map_err(|error| unanswered(table, &format!("execute postmap: {error}")))?;
        self.judge(&output)
    }

    fn postmap(&self, table: &str, key: &str, folding: Folding) -> Command {
        let text = |name| self.instance.text(name);
        let mut command = Command::new(Path::new(&text("command_directory")).join("postmap"));
        command.arg0("postmap").env_clear().envs(settings(&text("import_environment")));
        command.env("MAIL_CONFIG", &self.instance.config_directory);
        command.current_dir(text("queue_directory")).stdin(nothing());
        if folding == Folding::Done {
            command.arg("-f");
        }
        command.args(["-q", key, "--", table]);
        command
    }

    fn judge(&self, output: &Output) -> Result<Option<String>, Unanswered> {
        let mut complaints = Vec::new();
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            let line = line.strip_prefix("postmap: ").unwrap_or(line);
            match line.strip_prefix("warning: ") {
                Some(warning) => self.log.say(Severity::Warning, warning),
                None => complaints.push(line.strip_prefix("fatal: ").unwrap_or(line).to_owned()),
            }
        }
        let found = String::from_utf8_lossy(&output.stdout);
        match (output.status.code(), complaints.is_empty()) {
            (Some(0), _) => Ok(Some(found.strip_suffix('\n').unwrap_or(&found).to_owned())),
            (Some(1), true) => Ok(None),
            _ => Err(Unanswered {
                unopened: complaints.pop().filter(|words| !words.starts_with("table ")),
            }),
        }
    }
}

/// Makes a pipe without a writer, since there may be no `/dev/null`.
fn nothing() -> Stdio {
    nix::unistd::pipe().map_or_else(|_| Stdio::null(), |(end, _)| end.into())
}

fn unanswered(table: &str, why: &str) -> Unanswered {
    Unanswered { unopened: Some(format!("{table}: {why}")) }
}

/// Returns the value that a static table has for every key. The rare forms with braces are left to
/// postmap.
fn static_value(table: &str) -> Option<&str> {
    table.strip_prefix("static:").filter(|value| !value.starts_with('{'))
}

/// Returns the variables that `import_environment` sets, without those it takes from the caller.
pub fn settings(import_environment: &str) -> Vec<(OsString, OsString)> {
    let os = |text: &str| OsString::from_vec(text.trim().as_bytes().to_vec());
    let item =
        |item| without_braces(item).split_once('=').map(|(name, value)| (os(name), os(value)));
    items(import_environment).filter_map(item).filter(|(name, _)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_table_has_one_value_for_all_keys() {
        assert_eq!(static_value("static:*"), Some("*"));
        assert_eq!(static_value("static:"), Some(""));
        assert_eq!(static_value("static:{ a b }"), None);
        assert_eq!(static_value("hash:static:"), None);
    }

    #[test]
    fn the_administrator_s_variables_are_those_with_a_value() {
        let all = settings("MAIL_CONFIG TZ LANG=C, { A = b c } =x");
        let all: Vec<_> =
            all.iter().map(|(n, v)| (n.to_str().unwrap(), v.to_str().unwrap())).collect();
        assert_eq!(all, [("LANG", "C"), ("A", "b c")]);
    }
}
