//! Limits that were reached, and the ways to raise them.
//!
//! An error's text names the refusal by the kernel or Redis ("Too many open files"). The text
//! neither tells which of several limits was reached, nor how to raise that limit. All texts for
//! people pass through here on their way to standard error, the mail log or a client. [`explained`]
//! adds the remedy to the end of the line, in the form `object: what failed: cause; remedy`.
//!
//! Two error numbers stand for one limit or another, depending on the system call. So the caller
//! converts them at once: [`watching`] for inotify, [`starting`] for processes.
//!
//! Source: `errno(3)`, `getrlimit(2)`, `inotify(7)`, `fork(2)`; Redis's `networking.c`, `server.c`.

use std::borrow::Cow;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// Texts of which each shows that one limit was reached, and the remedy.
type Limit = (&'static [&'static str], &'static str);

const LIMITS: [Limit; 14] = [
    (
        &["(os error 24)", "EMFILE: "],
        "raise the open files of this process (RLIMIT_NOFILE: `ulimit -n`, or LimitNOFILE= of its \
            service)",
    ),
    (
        &["(os error 23)", "ENFILE: "],
        "raise the open files of the whole system (sysctl fs.file-max), or end the process that \
            has most of them open",
    ),
    (
        &["(os error 12)", "ENOMEM: "],
        "raise the memory of this process (`ulimit -v`, `-d`, MemoryMax= of its service), or add \
            memory",
    ),
    (
        &["(os error 7)", "E2BIG: "],
        "give fewer or shorter arguments, or raise the stack of this process (`ulimit -s`)",
    ),
    (
        &["(os error 28)", "ENOSPC: "],
        "make room on that file system (`df -h`, and `df -i` for its inodes)",
    ),
    (
        &["(os error 122)", "EDQUOT: "],
        "raise the disk quota of the user or group (`quota`), or make room within the quota",
    ),
    (
        &["(os error 27)", "EFBIG: "],
        "raise the file size of this process (RLIMIT_FSIZE: `ulimit -f`)",
    ),
    (
        &["(os error 105)", "ENOBUFS: "],
        "raise the memory of sockets (sysctl net.core.wmem_max), or add memory",
    ),
    (
        &["max number of clients reached"],
        "raise `maxclients` in redis.conf (and the open files of Redis), or set `timeout 20`",
    ),
    (
        &["OOM command not allowed"],
        "raise `maxmemory` of Redis (`redis.memory_mb` for that of `optimus run`), or let mail \
            leave",
    ),
    (&["MISCONF"], "make room on the disk of Redis, and see its log"),
    (
        &["invalid bulk length", "string exceeds maximum allowed size"],
        "raise `proto-max-bulk-len` in redis.conf, or lower `message_size_limit`",
    ),
    (&[BACKLOG], "raise `tcp-backlog` in redis.conf and sysctl net.core.somaxconn"),
    (
        &[PROCESSES],
        "raise `ulimit -u` of the user, pids.max of the control group, or TasksMax= of the service",
    ),
];

/// Text about a server whose queue of connections is full.
pub const BACKLOG: &str = "the queue of connections is full";
const PROCESSES: &str = "RLIMIT_NPROC or pids.max was reached";

/// Returns the text, with the remedy for each limit that it names. A second call adds nothing.
pub fn explained(words: &str) -> Cow<'_, str> {
    let (line, end) = words.strip_suffix('\n').map_or((words, ""), |line| (line, "\n"));
    let is_reached = |signs: &[&str]| signs.iter().any(|sign| line.contains(sign));
    let missing =
        LIMITS.iter().filter(|(signs, remedy)| is_reached(signs) && !line.contains(remedy));
    let remedies: String = missing.map(|(_, remedy)| format!("; {remedy}")).collect();
    if remedies.is_empty() {
        Cow::Borrowed(words)
    } else {
        Cow::Owned(format!("{line}{remedies}{end}"))
    }
}

/// Explains a line of bytes. One that isn't UTF-8 stays as it is.
pub fn explained_line(line: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(line).map(explained) {
        Ok(Cow::Owned(words)) => Cow::Owned(words.into_bytes()),
        Ok(Cow::Borrowed(_)) | Err(_) => Cow::Borrowed(line),
    }
}

/// Converts an error of inotify, and adds the remedy. inotify reports its limit of instances with
/// the error number of open files, and its limit of watches with that of full disks.
pub fn watching(errno: Errno) -> io::Error {
    match errno {
        Errno::EMFILE if has_descriptors() => io::Error::other(
            "the user has no inotify instance left; raise sysctl fs.inotify.max_user_instances \
             (user.max_inotify_instances in a user namespace)",
        ),
        Errno::ENOSPC => io::Error::other(
            "the user has no inotify watch left; raise sysctl fs.inotify.max_user_watches \
             (user.max_inotify_watches in a user namespace)",
        ),
        errno => errno.into(),
    }
}

/// Converts an error from the start of a process, so that [`explained`] recognizes a limit of
/// processes.
pub fn starting(error: io::Error) -> io::Error {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN) => io::Error::other(format!("{error}: {PROCESSES}")),
        _ => error,
    }
}

/// Whether this process may open one more file.
fn has_descriptors() -> bool {
    use std::os::fd::{FromRawFd, OwnedFd};
    match fcntl(io::stderr(), FcntlArg::F_DUPFD_CLOEXEC(0)) {
        Ok(copy) => {
            #[allow(unsafe_code, reason = "the only way to close a number")]
            // SAFETY: fcntl has just made this descriptor, and no other code knows its number.
            drop(unsafe { OwnedFd::from_raw_fd(copy) });
            true
        }
        Err(error) => error != Errno::EMFILE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: Errno) -> String {
        explained(&format!("open x: {}", io::Error::from(errno))).into_owned()
    }

    #[test]
    fn each_limit_is_named_with_its_remedy() {
        for (errno, remedy) in [
            (Errno::EMFILE, "RLIMIT_NOFILE"),
            (Errno::ENFILE, "fs.file-max"),
            (Errno::ENOMEM, "MemoryMax="),
            (Errno::E2BIG, "ulimit -s"),
            (Errno::ENOSPC, "make room"),
            (Errno::EDQUOT, "quota"),
            (Errno::EFBIG, "ulimit -f"),
            (Errno::ENOBUFS, "net.core.wmem_max"),
        ] {
            let told = of(errno);
            assert!(told.starts_with("open x: ") && told.contains(remedy), "{told}");
            assert_eq!(explained(&told), told, "said twice");
            let line = format!("open x: {errno}\n");
            assert!(explained(&line).contains(remedy) && explained(&line).ends_with('\n'));
        }
        for (words, remedy) in [
            ("ERR max number of clients reached", "maxclients"),
            ("OOM command not allowed when used memory > 'maxmemory'.", "redis.memory_mb"),
            ("MISCONF Redis is configured to save RDB snapshots", "disk of Redis"),
            ("ERR Protocol error: invalid bulk length", "proto-max-bulk-len"),
            (BACKLOG, "net.core.somaxconn"),
        ] {
            assert!(explained(words).contains(remedy), "{words}");
        }
    }

    #[test]
    fn other_words_stay_as_they_are() {
        for words in ["", "\n", "File too large", "x: No such file or directory (os error 2)\n"] {
            assert!(matches!(explained(words), Cow::Borrowed(it) if it == words));
        }
    }

    #[test]
    fn one_error_number_is_more_than_one_limit() {
        assert!(watching(Errno::EMFILE).to_string().contains("fs.inotify.max_user_instances"));
        assert!(watching(Errno::ENOSPC).to_string().contains("fs.inotify.max_user_watches"));
        let started = starting(Errno::EAGAIN.into()).to_string();
        assert!(explained(&started).contains("ulimit -u"), "{started}");
        assert!(!of(Errno::EAGAIN).contains("ulimit -u"));
    }
}
