//! Processes in the kernel's `/proc`, with their parents, folders and states.

use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process at the time of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Id of the process.
    pub pid: i32,
    /// Id of the parent process.
    pub parent: i32,
    /// Name of the program, at most 15 bytes.
    pub name: String,
}

impl Process {
    fn look(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (open, close) = (stat.find('(')?, stat.rfind(')')?);
        let mut rest = stat[close + 1..].split_ascii_whitespace();
        let state = rest.next()?;
        let parent = rest.next()?.parse().ok()?;
        (state != "Z").then(|| Self { pid, parent, name: stat[open + 1..close].to_owned() })
    }
}

/// Whether this process runs. A zombie doesn't.
pub(crate) fn is_alive(pid: i32) -> bool {
    Process::look(pid).is_some()
}

/// Returns the children of `parent`.
pub(crate) fn children(parent: i32) -> Vec<Process> {
    pids()
        .into_iter()
        .filter_map(Process::look)
        .filter(|process| process.parent == parent)
        .collect()
}

/// Returns the processes whose working directory is `folder` or lies in it.
pub fn processes_under(folder: &Path) -> Vec<Process> {
    let inside =
        |pid: &i32| working_directory(*pid).is_some_and(|directory| directory.starts_with(folder));
    pids().into_iter().filter(inside).filter_map(Process::look).collect()
}

/// Kills a process with SIGKILL, so that none of its handlers runs.
pub fn kill_9(pid: i32) {
    send(pid, Signal::SIGKILL);
}

/// Sends a signal. A process that has ended is no error.
pub(crate) fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

fn working_directory(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

fn pids() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_child_is_seen_in_its_folder_and_under_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let mut child =
            Command::new("sleep").arg("1000").current_dir(folder.path()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(processes_under(folder.path()).iter().any(|process| process.pid == pid));
        assert!(children(me).iter().any(|process| process.pid == pid));
        kill_9(pid);
        child.wait().unwrap();
        assert!(!is_alive(pid));
        assert_eq!(processes_under(folder.path()), Vec::new());
    }
}
