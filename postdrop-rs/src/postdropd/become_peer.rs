//! Change to the peer's user, in a second run of this program.
//!
//! The peer may stop (kill(2)) a child that runs as the peer's user, even before that child has
//! become postdrop. std's `spawn` waits until the child has become another program. So the peer
//! could make the server wait for as long as it likes. Therefore the child first becomes this
//! program again, still as root, and `spawn` waits only for that. The second run then takes on the
//! peer's user, and then becomes postdrop.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// First argument of the second run.
const BECOME: &str = "--become";
/// Path of this program, even if another file lies at its old path.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Returns the command that runs this program again, to take on the peer's user and then become
/// `postdrop`.
pub(super) fn command(postdrop: &Path, uid: u32, gid: u32) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("postdropd").args([BECOME, &uid.to_string(), &gid.to_string()]).arg(postdrop);
    command
}

/// Returns the reason why this program can't run itself again, or `None` if it can.
pub(super) fn trouble() -> Option<String> {
    let error = std::fs::symlink_metadata(THIS_PROGRAM).err()?;
    Some(format!("{THIS_PROGRAM}: needed to become other users: {error}; mount /proc"))
}

/// Takes on the peer's user and becomes postdrop, if the first argument says so. Returns the reason
/// of a failure, or `None` if the arguments don't ask for this.
pub(super) fn if_asked(arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let arguments: Vec<OsString> = arguments.collect();
    let [option, uid, gid, postdrop] = &arguments[..] else { return None };
    if option != BECOME {
        return None;
    }
    let (Some(uid), Some(gid)) = (number(uid), number(gid)) else {
        return Some(format!("{BECOME}: user or group is not a number"));
    };
    let mut command = Command::new(postdrop);
    // For a user other than root, `uid` also makes std drop all supplementary groups.
    let error = command.arg0("postdrop").arg("-r").uid(uid).gid(gid).exec();
    let error = host::limit::starting(error);
    Some(format!("execute {}: {error}", Path::new(postdrop).display()))
}

fn number(text: &OsStr) -> Option<u32> {
    text.to_str()?.parse().ok()
}
