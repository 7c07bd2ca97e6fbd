//! `sendmail` and `postdrop`: they must be OPTIMUS's, and set-group-id.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Group, User};
use postfix_wire::MainCf;

use super::Problem;

const SET_GROUP_ID: u32 = 0o2000;
const EXECUTE: u32 = 0o111;
const WRITABLE: u32 = 0o022;

pub(super) fn check(main_cf: &MainCf) -> Vec<Problem> {
    let text = |name| main_cf.get(name).unwrap_or_default();
    let (owner, group) = (text("mail_owner"), text("setgid_group"));
    let mut problems = Vec::new();
    if !matches!(User::from_name(&owner), Ok(Some(_))) {
        problems.push(Problem::error(format!("mail_owner: no user {owner:?}; correct main.cf")));
    }
    let Ok(Some(group)) = Group::from_name(&group) else {
        problems.push(Problem::error(format!("setgid_group: no group {group:?}; correct main.cf")));
        return problems;
    };
    let sendmail = main_cf.get_path("sendmail_path").ok();
    let postdrop = main_cf.get_path("command_directory").ok().map(|folder| folder.join("postdrop"));
    for path in [sendmail, postdrop].into_iter().flatten() {
        problems.extend(program(&path, &group));
    }
    problems
}

fn program(path: &Path, group: &Group) -> Option<Problem> {
    let about = |text: String| format!("{}: {text}", path.display());
    match (path.metadata(), fs::read(path)) {
        (Ok(it), Ok(image)) if is_ours(&image) => {
            let text = privileges(it.mode(), Gid::from_raw(it.gid()) == group.gid, &group.name)?;
            Some(Problem::error(about(text)))
        }
        (Ok(_), Ok(_)) => Some(Problem::warning(about(
            "not OPTIMUS's, so its mail does not go to Redis; run `optimus install`".to_owned(),
        ))),
        (Err(error), _) | (_, Err(error)) => Some(Problem::error(about(error.to_string()))),
    }
}

/// Whether a program is OPTIMUS's: it has the name of the settings file, and Postfix's don't.
fn is_ours(image: &[u8]) -> bool {
    let name = settings::FILE_NAME.as_bytes();
    image.windows(name.len()).any(|it| it == name)
}

fn privileges(mode: u32, has_group: bool, group: &str) -> Option<String> {
    match () {
        () if !has_group => Some(format!("must belong to group {group}")),
        () if mode & SET_GROUP_ID == 0 => {
            Some(format!("must be set-group-id {group}, or users can't reach Redis"))
        }
        () if mode & EXECUTE != EXECUTE => Some("must be executable by everybody".to_owned()),
        () if mode & WRITABLE != 0 => Some("must be writable by its owner only".to_owned()),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_its_group_can_t_reach_redis() {
        assert_eq!(privileges(0o2755, true, "postdrop"), None);
        assert!(privileges(0o755, true, "postdrop").unwrap().contains("set-group-id postdrop"));
        assert!(privileges(0o2755, false, "postdrop").unwrap().contains("group postdrop"));
        assert!(privileges(0o2750, true, "postdrop").unwrap().contains("executable"));
        assert!(privileges(0o2775, true, "postdrop").unwrap().contains("writable"));
    }

    #[test]
    fn programs_of_optimus_are_told_from_postfix_s() {
        assert!(is_ours(b"\x7fELF....optimus.toml..."));
        assert!(!is_ours(b"\x7fELF....main.cf..."));
    }
}
