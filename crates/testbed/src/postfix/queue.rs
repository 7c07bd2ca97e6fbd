//! Files in an instance's queue.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, Result};

use super::Postfix;

const MAILDROP: &str = "maildrop";
const UNDECIDED: &str = "optimus/prepared";

/// Folders of a message on its way, in order. `postsuper -H` moves files from `hold` to `deferred`,
/// and the queue manager moves them from there to `incoming` and `active`.
const ON_THE_WAY: [&str; 6] = ["hold", MAILDROP, "deferred", UNDECIDED, "incoming", "active"];

impl Postfix {
    /// Returns the files of the queue `name` (`maildrop`, `hold`, `active`, ...), also those in
    /// hashed subdirectories.
    pub fn queue_files(&self, name: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.queue_dir().join(name), &mut files);
        files
    }

    /// Whether no message waits in any queue. Bounce and defer logs don't count. Unfinished files
    /// of a killed cleanup don't count either, because Postfix ignores them.
    pub fn queue_is_empty(&self) -> bool {
        self.is_empty_but_for(&[])
    }

    /// Whether the queue is empty but for files that OPTIMUS has not released to the queue manager.
    pub fn has_only_undecided(&self) -> bool {
        self.is_empty_but_for(&[UNDECIDED])
    }

    /// Looks through the folders in the order of a message's way, so that a file that moves on is
    /// met later. Looks twice, because the queue manager also moves files back, from `active` to
    /// `deferred`.
    fn is_empty_but_for(&self, spared: &[&str]) -> bool {
        let along = ON_THE_WAY.into_iter().filter(|name| !spared.contains(name));
        !along.clone().chain(along).any(|name| self.has_finished(name))
    }

    fn has_finished(&self, name: &str) -> bool {
        // postdrop gives a file in the maildrop its name only when it is complete.
        let waits = |file: &PathBuf| name == MAILDROP || is_finished(file);
        self.queue_files(name).iter().any(waits)
    }

    /// Returns the files in which messages wait, wherever.
    pub fn waiting_files(&self) -> Vec<PathBuf> {
        ON_THE_WAY.iter().flat_map(|name| self.queue_files(name)).collect()
    }

    /// Returns the finished files that OPTIMUS has not released to the queue manager.
    pub fn undecided_files(&self) -> Vec<PathBuf> {
        let mut files = self.queue_files(UNDECIDED);
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
        let mut child =
            command.spawn().with_context(|| format!("{}: not run", program.display()))?;
        let mut input = child.stdin.take().context("standard input: no pipe")?;
        // The caller judges a program that ends without reading everything.
        let _ = input.write_all(message);
        drop(input);
        child.wait_with_output().with_context(|| format!("{}: no output", program.display()))
    }
}

/// Whether a file is complete: then cleanup has set the owner's execute bit.
fn is_finished(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.mode() & 0o100 != 0)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    // Postfix may remove a hash directory at any time.
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, rename, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;

    use super::*;

    const LOOKS: usize = 2_000;

    /// During each look, the queue manager defers a file once and takes it up again.
    #[test]
    fn a_file_that_moves_during_a_look_is_seen() {
        let postfix = Postfix::builder().prepare().unwrap();
        let path = |queue: &str| postfix.queue_dir().join(queue).join("4C1B21A0");
        write(path("active"), "").unwrap();
        set_permissions(path("active"), Permissions::from_mode(0o700)).unwrap();
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..LOOKS {
                    start.wait();
                    rename(path("active"), path("deferred")).unwrap();
                    rename(path("deferred"), path("incoming")).unwrap();
                    rename(path("incoming"), path("active")).unwrap();
                }
            });
            let overlooks = |_: &usize| {
                start.wait();
                postfix.queue_is_empty()
            };
            assert_eq!((0..LOOKS).filter(overlooks).count(), 0);
        });
    }
}
