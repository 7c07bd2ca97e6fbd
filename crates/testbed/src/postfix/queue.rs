//! What lies in an instance's queue.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, Result};

use super::Postfix;

impl Postfix {
    /// The files of the queue `name` (`maildrop`, `hold`, `active`, ...), also those in hashed subdirectories.
    pub fn queue_files(&self, name: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.queue_dir().join(name), &mut files);
        files
    }

    /// Is nothing waiting anywhere? Bounce and defer logs do not count.
    pub fn queue_is_empty(&self) -> bool {
        let queues = ["maildrop", "incoming", "active", "deferred", "hold"];
        queues.iter().all(|name| self.queue_files(name).is_empty())
    }

    /// Runs a `sendmail` with these arguments and this message on its standard input.
    pub fn sendmail(&self, program: impl AsRef<Path>, arguments: &[&str], message: &[u8]) -> Result<Output> {
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
