//! Local maildrop, for messages that Redis can't take.
//!
//! The file is like one of stock postdrop: named by time and inode, mode 0744, owned by the caller.
//! The file begins under a temporary name. It is renamed while it is empty and has no execute bit,
//! so that stock pickup takes it for unfinished. Then the file is written, made executable and
//! fsynced. On the file systems that Postfix supports, fsync of a new file makes its name durable,
//! too. The directory is fsynced as well if this process can open it, which an ordinary user's
//! can't. After any failure, even of memory, the file is removed. Signals are blocked all the
//! while.
//!
//! A message that Redis may or may not have is stored under a name that stock pickup skips,
//! [`settings::IN_DOUBT_SUFFIX`]. pickup-rs looks for such names only in the maildrop itself, so
//! these files never lie in hashed folders. pickup-rs trusts such a file. So the file gets that
//! name only after it is written and fsynced, and is then fsynced again.
//!
//! Source: Postfix `mail_queue(3)`, `mail_stream(3)`, `pickup(8)`, `mail_trigger(3)`.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use host::folder::Folder;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, renameat};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket,
};
use nix::sys::stat::{Mode, mkdirat};
use postfix_wire::main_cf::{MainCf, MainCfError};
use postfix_wire::{QueueId, QueueLayout, QueueName};
use settings::IN_DOUBT_SUFFIX;
use spool::Content;

use crate::death::Removal;
use crate::privilege::block_signals;

/// Mode of an unfinished file: no execute bit.
const UNFINISHED: u32 = 0o600;
/// Mode of a finished file, as stock postdrop's.
const FINISHED: u32 = 0o744;
/// Mode of the folders in a hashed maildrop.
const FOLDER_MODE: u32 = 0o700;
/// Request that makes pickup look into the maildrop, in Postfix's trigger protocol.
const WAKE_UP: &[u8] = b"W\0";
/// Attempts to find a temporary name that is not taken.
const NAME_ATTEMPTS: u32 = 100;

/// Readiness of a stored message for stock pickup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Stock pickup may take the message at once.
    Ready,
    /// Stock pickup may take the message only after pickup-rs has learned that Redis doesn't have
    /// it.
    InDoubt,
}

/// Failure to store a message. No file is left in the maildrop. The error says nothing about Redis.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}: {source}", path.display())]
pub struct MaildropError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Maildrop of one instance.
#[derive(Debug, Clone)]
pub struct Maildrop {
    queue_directory: PathBuf,
    layout: QueueLayout,
    long_ids: bool,
    pickup_service: String,
}

impl Maildrop {
    /// Returns the maildrop of a configuration.
    pub fn of(main_cf: &MainCf) -> Result<Self, MainCfError> {
        Ok(Self {
            queue_directory: main_cf.get_path("queue_directory")?,
            layout: QueueLayout::of(main_cf)?,
            long_ids: main_cf.get_bool("enable_long_queue_ids")?,
            pickup_service: main_cf.get("pickup_service_name").unwrap_or_default(),
        })
    }

    /// Stores a message durably, and wakes pickup if pickup may take the message. Returns the queue
    /// id. After a failure no file is left.
    pub fn store(
        &self,
        records: Content<'_>,
        readiness: Readiness,
    ) -> Result<QueueId, MaildropError> {
        block_signals();
        let mut file =
            Unfinished::create(&self.queue_directory.join(QueueName::Maildrop.as_str()))?;
        let id = self.id(&file)?;
        match readiness {
            Readiness::Ready => {
                file.rename(self.queue_directory.join(self.layout.path(QueueName::Maildrop, &id)))?;
                file.write(records)?;
                file.finish()?;
                wake(&self.queue_directory.join("public").join(&self.pickup_service));
            }
            Readiness::InDoubt => {
                file.write(records)?;
                file.sync()?;
                file.rename(file.path.with_file_name(format!("{id}{IN_DOUBT_SUFFIX}")))?;
                file.finish()?;
            }
        }
        Ok(id)
    }

    /// Returns a queue id that the file's inode makes unique.
    fn id(&self, file: &Unfinished) -> Result<QueueId, MaildropError> {
        let inode = file.file.metadata().map_err(|e| file.error("examine", e))?.ino();
        let now = since_epoch();
        Ok(if self.long_ids { QueueId::long(now, inode) } else { QueueId::short(now, inode) })
    }
}

/// Unfinished file, which is removed when dropped before [`Self::finish`].
struct Unfinished {
    path: PathBuf,
    file: File,
    finished: bool,
}

impl Unfinished {
    fn create(directory: &Path) -> Result<Self, MaildropError> {
        let mut attempts = 0;
        loop {
            let name = format!("{}.{}", since_epoch().subsec_micros(), std::process::id());
            let path = directory.join(name);
            let removal = Removal::of(&path);
            let mut options = OpenOptions::new();
            match options.write(true).create_new(true).mode(UNFINISHED).open(&path) {
                Ok(file) => {
                    removal.arm();
                    return Ok(Self { path, file, finished: false });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempts < NAME_ATTEMPTS => {
                    attempts += 1;
                }
                Err(source) => return Err(MaildropError { step: "create", path, source }),
            }
        }
    }

    /// Renames the file. Makes the missing folders of a hashed maildrop.
    fn rename(&mut self, to: PathBuf) -> Result<(), MaildropError> {
        let removal = Removal::of(&to);
        let mut renamed = move_to(&self.path, &to);
        if renamed.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            renamed = make_folders_of(&to).and_then(|()| move_to(&self.path, &to));
        }
        renamed.map_err(|e| self.error("rename", e))?;
        removal.arm();
        self.path = to;
        Ok(())
    }

    fn write(&mut self, records: Content<'_>) -> Result<(), MaildropError> {
        let mut file = &self.file;
        let unreadable = |e| self.error("read the temporary file for", e);
        records.each(unreadable, &mut |piece| {
            file.write_all(piece).map_err(|e| self.error("write", e))
        })
    }

    fn sync(&self) -> Result<(), MaildropError> {
        self.file.sync_all().map_err(|e| self.error("fsync", e))
    }

    fn finish(mut self) -> Result<(), MaildropError> {
        let finished = Permissions::from_mode(FINISHED);
        self.file.set_permissions(finished).map_err(|e| self.error("change the mode of", e))?;
        self.sync()?;
        if let Some(directory) = self.path.parent().and_then(|directory| File::open(directory).ok())
        {
            directory.sync_all().map_err(|e| self.error("fsync the directory of", e))?;
        }
        self.finished = true;
        Removal::of_nothing().arm();
        Ok(())
    }

    fn error(&self, step: &'static str, source: io::Error) -> MaildropError {
        MaildropError { step, path: self.path.clone(), source }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.path);
            Removal::of_nothing().arm();
        }
    }
}

/// Renames a file within the maildrop, never through a link. `mail_owner` owns the folders of a
/// hashed maildrop, and must not redirect a file of root.
fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    let (folder, name) = Folder::of(to)?;
    Ok(renameat(AT_FDCWD, from, folder.fd(), name.as_os_str())?)
}

/// Makes the missing folders above this path.
fn make_folders_of(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let made = || -> io::Result<()> {
        let (folder, name) = Folder::of(parent)?;
        match mkdirat(folder.fd(), name.as_os_str(), Mode::from_bits_truncate(FOLDER_MODE)) {
            Err(Errno::EEXIST) => Ok(()),
            made => Ok(made?),
        }
    };
    match made() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folders_of(parent)?;
            made()
        }
        made => made,
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Wakes pickup without waiting. pickup looks by itself every minute, so a lost request costs time
/// only.
fn wake(service: &Path) {
    let Ok(kind) = std::fs::symlink_metadata(service).map(|metadata| metadata.file_type()) else {
        return;
    };
    if kind.is_fifo() {
        let fifo = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(service);
        let _ = fifo.and_then(|mut fifo| fifo.write_all(&WAKE_UP[..1]));
    } else if kind.is_socket() {
        let _ = send_without_waiting(service);
    }
}

fn send_without_waiting(service: &Path) -> nix::Result<()> {
    use std::os::fd::AsRawFd;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let connection = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(connection.as_raw_fd(), &UnixAddr::new(service)?)?;
    send(connection.as_raw_fd(), WAKE_UP, MsgFlags::MSG_NOSIGNAL).map(drop)
}
