//! Debian's package manager: whether a file is a package's, and where the package's file goes once
//! OPTIMUS's has its place.
//!
//! A diversion is registered without renaming, because dpkg-divert's own renaming would leave the
//! system without a `sendmail` for a moment.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::command;

const DIVERT: &str = "/usr/bin/dpkg-divert";
const DPKG: &str = "/usr/bin/dpkg";

/// Whether there is a package manager and the file is a package's.
pub(super) fn owns(path: &Path) -> bool {
    let is_there = Path::new(DIVERT).exists() && Path::new(DPKG).exists();
    is_there && command::output(DPKG, [Path::new("-S"), path]).is_ok_and(|it| it.status.success())
}

/// Returns where packages' files of that name go; the name itself unless it is diverted.
pub(super) fn true_name(path: &Path) -> Result<PathBuf> {
    if !Path::new(DIVERT).exists() {
        return Ok(path.to_owned());
    }
    Ok(command::text(DIVERT, [Path::new("--truename"), path])?.into())
}

pub(super) fn divert(path: &Path, aside: &Path) -> Result<()> {
    divert_with(path, aside, "--add")
}

pub(super) fn end_diversion(path: &Path, aside: &Path) -> Result<()> {
    divert_with(path, aside, "--remove")
}

fn divert_with(path: &Path, aside: &Path, what: &str) -> Result<()> {
    let (path, aside) = (path.as_os_str(), aside.as_os_str());
    let words = ["--quiet", "--local", "--no-rename", "--divert"].map(AsRef::as_ref);
    command::text(DIVERT, words.into_iter().chain([aside, what.as_ref(), path])).map(drop)
}

/// Fails if somebody else has already diverted the package's file.
pub(super) fn refuse_foreign_diversion(path: &Path, aside: &Path) -> Result<()> {
    let name = true_name(path)?;
    if name == path || name == aside {
        return Ok(());
    }
    bail!(
        "{}: not installed: diverted to {} by somebody else; see dpkg-divert(1)",
        path.display(),
        name.display()
    )
}
