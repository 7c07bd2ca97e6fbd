//! Programs and the machine they run on: their needs, and how little they trust it.
//!
//! | module | what |
//! |---|---|
//! | [`folder`] | who may have put something where it lies |
//! | [`file`] | files opened so that nobody but their owner decides what is read |
//! | [`limit`] | limits that were reached, and how to raise them |
//! | [`peer`] | Unix sockets where nobody but their folder's owner answers |
//! | [`stderr`] | standard error that never waits |
//! | [`local_time`] | times as people read them |
//!
//! And [`nothing`], for commands that must not read.

pub mod file;
pub mod folder;
pub mod limit;
pub mod local_time;
pub mod peer;
pub mod stderr;

/// Standard input for a command that has none, also where there is no `/dev/null`: a directory
/// can't be read, and that is all that is wanted of it.
///
/// # Errors
///
/// No file can be opened.
pub fn nothing() -> std::io::Result<std::process::Stdio> {
    std::fs::File::open("/").map(Into::into)
}
