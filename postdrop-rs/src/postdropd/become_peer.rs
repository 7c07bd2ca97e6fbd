//! Change to the peer's user, in a program of its own.
//!
//! A child with the peer's user may be stopped by the peer (kill(2)), even before it has become
//! postdrop. std's `spawn`, as any other, waits until the child has become another program. So the
//! peer could make it wait for as long as it likes. Therefore the child first becomes this program
//! again, still as root, and `spawn` waits only for that. This second program then becomes the
//! peer, and then postdrop.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// First argument of the second program.
const BECOME: &str = "--become";
/// Path of this program, even if another file lies at its old path.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Returns the command that runs this program, to become the peer and then `postdrop`.
pub(super) fn command(postdrop: &Path, uid: u32, gid: u32) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("postdropd").args([BECOME, &uid.to_string(), &gid.to_string()]).arg(postdrop);
    command
}

/// Returns the reason why the program can't start itself again, if it can't.
pub(super) fn trouble() -> Option<String> {
    let error = std::fs::symlink_metadata(THIS_PROGRAM).err()?;
    Some(format!("{THIS_PROGRAM}: needed to become other users: {error}; mount /proc"))
}

/// Becomes the peer if the first argument says so. Returns only on failure, with the reason.
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
    // With another user than root, std drops all other groups.
    let error = command.arg0("postdrop").arg("-r").uid(uid).gid(gid).exec();
    let error = host::limit::starting(error);
    Some(format!("execute {}: {error}", Path::new(postdrop).display()))
}

fn number(text: &OsStr) -> Option<u32> {
    text.to_str()?.parse().ok()
}
