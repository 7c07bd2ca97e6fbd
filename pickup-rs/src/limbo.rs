//! Submissions in doubt: Redis may have taken the message, nobody knows, and a copy lies in the maildrop.
//!
//! The rule and its reasons are in `docs/decisions/0003-*`. Redis is asked to disown the message's id. Either it knows the
//! message: the copy is removed. Or it will never accept it any more: the copy becomes an ordinary maildrop file, and
//! stock pickup is woken. Both answers are the same however often they are asked for, so a crash anywhere in between
//! repeats the question.
//!
//! pickup-rs resolves them, and so does `optimus maildrop` where no Postfix runs. A lock on the
//! maildrop's folder keeps two of them apart. Only `mail_owner` and root can take the lock, since
//! nobody else may read that folder.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use postfix_wire::main_cf::{MainCf, MainCfError};
use postfix_wire::{QueueId, QueueLayout, QueueName, RecordReader, RecordType};
use settings::LIMBO_SUFFIX;
use spool::{Disowned, MessageId, Spool};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::trigger::{WAKE_UP, wake};

/// How often the maildrop is looked at. One directory, normally empty.
const PAUSE: Duration = Duration::from_secs(2);

/// The mode bits of a finished file.
const READY_MODE: u32 = 0o700;

/// Longest record of an envelope that is read here.
const RECORD_LIMIT_BYTES: usize = 64 * 1024;

/// Resolves submissions in doubt for as long as it is awaited. Two processes may do so at once.
pub async fn run(maildrop: Maildrop, spool: Spool) {
    let mut limbo = Limbo { maildrop, spool, undecidable: HashSet::new() };
    let mut told = String::new();
    loop {
        let trouble = limbo.resolve_all().await.map_or_else(|error| error.to_string(), |()| String::new());
        // Once, not for as long as Redis is away.
        if !trouble.is_empty() && trouble != told {
            warn!("submissions in doubt wait: {trouble}");
        }
        told = trouble;
        sleep(PAUSE).await;
    }
}

/// Where submissions in doubt lie, where they go when they must be sent, and who is woken then.
#[derive(Debug, Clone)]
pub struct Maildrop {
    pub(crate) queue_directory: PathBuf,
    pub(crate) layout: QueueLayout,
    pub(crate) stock_pickup: PathBuf,
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
        Ok(Self { queue_directory, layout: QueueLayout::of(main_cf)?, stock_pickup })
    }

    /// Keeps other resolvers out until the lock is dropped. Returns nothing while another one has
    /// it.
    fn lock(&self) -> io::Result<Option<Flock<File>>> {
        match Flock::lock(File::open(self.path())?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error.into()),
        }
    }

    fn path(&self) -> PathBuf {
        self.queue_directory.join(QueueName::Maildrop.as_str())
    }

    /// Never in a subdirectory.
    fn in_doubt(&self, queue_id: &QueueId) -> PathBuf {
        self.path().join(format!("{queue_id}{LIMBO_SUFFIX}"))
    }

    /// Makes an ordinary maildrop file of it. Hashed queues make their directories when they are needed.
    fn free(&self, queue_id: &QueueId) -> io::Result<()> {
        let to = self.queue_directory.join(self.layout.path(QueueName::Maildrop, queue_id));
        if let Some(directory) = to.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        fs::rename(self.in_doubt(queue_id), to)
    }
}

struct Limbo {
    maildrop: Maildrop,
    spool: Spool,
    /// Files that were remarked on and are left alone.
    undecidable: HashSet<QueueId>,
}

/// Why a submission stays in doubt for now.
#[derive(Debug, thiserror::Error)]
enum LimboError {
    #[error("{0}")]
    File(#[from] io::Error),
    #[error("{0}")]
    Spool(#[from] spool::SpoolError),
}

impl Limbo {
    /// Looks through the maildrop once. Stops at the first thing that won't work, as the rest wouldn't either.
    async fn resolve_all(&mut self) -> Result<(), LimboError> {
        let Some(_lock) = self.maildrop.lock()? else { return Ok(()) };
        let mut freed = false;
        for queue_id in in_doubt(&self.maildrop.path())? {
            if !self.undecidable.contains(&queue_id) {
                freed |= self.resolve(queue_id).await?;
            }
        }
        if freed {
            wake(&self.maildrop.stock_pickup, WAKE_UP).await;
        }
        Ok(())
    }

    /// Is there now an ordinary maildrop file?
    async fn resolve(&mut self, queue_id: QueueId) -> Result<bool, LimboError> {
        let path = self.maildrop.in_doubt(&queue_id);
        let id = match examine(&path)? {
            Examined::Unfinished => return Ok(false),
            Examined::Submission(id) => id,
            Examined::SomethingElse => {
                warn!("{}: no message id in it, left alone", path.display());
                self.undecidable.insert(queue_id);
                return Ok(false);
            }
        };
        match self.spool.disown(id).await? {
            Disowned::Known => {
                fs::remove_file(&path)?;
                info!("{queue_id}: submission in doubt: Redis has {id}, the copy is removed");
                Ok(false)
            }
            Disowned::Disowned => {
                self.maildrop.free(&queue_id)?;
                info!("{queue_id}: submission in doubt: Redis never had {id}, the copy is sent");
                Ok(true)
            }
            Disowned::TooLate => {
                warn!(
                    "{}: {id} is so old that Redis may have forgotten it; left to the administrator",
                    path.display()
                );
                self.undecidable.insert(queue_id);
                Ok(false)
            }
        }
    }
}

/// The queue ids of all files in doubt.
fn in_doubt(maildrop: &Path) -> io::Result<Vec<QueueId>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(maildrop)? {
        let name = entry?.file_name();
        ids.extend(name.to_str().and_then(|name| name.strip_suffix(LIMBO_SUFFIX)?.parse::<QueueId>().ok()));
    }
    Ok(ids)
}

/// What a file in doubt turned out to be.
#[derive(Debug, PartialEq, Eq)]
enum Examined {
    /// Still being written, or gone.
    Unfinished,
    /// This message.
    Submission(MessageId),
    /// Nobody knows.
    SomethingElse,
}

fn examine(path: &Path) -> io::Result<Examined> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Examined::Unfinished),
        // Unfinished files are their owner's alone.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Examined::Unfinished),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.mode() & READY_MODE != READY_MODE {
        return Ok(Examined::Unfinished);
    }
    Ok(envelope_message_id(BufReader::new(file)).map_or(Examined::SomethingElse, Examined::Submission))
}

fn envelope_message_id(file: impl io::BufRead) -> Option<MessageId> {
    let mut reader = RecordReader::new(file, RECORD_LIMIT_BYTES);
    let mut data = Vec::new();
    loop {
        match reader.next(&mut data).ok()?? {
            RecordType::Mesg => return None,
            RecordType::Attr => {
                if let Some(id) = data.strip_prefix(b"optimus_id=") {
                    return std::str::from_utf8(id).ok()?.parse().ok();
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postfix_wire::record::put;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn write(maildrop: &Path, name: &str, mode: u32, records: &[(RecordType, &str)]) -> PathBuf {
        let mut bytes = Vec::new();
        for (kind, data) in records {
            put(&mut bytes, *kind, data.as_bytes());
        }
        let path = maildrop.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn only_files_in_doubt_are_in_doubt() {
        let maildrop = tempfile::tempdir().unwrap();
        for name in ["4C1B21A0", "4C1B21A1.limbo", "nonsense.limbo", "123.456", ".limbo"] {
            fs::write(maildrop.path().join(name), "").unwrap();
        }
        assert_eq!(in_doubt(maildrop.path()).unwrap(), ["4C1B21A1".parse().unwrap()]);
    }

    #[test]
    fn what_is_sent_goes_where_the_layout_says() {
        let queue = tempfile::tempdir().unwrap();
        fs::create_dir(queue.path().join("maildrop")).unwrap();
        let layout = QueueLayout::new([QueueName::Maildrop], 2);
        let maildrop =
            Maildrop { queue_directory: queue.path().to_owned(), layout, stock_pickup: PathBuf::new() };
        let ids: [QueueId; 2] = ["4C1B21A0".parse().unwrap(), "4C1B21A1".parse().unwrap()];
        for id in &ids {
            fs::write(queue.path().join(format!("maildrop/{id}.limbo")), "").unwrap();
            assert_eq!(in_doubt(&maildrop.path()).unwrap(), std::slice::from_ref(id));
            maildrop.free(id).unwrap();
            assert!(queue.path().join(format!("maildrop/4/C/{id}")).exists());
        }
        assert_eq!(in_doubt(&maildrop.path()).unwrap(), []);
    }

    #[test]
    fn a_second_resolver_waits_for_the_first() {
        let queue = tempfile::tempdir().unwrap();
        fs::create_dir(queue.path().join("maildrop")).unwrap();
        let layout = QueueLayout::new([], 1);
        let maildrop =
            Maildrop { queue_directory: queue.path().to_owned(), layout, stock_pickup: PathBuf::new() };
        let first = maildrop.lock().unwrap();
        assert!(first.is_some() && maildrop.lock().unwrap().is_none());
        drop(first);
        assert!(maildrop.lock().unwrap().is_some());
    }

    #[test]
    fn the_envelope_names_the_message() {
        use RecordType::{Attr, From, Mesg, Time};
        let maildrop = tempfile::tempdir().unwrap();
        let attribute = format!("optimus_id={ID}");
        let named = [(Time, "1"), (Attr, attribute.as_str()), (From, "a"), (Mesg, "")];
        let found = |mode, records: &[(RecordType, &str)]| {
            examine(&write(maildrop.path(), "x", mode, records)).unwrap()
        };
        assert_eq!(found(0o744, &named), Examined::Submission(ID.parse().unwrap()));
        assert_eq!(found(0o644, &named), Examined::Unfinished);
        assert_eq!(found(0o744, &named[2..]), Examined::SomethingElse);
        assert_eq!(found(0o744, &[(Mesg, ""), (Attr, &attribute)]), Examined::SomethingElse);
        assert_eq!(examine(&maildrop.path().join("gone")).unwrap(), Examined::Unfinished);
    }
}
