//! The files in an instance's queue.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, Result};

use super::Postfix;

impl Postfix {
    /// The files of the queue `name` (`maildrop`, `hold`, `active`, ...), also those in hashed
    /// subdirectories.
    pub fn queue_files(&self, name: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.queue_dir().join(name), &mut files);
        files
    }

    /// Is nothing waiting anywhere? Bounce and defer logs do not count, nor do files that a cleanup
    /// left unfinished when it was killed: it had not said yes, and Postfix ignores them.
    pub fn queue_is_empty(&self) -> bool {
        self.has_only_undecided() && self.undecided_files().is_empty()
    }

    /// Whether the queue is empty but for files that OPTIMUS has not released to the queue manager.
    pub fn has_only_undecided(&self) -> bool {
        let queues = ["incoming", "active", "deferred", "hold"];
        let finished = |name| self.queue_files(name).iter().any(|file| is_finished(file));
        self.queue_files("maildrop").is_empty() && !queues.into_iter().any(finished)
    }

    /// The finished files that OPTIMUS has not released to the queue manager.
    pub fn undecided_files(&self) -> Vec<PathBuf> {
        let mut files = self.queue_files("optimus/prepared");
        files.retain(|file| is_finished(file));
        files
    }

    /// Runs a `sendmail` with these arguments and this message on its standard input.
    pub fn sendmail(
        &self,
        program: impl AsRef<Path>,
        arguments: &[&str],
        message: &[u8],
    ) -> Result<Output> {
        let program = program.as_ref();
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        let mut input = child.stdin.take().context("standard input")?;
        // A program that ends without reading everything is the caller's to judge.
        let _ = input.write_all(message);
        drop(input);
        child.wait_with_output().with_context(|| program.display().to_string())
    }
}

/// Cleanup sets the owner's execute bit when a file is complete.
fn is_finished(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.mode() & 0o100 != 0)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}
