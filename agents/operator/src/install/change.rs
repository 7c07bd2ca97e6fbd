//! The smallest changes of an installation. Each is atomic, can be repeated, and describes itself
//! in words. A dry run prints the changes that a real run prints and makes.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::files::{self, FileContent, Rights};
use super::master_cf::Edit;
use super::{command, dpkg};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    MakeFolder(PathBuf),
    RemoveFolder(PathBuf),
    Divert {
        path: PathBuf,
        aside: PathBuf,
    },
    EndDiversion {
        path: PathBuf,
        aside: PathBuf,
    },
    Keep {
        path: PathBuf,
        aside: PathBuf,
    },
    Put {
        path: PathBuf,
        content: FileContent,
        rights: Rights,
        group: Option<String>,
    },
    Restore {
        aside: PathBuf,
        path: PathBuf,
    },
    Remove(PathBuf),
    /// No change, since somebody else's file is at `path` by now.
    Leave {
        aside: PathBuf,
        path: PathBuf,
    },
    /// End of a unit, before its file is removed.
    Stop(String),
    Edit(Edit),
    ReloadPostfix {
        program: PathBuf,
        config_directory: PathBuf,
    },
    ReloadSystemd,
}

impl Change {
    pub(super) fn make(&self) -> Result<()> {
        self.do_it().with_context(|| self.to_string())
    }

    fn do_it(&self) -> Result<()> {
        match self {
            Self::MakeFolder(path) => DirBuilder::new().recursive(true).mode(0o755).create(path)?,
            // The folder stays if it has somebody else's files by now.
            Self::RemoveFolder(path) => drop(fs::remove_dir(path)),
            Self::Divert { path, aside } => dpkg::divert(path, aside)?,
            Self::EndDiversion { path, aside } => dpkg::end_diversion(path, aside)?,
            Self::Keep { path, aside } => files::keep(path, aside)?,
            Self::Put { path, content, rights, .. } => files::put(path, content, *rights, None)?,
            Self::Restore { aside, path } => files::restore(aside, path)?,
            Self::Remove(path) => durable::remove(path)?,
            Self::Leave { .. } => (),
            Self::Stop(unit) => drop(command::text("systemctl", ["disable", "--now", unit])?),
            Self::Edit(edit) => edit.make()?,
            Self::ReloadPostfix { program, config_directory } => {
                let words = ["-c".as_ref(), config_directory.as_os_str(), "reload".as_ref()];
                command::text(program, words).map(drop)?;
            }
            Self::ReloadSystemd => drop(command::text("systemctl", ["daemon-reload"])?),
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeFolder(path) => write!(f, "make folder {}", path.display()),
            Self::RemoveFolder(path) => {
                write!(f, "remove folder {}, if it is empty", path.display())
            }
            Self::Divert { path, aside } => {
                write!(
                    f,
                    "divert the package's {} to {} (dpkg-divert)",
                    path.display(),
                    aside.display()
                )
            }
            Self::EndDiversion { path, .. } => {
                write!(f, "end the diversion of {} (dpkg-divert)", path.display())
            }
            Self::Keep { path, aside } => {
                write!(f, "keep {} as {}", path.display(), aside.display())
            }
            Self::Put { path, content: FileContent::LinkTo(target), .. } => {
                write!(f, "link {} to {}", path.display(), target.display())
            }
            Self::Put { path, content: FileContent::Bytes(bytes), rights, group } => {
                let group = group.as_deref().unwrap_or("root");
                write!(
                    f,
                    "install {}, root:{group}, mode {:04o}, {} bytes",
                    path.display(),
                    rights.mode,
                    bytes.len()
                )
            }
            Self::Restore { aside, path } => {
                write!(f, "put {} back as {}", aside.display(), path.display())
            }
            Self::Remove(path) => write!(f, "remove {}", path.display()),
            Self::Leave { aside, path } => write!(
                f,
                "leave the former file as {}, since {} is no longer OPTIMUS's",
                aside.display(),
                path.display()
            ),
            Self::Stop(unit) => write!(f, "end and disable {unit} (systemctl)"),
            Self::Edit(edit) => write!(f, "{edit}"),
            Self::ReloadPostfix { config_directory, .. } => {
                write!(f, "reload the Postfix of {}", config_directory.display())
            }
            Self::ReloadSystemd => write!(f, "have systemd read its units again"),
        }
    }
}
