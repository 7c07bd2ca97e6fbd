//! A folder for one test, which is removed after the test, with all processes that work in it.
//!
//! A test may return or panic. Then `Drop` asks the processes to end, kills the rest, and removes
//! the folder. A test may also be killed, or be built with `panic=abort`. Then the guard does the
//! same: a shell that waits for the end of a pipe that only the test holds. Both find the test's
//! processes by their working directory, and so also children of master or an agent, and orphans.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::processes::{processes_under, send};
use crate::wait::until;

/// Environment variable that keeps the folders after the tests.
const KEEP_VARIABLE: &str = "OPTIMUS_TESTBED_KEEP";
/// Environment variable for the folder of scratch folders, instead of the system's temporary
/// directory.
const PARENT_VARIABLE: &str = "OPTIMUS_TESTBED_DIR";

/// Time for processes to end after SIGTERM.
const POLITE: Duration = Duration::from_secs(3);

/// Script of the guard. When the pipe ends without "done", it kills the processes in the folder and
/// removes it.
const GUARD: &str = r#"
trap '' INT TERM HUP QUIT
read -r word && [ "$word" = done ] && exit 0
for round in 1 2 3 4 5 6 7 8 9 10; do
    found=
    for process in /proc/[0-9]*; do
        case "$(readlink "$process/cwd" 2>/dev/null)/" in
            "$1"/*) kill -9 "${process#/proc/}" 2>/dev/null && found=yes ;;
        esac
    done
    [ -z "$found" ] && break
done
[ -n "$2" ] || { umount -l "$1"/* 2>/dev/null; rm -rf "$1"; }
"#;

/// A folder that any user can pass through, because Postfix's `mail_owner` must.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: bool,
    guard: Child,
}

impl Scratch {
    /// Makes the folder and its guard.
    pub fn new() -> Result<Self> {
        let parent = parent()?;
        let made = tempfile::Builder::new().prefix("optimus-").tempdir_in(&parent);
        let path =
            made.with_context(|| format!("{}: no scratch folder made", parent.display()))?.keep();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        let keep = std::env::var_os(KEEP_VARIABLE).is_some();
        let guard = guard(&path, keep).context("guard process (sh): not started")?;
        Ok(Self { path, keep, guard })
    }

    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder inside, with the permissions of `mkdir`.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Mounts a file system of `bytes` bytes on `folder`, which must lie inside a scratch folder.
    /// Fails where the kernel forbids that, as in most containers.
    pub fn mount(folder: &Path, bytes: usize) -> Result<()> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=755"), "none"]).arg(folder);
        let output = command.output().context("mount: not run")?;
        ensure!(
            output.status.success(),
            "{}: not mounted: {}",
            folder.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn unmount(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
        for place in places.filter(|place| place.starts_with(&self.path)) {
            let _ = Command::new("umount").arg("-l").arg(place).output();
        }
    }

    fn end_processes(&self) {
        let ask = |signal| {
            processes_under(&self.path).iter().for_each(|process| send(process.pid, signal));
        };
        let none = || processes_under(&self.path).is_empty();
        ask(Signal::SIGTERM);
        let _ = until(POLITE, "end of processes", none);
        let _ = until(POLITE, "end of killed processes", || {
            ask(Signal::SIGKILL);
            none()
        });
    }

    fn dismiss_guard(&mut self) {
        if let Some(mut pipe) = self.guard.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.guard.wait();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.end_processes();
        if self.keep {
            eprintln!("kept: {}", self.path.display());
        } else {
            self.unmount();
            let _ = std::fs::remove_dir_all(&self.path);
        }
        self.dismiss_guard();
    }
}

fn guard(path: &Path, keep: bool) -> std::io::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", GUARD, "optimus-guard"]).arg(path).arg(if keep { "keep" } else { "" });
    // In a group of its own, the guard doesn't get the terminal's Ctrl-C. In `/`, the guard doesn't
    // find itself.
    command.process_group(0).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// Returns the first place for temporary files that every user can pass through.
fn parent() -> Result<PathBuf> {
    let chosen = std::env::var_os(PARENT_VARIABLE).map_or_else(std::env::temp_dir, PathBuf::from);
    let places = [chosen, "/tmp".into(), "/var/tmp".into()];
    let open = |place: &&PathBuf| place.ancestors().all(anybody_may_pass);
    places.iter().find(open).cloned().with_context(|| {
        format!("{PARENT_VARIABLE}: not set to a folder that every user can enter")
    })
}

fn anybody_may_pass(folder: &Path) -> bool {
    std::fs::metadata(folder).is_ok_and(|metadata| metadata.mode() & 0o001 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a process that ignores SIGTERM, as a hanging daemon would.
    fn stubborn(folder: &Path) -> Child {
        let script = "trap '' TERM; echo ready; while :; do sleep 1000; done";
        let mut command = Command::new("sh");
        let mut child = command
            .args(["-c", script])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        child
    }

    #[test]
    fn dropping_a_folder_ends_its_processes_and_removes_it() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        let mut child = stubborn(&scratch.folder("work").unwrap());
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        drop(scratch);
        assert!(!reaper.join().unwrap().success());
        assert_eq!(processes_under(&path), Vec::new());
        assert!(!path.exists());
    }

    #[test]
    fn the_guard_cleans_up_when_the_test_can_not() {
        let mut scratch = Scratch::new().unwrap();
        let mut child = stubborn(scratch.path());
        drop(scratch.guard.stdin.take());
        scratch.guard.wait().unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!scratch.path().exists());
    }
}
