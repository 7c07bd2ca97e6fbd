//! Directories of an instance, with the owners and permissions that Postfix insists on.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::{Gid, Group, Uid, User, chown};

use crate::scratch::Scratch;

/// User and group of Debian: `mail_owner` and `setgid_group`.
const MAIL_OWNER: &str = "postfix";
const SETGID_GROUP: &str = "postdrop";

/// Folder of the Debian package for Postfix's daemons.
const STOCK_DAEMONS: &str = "/usr/lib/postfix/sbin";

/// Queues that only `mail_owner` enters.
const PRIVATE_QUEUES: [&str; 11] = [
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private",
    "saved", "trace",
];

/// Paths of the parts of an instance.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) config: PathBuf,
    pub(super) queue: PathBuf,
    pub(super) data: PathBuf,
    pub(super) daemons: PathBuf,
    pub(super) log: PathBuf,
}

struct FileOwner {
    user: Uid,
    group: Gid,
}

impl Layout {
    /// Makes all directories in `root`, and links the stock daemons. With a size, the queue gets a
    /// disk of its own.
    pub(super) fn create(root: &Path, queue_bytes: Option<usize>) -> Result<Self> {
        let layout = Self {
            config: root.join("etc"),
            queue: root.join("queue"),
            data: root.join("data"),
            daemons: root.join("libexec"),
            log: root.join("log"),
        };
        let owner = owner()?;
        for folder in [&layout.config, &layout.queue, &layout.daemons, &layout.log] {
            make(folder, 0o755, None, None)?;
        }
        if let Some(bytes) = queue_bytes {
            Scratch::mount(&layout.queue, bytes)?;
        }
        make(&layout.data, 0o700, Some(owner.user), None)?;
        layout.make_queues(&owner)?;
        layout.link_stock_daemons()?;
        Ok(layout)
    }

    fn make_queues(&self, owner: &FileOwner) -> Result<()> {
        for name in PRIVATE_QUEUES {
            make(&self.queue.join(name), 0o700, Some(owner.user), None)?;
        }
        make(&self.queue.join("pid"), 0o755, None, None)?;
        make(&self.queue.join("maildrop"), 0o1730, Some(owner.user), Some(owner.group))?;
        make(&self.queue.join("public"), 0o2710, Some(owner.user), Some(owner.group))
    }

    fn link_stock_daemons(&self) -> Result<()> {
        for entry in std::fs::read_dir(STOCK_DAEMONS)
            .with_context(|| format!("{STOCK_DAEMONS}: can't be read; install Postfix"))?
        {
            let program = entry?.path();
            symlink(&program, self.daemons.join(program.file_name().unwrap_or_default()))?;
        }
        Ok(())
    }

    /// Puts a program beside the stock daemons, or in place of one.
    pub(super) fn link_daemon(&self, name: &str, program: &Path) -> Result<()> {
        let link = self.daemons.join(name);
        let _ = std::fs::remove_file(&link);
        symlink(program, &link).with_context(|| format!("{}: link not made", link.display()))
    }
}

fn owner() -> Result<FileOwner> {
    let user = User::from_name(MAIL_OWNER)?
        .with_context(|| format!("user {MAIL_OWNER}: missing; install Postfix"))?;
    let group = Group::from_name(SETGID_GROUP)?
        .with_context(|| format!("group {SETGID_GROUP}: missing; install Postfix"))?;
    Ok(FileOwner { user: user.uid, group: group.gid })
}

fn make(path: &Path, mode: u32, user: Option<Uid>, group: Option<Gid>) -> Result<()> {
    std::fs::create_dir(path).with_context(|| format!("{}: not made", path.display()))?;
    chown(path, user, group)
        .with_context(|| format!("{}: owner not set; run the test as root", path.display()))?;
    // Only after chown, which would clear set-group-id.
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    Ok(())
}
