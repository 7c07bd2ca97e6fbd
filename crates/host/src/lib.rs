//! Programs and their machine: safe ways to its files, sockets, limits and standard error.
//!
//! | module | what |
//! |---|---|
//! | [`folder`] | the users who may have put a file where it is |
//! | [`file`] | files opened so that only their owner decides about their content |
//! | [`limit`] | limits that were reached, and the ways to raise them |
//! | [`peer`] | Unix sockets where only their folder's owner answers |
//! | [`stderr`] | standard error that never waits |
//! | [`local_time`] | times as people read them |
//!
//! [`nothing`] is for commands that must not read.

pub mod file;
pub mod folder;
pub mod limit;
pub mod local_time;
pub mod peer;
pub mod stderr;

/// Returns the standard input for a command that has none, even without `/dev/null`: a directory,
/// which can't be read.
///
/// # Errors
///
/// The system's error, if no file can be opened.
pub fn nothing() -> std::io::Result<std::process::Stdio> {
    std::fs::File::open("/").map(Into::into)
}
