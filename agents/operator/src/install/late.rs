//! Submissions that began before stock programs were put back, and are not over.
//!
//! A `sendmail` submits when its input ends, which may be hours after its start. Its process goes
//! on running the replaced program, a file without a name. Such a process is recognized by the
//! missing name and by the file's content.

use std::fs;
use std::path::{Path, PathBuf};

use super::file::is_our_program;

/// Mark of a file without a name in `/proc/PID/exe`.
const WITHOUT_NAME: &str = " (deleted)";

/// Returns the processes that run a replaced program of these paths, as `name (process 7)`.
pub(super) fn submissions(paths: &[&Path]) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|it| replaced(&it.path(), paths)).collect()
}

fn replaced(process: &Path, paths: &[&Path]) -> Option<String> {
    let number: u32 = process.file_name()?.to_str()?.parse().ok()?;
    let exe = process.join("exe");
    let target = fs::read_link(&exe).ok()?;
    let path = PathBuf::from(target.to_str()?.strip_suffix(WITHOUT_NAME)?);
    let is_ours = paths.contains(&path.as_path()) && is_our_program(&fs::read(exe).ok()?);
    is_ours.then(|| format!("{} (process {number})", path.display()))
}
