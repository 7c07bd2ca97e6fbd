//! Becoming the peer, in a program of its own.
//!
//! From the moment when a child of ours has the peer's user, the peer may stop it (kill(2)), be it
//! before or after it has become postdrop. A parent that waits until its child has become another
//! program, as std's and every `spawn` does, would then wait for as long as the peer likes. So the
//! child first becomes this program again, still root, which is all that is waited for; and that
//! becomes the peer, and then postdrop.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The first argument.
const BECOME: &str = "--become";
/// This program, whatever lies at its path by now.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// This program, to become the peer and then `postdrop`.
pub(super) fn command(postdrop: &Path, uid: u32, gid: u32) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("postdropd").args([BECOME, &uid.to_string(), &gid.to_string()]).arg(postdrop);
    command
}

/// Why the program can't start itself again, if it can't.
pub(super) fn trouble() -> Option<String> {
    let error = std::fs::symlink_metadata(THIS_PROGRAM).err()?;
    Some(format!("{THIS_PROGRAM}: needed to become other users: {error}; mount /proc"))
}

/// Does so if asked to, and returns only if it can't: why.
pub(super) fn if_asked(arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let arguments: Vec<OsString> = arguments.collect();
    let [option, uid, gid, postdrop] = &arguments[..] else { return None };
    if option != BECOME {
        return None;
    }
    let (Some(uid), Some(gid)) = (number(uid), number(gid)) else {
        return Some(format!("{BECOME}: not a number"));
    };
    let mut command = Command::new(postdrop);
    // As another user than root it is a member of no other group: so says std.
    let error = command.arg0("postdrop").arg("-r").uid(uid).gid(gid).exec();
    let error = host::limit::starting(error);
    Some(format!("execute {}: {error}", Path::new(postdrop).display()))
}

fn number(text: &OsStr) -> Option<u32> {
    text.to_str()?.parse().ok()
}
