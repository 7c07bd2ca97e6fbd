//! Runs commands of other packages.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

pub(super) fn output<S: AsRef<OsStr>>(
    program: impl AsRef<Path>,
    arguments: impl IntoIterator<Item = S>,
) -> Result<Output> {
    let mut command = Command::new(program.as_ref());
    command.args(arguments).stdin(host::nothing()?).env_remove("MAIL_CONFIG").env("LC_ALL", "C");
    command
        .output()
        .map_err(host::limit::starting)
        .with_context(|| format!("{}: not started", program.as_ref().display()))
}

/// Returns the standard output of a command, if it succeeds.
pub(super) fn text<S: AsRef<OsStr>>(
    program: impl AsRef<Path>,
    arguments: impl IntoIterator<Item = S>,
) -> Result<String> {
    let output = output(&program, arguments)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        bail!("{}: failed: {}: {said}", program.as_ref().display(), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
