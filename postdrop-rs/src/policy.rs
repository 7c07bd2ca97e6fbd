//! Who may submit mail: `authorized_submit_users` and `local_login_sender_maps`.
//!
//! The list is searched from left to right for the caller's login name (`unknown` if there is none); the first pattern
//! that matches decides, `!` in front of it denies, no match denies. Patterns are names, `static:` tables, which match
//! everyone, and files of patterns. Other lookup tables can't be read here yet; a list that needs one denies, with a
//! message that names it, because the alternative is to let everybody through.
//!
//! Source: Postfix `user_acl(3)`, `match_list(3)`, `postconf(5)`.

use nix::unistd::{Uid, User};

use crate::exit::{ExitCode, Failure};
use crate::instance::Instance;

/// How deep files of patterns may name further files.
const MAX_FILE_DEPTH: u32 = 10;

/// What the list says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Permit,
    Deny,
    NoMatch,
}

/// May this user submit mail at all?
pub fn may_submit(instance: &Instance, uid: u32) -> Result<(), Failure> {
    let maps = instance.text("local_login_sender_maps");
    if !matches!(maps.as_str(), "" | "static:*") {
        return Err(unsupported("local_login_sender_maps", &maps));
    }
    let list = instance.text("authorized_submit_users");
    if list.starts_with("static:") {
        return Ok(());
    }
    // A name service that is away is no reason to take the caller for somebody else.
    let user = User::from_uid(Uid::from_raw(uid))
        .map_err(|error| Failure::temporary(format!("look up user ID {uid}: {error}")))?;
    let name = user.map_or_else(|| "unknown".to_owned(), |user| user.name);
    match search(&list, &name, 0)? {
        Verdict::Permit => Ok(()),
        Verdict::Deny | Verdict::NoMatch => Err(Failure::new(
            ExitCode::Permission,
            format!("User {name}({uid}) is not allowed to submit mail"),
        )),
    }
}

fn search(list: &str, name: &str, depth: u32) -> Result<Verdict, Failure> {
    for pattern in list.split([',', ' ', '\t', '\r', '\n']).filter(|pattern| !pattern.is_empty()) {
        let plain = pattern.trim_start_matches('!');
        let denies = (pattern.len() - plain.len()) % 2 == 1;
        match matches(plain, name, depth)? {
            Verdict::NoMatch => {}
            Verdict::Permit if denies => return Ok(Verdict::Deny),
            Verdict::Deny if denies => return Ok(Verdict::Permit),
            verdict => return Ok(verdict),
        }
    }
    Ok(Verdict::NoMatch)
}

fn matches(pattern: &str, name: &str, depth: u32) -> Result<Verdict, Failure> {
    if pattern.starts_with('/') {
        return search(&read_patterns(pattern, depth)?, name, depth + 1);
    }
    if pattern.contains(':') && !pattern.starts_with("static:") {
        return Err(unsupported("authorized_submit_users", pattern));
    }
    let matches = pattern.starts_with("static:") || pattern.eq_ignore_ascii_case(name);
    Ok(if matches { Verdict::Permit } else { Verdict::NoMatch })
}

fn read_patterns(path: &str, depth: u32) -> Result<String, Failure> {
    if depth >= MAX_FILE_DEPTH {
        return Err(Failure::temporary(format!("authorized_submit_users: {path}: files nest too deep")));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::temporary(format!("authorized_submit_users: open {path}: {error}")))?;
    Ok(text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n"))
}

fn unsupported(parameter: &str, table: &str) -> Failure {
    Failure::temporary(format!(
        "{parameter}: lookup table {table:?} is not yet supported; nobody may submit mail"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_decides_and_no_match_denies() {
        let verdict = |list: &str| search(list, "ann", 0).unwrap();
        assert_eq!(verdict("bob, Ann"), Verdict::Permit);
        assert_eq!(verdict("!ann, static:all"), Verdict::Deny);
        assert_eq!(verdict("!bob static:all"), Verdict::Permit);
        assert_eq!(verdict("!!ann"), Verdict::Permit);
        assert_eq!(verdict("bob"), Verdict::NoMatch);
        assert_eq!(verdict(""), Verdict::NoMatch);
    }

    #[test]
    fn patterns_can_be_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, "# who may\nbob\n!carol, ann\n").unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(search(path, "ann", 0).unwrap(), Verdict::Permit);
        assert_eq!(search(path, "carol", 0).unwrap(), Verdict::Deny);
        assert_eq!(search(&format!("!{path}"), "ann", 0).unwrap(), Verdict::Deny);
        std::fs::write(path, path).unwrap();
        assert!(search(path, "ann", 0).unwrap_err().message.contains("too deep"));
    }

    #[test]
    fn a_table_that_can_not_be_read_denies_and_is_named() {
        assert!(search("hash:/etc/users", "ann", 0).unwrap_err().message.contains("hash:/etc/users"));
    }
}
