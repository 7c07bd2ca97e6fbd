//! The maildrop, as far as OPTIMUS touches it: names of files in doubt, the lock, finished files.
//!
//! postdrop names a file in doubt `<queue id>.in-doubt`, and its envelope names the message. A file
//! that [`stranded`] claimed is named `<queue id>.<message id>.in-doubt`. [`in_doubt`] resolves
//! files of both forms. Both modules hold the maildrop's lock while they work.

pub mod in_doubt;
pub mod stranded;
pub mod trigger;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use postfix_wire::main_cf::{MainCf, MainCfError};
use postfix_wire::{QueueId, QueueLayout, QueueName};
use settings::IN_DOUBT_SUFFIX;
use spool::MessageId;

/// Mode bits of a finished file.
pub(crate) const READY_MODE: u32 = 0o700;

/// Failure that ends one look at the maildrop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("maildrop: not read or changed: {0}; see to the disk")]
    File(#[from] io::Error),
    #[error(transparent)]
    Spool(#[from] spool::SpoolError),
}

/// The maildrop of one Postfix instance.
#[derive(Debug, Clone)]
pub struct Maildrop {
    /// Postfix's queue directory.
    pub queue_directory: PathBuf,
    /// Layout of the hashed queues.
    pub layout: QueueLayout,
    /// Socket or FIFO of stock pickup.
    pub stock_pickup: PathBuf,
    /// Value of `myhostname`.
    pub host: String,
}

impl Maildrop {
    /// Returns the maildrop of the instance that has this `main.cf`.
    ///
    /// # Errors
    ///
    /// A parameter's value has the wrong form.
    pub fn of(main_cf: &MainCf) -> Result<Self, MainCfError> {
        let queue_directory = main_cf.get_path("queue_directory")?;
        let pickup = main_cf.get("pickup_service_name").unwrap_or_default();
        let stock_pickup = queue_directory.join("public").join(pickup);
        let host = main_cf.get("myhostname").unwrap_or_default();
        Ok(Self { queue_directory, layout: QueueLayout::of(main_cf)?, stock_pickup, host })
    }

    /// Locks other resolvers out until the lock is dropped. Returns `None` while another one has
    /// it.
    pub(crate) fn lock(&self) -> io::Result<Option<Flock<File>>> {
        match Flock::lock(File::open(self.path())?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error.into()),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.queue_directory.join(QueueName::Maildrop.as_str())
    }

    /// Lists all files in doubt.
    pub(crate) fn files_in_doubt(&self) -> io::Result<Vec<InDoubt>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.path())? {
            found.extend(entry?.file_name().to_str().and_then(InDoubt::parse));
        }
        Ok(found)
    }

    /// Returns the path of a file in doubt, which never lies in a subdirectory.
    pub(crate) fn in_doubt(&self, doubt: &InDoubt) -> PathBuf {
        self.path().join(doubt.name())
    }

    /// Turns a file in doubt into an ordinary maildrop file. Makes the directories of a hashed
    /// queue that are missing.
    pub(crate) fn free(&self, doubt: &InDoubt) -> io::Result<()> {
        let to = self.queue_directory.join(self.layout.path(QueueName::Maildrop, &doubt.queue_id));
        if let Some(directory) = to.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        fs::rename(self.in_doubt(doubt), to)
    }
}

/// Name of a file in doubt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct InDoubt {
    /// Name of the file once Redis has disowned the message.
    pub(crate) queue_id: QueueId,
    /// Message id, where the file's name has it. Otherwise the envelope does.
    pub(crate) id: Option<MessageId>,
}

impl InDoubt {
    fn parse(name: &str) -> Option<Self> {
        let name = name.strip_suffix(IN_DOUBT_SUFFIX)?;
        let (queue_id, id) = match name.split_once('.') {
            Some((queue_id, id)) => (queue_id, Some(id.parse().ok()?)),
            None => (name, None),
        };
        Some(Self { queue_id: queue_id.parse().ok()?, id })
    }

    fn name(&self) -> String {
        let id = self.id.map_or_else(String::new, |id| format!(".{id}"));
        format!("{}{id}{IN_DOUBT_SUFFIX}", self.queue_id)
    }
}

/// Opens a file. Returns `None` if it is gone, or unreadable because its owner has not finished it.
pub(crate) fn open(path: &Path) -> io::Result<Option<File>> {
    let opened =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        opened => opened.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn doubt(queue_id: &str) -> InDoubt {
        InDoubt { queue_id: queue_id.parse().unwrap(), id: None }
    }

    fn maildrop_in(queue: &Path, layout: QueueLayout) -> Maildrop {
        fs::create_dir(queue.join("maildrop")).unwrap();
        let (queue_directory, host) = (queue.to_owned(), String::new());
        Maildrop { queue_directory, layout, stock_pickup: PathBuf::new(), host }
    }

    #[test]
    fn only_names_of_files_in_doubt_are_listed() {
        let queue = tempfile::tempdir().unwrap();
        let maildrop = maildrop_in(queue.path(), QueueLayout::new([], 1));
        let claimed = format!("4C1B21A2.{ID}.in-doubt");
        let others =
            ["4C1B21A0", "nonsense.in-doubt", "123.456", ".in-doubt", "4C1B21A3.x.in-doubt"];
        for name in others.into_iter().chain(["4C1B21A1.in-doubt", &claimed]) {
            fs::write(maildrop.path().join(name), "").unwrap();
        }
        let mut found = maildrop.files_in_doubt().unwrap();
        found.sort_by_key(InDoubt::name);
        assert_eq!(
            found,
            [doubt("4C1B21A1"), InDoubt { id: ID.parse().ok(), ..doubt("4C1B21A2") }]
        );
        assert_eq!(found[1].name(), claimed);
    }

    #[test]
    fn a_freed_copy_goes_to_the_folder_of_the_layout() {
        let queue = tempfile::tempdir().unwrap();
        let maildrop = maildrop_in(queue.path(), QueueLayout::new([QueueName::Maildrop], 2));
        for doubt in [doubt("4C1B21A0"), InDoubt { id: ID.parse().ok(), ..doubt("4C1B21A1") }] {
            fs::write(maildrop.in_doubt(&doubt), "").unwrap();
            assert_eq!(maildrop.files_in_doubt().unwrap(), std::slice::from_ref(&doubt));
            maildrop.free(&doubt).unwrap();
            assert!(queue.path().join(format!("maildrop/4/C/{}", doubt.queue_id)).exists());
        }
        assert_eq!(maildrop.files_in_doubt().unwrap(), []);
    }

    #[test]
    fn a_second_resolver_waits_for_the_first() {
        let queue = tempfile::tempdir().unwrap();
        let maildrop = maildrop_in(queue.path(), QueueLayout::new([], 1));
        let first = maildrop.lock().unwrap();
        assert!(first.is_some() && maildrop.lock().unwrap().is_none());
        drop(first);
        assert!(maildrop.lock().unwrap().is_some());
    }
}
