//! The system that OPTIMUS is installed on: the paths of its Postfix, and reasons why nothing can
//! be installed there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{AccessFlags, Group, Uid, access};
use postfix_wire::MainCf;
use settings::Places;

use super::file::is_our_program;
use super::{Folders, command, files};

/// First version of Postfix whose records and sockets are those that OPTIMUS was made for.
const OLDEST_VERSION: (u32, u32) = (3, 5);

/// Paths and group of a system's Postfix.
pub(super) struct Site {
    pub(super) config_directory: PathBuf,
    pub(super) sendmail: PathBuf,
    pub(super) mailq: PathBuf,
    pub(super) newaliases: PathBuf,
    pub(super) command_directory: PathBuf,
    pub(super) daemon_directory: PathBuf,
    pub(super) meta_directory: PathBuf,
    pub(super) queue_directory: PathBuf,
    pub(super) data_directory: PathBuf,
    pub(super) setgid_group: Group,
    pub(super) postconf: PathBuf,
    pub(super) folders: Folders,
}

impl Site {
    /// Reads the instance's configuration; an error says what kind of Postfix is missing.
    pub(super) fn read(config_directory: &Path, folders: &Folders) -> Result<Self> {
        let main_cf = MainCf::load(config_directory).context("Postfix: not installed here")?;
        let path = |name| main_cf.get_path(name).with_context(|| format!("{name}: not known"));
        let group = main_cf.get("setgid_group").unwrap_or_default();
        let setgid_group = Group::from_name(&group)?
            .with_context(|| format!("setgid_group: no group {group:?}; correct main.cf"))?;
        Ok(Self {
            config_directory: config_directory.canonicalize().context("--config-directory")?,
            sendmail: path("sendmail_path")?,
            mailq: path("mailq_path")?,
            newaliases: path("newaliases_path")?,
            postconf: path("command_directory")?.join("postconf"),
            command_directory: path("command_directory")?,
            daemon_directory: path("daemon_directory")?,
            meta_directory: path("meta_directory").unwrap_or_else(|_| config_directory.to_owned()),
            queue_directory: path("queue_directory")?,
            data_directory: path("data_directory")?,
            setgid_group,
            folders: folders.clone(),
        })
    }

    /// Returns the path of a command of Postfix's.
    pub(super) fn command(&self, name: &str) -> PathBuf {
        self.command_directory.join(name)
    }

    /// Fails on anything that would stop an installation half way.
    ///
    /// A dry run may be anybody's, so it doesn't ask which folders can be written to.
    pub(super) fn refuse_if_impossible(&self, dry_run: bool) -> Result<()> {
        let version = command::text(&self.postconf, ["-dh", "mail_version"])
            .context("Postfix: not installed here")?;
        refuse_old(&version)?;
        self.daemon_directory.metadata().with_context(|| {
            format!("Postfix: not installed here: {}", self.daemon_directory.display())
        })?;
        if dry_run { Ok(()) } else { self.written().iter().try_for_each(|it| refuse_read_only(it)) }
    }

    fn written(&self) -> Vec<PathBuf> {
        let mut folders = vec![
            self.command_directory.clone(),
            self.daemon_directory.clone(),
            self.config_directory.clone(),
            self.folders.prefix.clone(),
            self.folders.man_directory.clone(),
            self.folders.unit_directory.clone(),
            self.folders.state_directory.clone(),
        ];
        folders.extend(self.sendmail.parent().map(Path::to_owned));
        folders
    }

    /// Returns the places of OPTIMUS's parts.
    pub(super) fn places(&self) -> Places {
        Places {
            config_directory: self.config_directory.clone(),
            queue_directory: self.queue_directory.clone(),
            data_directory: self.data_directory.clone(),
        }
    }

    pub(super) fn postfix_is_running(&self) -> bool {
        let words = ["-c".as_ref(), self.config_directory.as_os_str(), "status".as_ref()];
        command::output(self.command("postfix"), words).is_ok_and(|it| it.status.success())
    }
}

pub(super) fn refuse_unless_root() -> Result<()> {
    ensure!(
        Uid::effective().is_root(),
        "installation: only root may change the system; run as root, or add --dry-run"
    );
    Ok(())
}

fn refuse_old(version: &str) -> Result<()> {
    let mut numbers = version.split(['.', '-']).map_while(|it| it.parse().ok());
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (oldest, oldest_minor) = OLDEST_VERSION;
    ensure!(
        (major, minor) >= OLDEST_VERSION,
        "Postfix {version}: too old; install {oldest}.{oldest_minor} or newer"
    );
    Ok(())
}

/// Fails if a folder can't be written to. The kernel is asked about the nearest folder that exists:
/// root may do anything but write to a read-only mount.
fn refuse_read_only(folder: &Path) -> Result<()> {
    let Some(existing) = folder.ancestors().find(|it| it.exists()) else { return Ok(()) };
    access(existing, AccessFlags::W_OK)
        .with_context(|| format!("{}: not writable", existing.display()))
}

/// Folder of the built programs.
pub(super) struct Programs(pub(super) PathBuf);

impl Programs {
    /// Reads a program that must be there, and must be OPTIMUS's.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.0.join(name);
        let bytes = fs::read(&path).with_context(|| {
            format!(
                "{}: not read; build this program, or give its folder with --from",
                path.display()
            )
        })?;
        if !is_our_program(&bytes) {
            bail!(
                "{}: not a program of OPTIMUS; give the folder of the built programs with --from",
                path.display()
            );
        }
        Ok(bytes)
    }

    /// Reads a program that may be missing.
    pub(super) fn read_if_there(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let is_there = files::look(&self.0.join(name))?.is_some();
        if is_there { self.read(name).map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_postfix_is_refused() {
        for version in ["3.5.0", "3.7.11", "4.0", "3.10-20250101"] {
            assert!(refuse_old(version).is_ok(), "{version}");
        }
        for version in ["3.4.29", "2.11.3", "", "x"] {
            let error = refuse_old(version).unwrap_err().to_string();
            assert!(error.contains("3.5 or newer"), "{error}");
        }
    }
}
