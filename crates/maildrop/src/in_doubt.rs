//! Submissions in doubt: Redis may have the message, and a copy lies in the maildrop.
//!
//! The rule and its reasons are in `docs/decisions/0003-*`. The resolver asks Redis to disown the
//! message id. If Redis has the message, the resolver removes the copy. Otherwise Redis will never
//! accept that message, so the copy becomes an ordinary maildrop file, and stock pickup is woken.
//! Redis gives the same answer each time, so after a crash the resolver asks again.
//!
//! pickup-rs resolves submissions in doubt, and so does `optimus maildrop` where no Postfix runs. A
//! lock on the maildrop's folder admits one of them at a time. Only `mail_owner` and root can take
//! the lock, since no other user may read that folder.
//!
//! The root of this crate has the names of files in doubt.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use postfix_wire::{RecordReader, RecordType};
use spool::{Disowned, MessageId, Spool};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::stranded::Stranded;
use crate::trigger::{WAKE_UP, listens, wake};
use crate::{InDoubt, Maildrop, READY_MODE, ResolveError};

/// Pause between two looks at the maildrop: one directory, normally empty.
const PAUSE: Duration = Duration::from_secs(2);
/// Pause before asking again whether this process may resolve.
const MAY_PAUSE: Duration = Duration::from_millis(200);

/// Reason to log while this process may not resolve.
const NOT_HERE: &str = "Redis has not said that this queue directory is the node's";

/// Length of the longest envelope record that is read, in bytes.
const RECORD_LIMIT_BYTES: usize = 64 * 1024;

/// Resolves submissions in doubt and submits stranded mail, until the future is dropped. Two
/// processes may run this function, because a lock admits one of them at a time. Leaves all files
/// alone while `may` returns false: a copied queue directory holds copies of mail.
pub async fn run(maildrop: Maildrop, spool: Spool, may: impl Fn() -> bool) {
    let mut resolver =
        Resolver { maildrop, spool, undecidable: HashSet::new(), stranded: Stranded::default() };
    let mut told = String::new();
    loop {
        let trouble = match may() {
            true => {
                resolver.look().await.map_or_else(|error| error.to_string(), |()| String::new())
            }
            false if count(&resolver.maildrop) > 0 => NOT_HERE.to_owned(),
            false => String::new(),
        };
        // Each kind of trouble is logged once, and not at each look while Redis is away.
        if !trouble.is_empty() && trouble != told {
            warn!("mail in the maildrop waits: {trouble}");
        }
        told = trouble;
        sleep(if may() { PAUSE } else { MAY_PAUSE }).await;
    }
}

/// Longest wait of a deletion for another resolver to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Failure to delete submissions in doubt. Some may be deleted already; repeat the call.
#[derive(Debug, thiserror::Error)]
pub enum DeletionError {
    /// The maildrop could not be read or changed.
    #[error("submissions in doubt: not deleted: maildrop: {0}; see to the disk")]
    File(#[from] io::Error),
    /// Redis could not be asked.
    #[error("submissions in doubt: not deleted: {0}")]
    Spool(#[from] spool::SpoolError),
    /// Another process resolves submissions in doubt.
    #[error("submissions in doubt: not deleted: another process resolves some; try again")]
    Busy,
}

/// Deletes the submissions in doubt that `is_meant` selects. Returns the messages that no longer
/// exist anywhere. Where Redis has the message, only the copy is deleted, and the caller deletes
/// the message in Redis.
///
/// # Errors
///
/// See [`DeletionError`].
pub async fn delete(
    maildrop: &Maildrop,
    spool: &Spool,
    is_meant: impl Fn(MessageId) -> bool,
) -> Result<BTreeSet<MessageId>, DeletionError> {
    let mut deleted = BTreeSet::new();
    if maildrop.files_in_doubt()?.is_empty() {
        return Ok(deleted);
    }
    let until = tokio::time::Instant::now() + LOCK_PATIENCE;
    let _lock = loop {
        if let Some(lock) = maildrop.lock()? {
            break lock;
        }
        if tokio::time::Instant::now() > until {
            return Err(DeletionError::Busy);
        }
        sleep(LOCK_PAUSE).await;
    };
    for doubt in maildrop.files_in_doubt()? {
        let path = maildrop.in_doubt(&doubt);
        let Examined::Submission(id) = examine(&path, doubt.id)? else { continue };
        if !is_meant(id) {
            continue;
        }
        // A submission that is too old for Redis to decide is deleted too: the operator decides.
        let is_nowhere_else = spool.disown(id).await? != Disowned::Known;
        fs::remove_file(&path)?;
        info!("{}: submission in doubt of {id}: deleted by an operator", doubt.queue_id);
        if is_nowhere_else {
            deleted.insert(id);
        }
    }
    Ok(deleted)
}

struct Resolver {
    maildrop: Maildrop,
    spool: Spool,
    /// Files that were logged once and are left alone.
    undecidable: HashSet<InDoubt>,
    stranded: Stranded,
}

impl Resolver {
    /// Looks through the maildrop once. Stops at the first failure, since the rest would fail as
    /// well.
    async fn look(&mut self) -> Result<(), ResolveError> {
        let Some(_lock) = self.maildrop.lock()? else { return Ok(()) };
        self.resolve_all().await?;
        self.stranded.submit_all(&self.maildrop, &self.spool).await
    }

    async fn resolve_all(&mut self) -> Result<(), ResolveError> {
        let mut freed = false;
        for doubt in self.maildrop.files_in_doubt()? {
            if !self.undecidable.contains(&doubt) {
                freed |= self.resolve(doubt).await?;
            }
        }
        if freed && listens(&self.maildrop.stock_pickup) {
            wake(&self.maildrop.stock_pickup, WAKE_UP).await;
        }
        Ok(())
    }

    /// Resolves one submission in doubt. Returns whether it became an ordinary maildrop file.
    async fn resolve(&mut self, doubt: InDoubt) -> Result<bool, ResolveError> {
        let path = self.maildrop.in_doubt(&doubt);
        let queue_id = &doubt.queue_id;
        let id = match examine(&path, doubt.id)? {
            Examined::Unfinished => return Ok(false),
            Examined::Submission(id) => id,
            Examined::SomethingElse => {
                warn!(
                    "{}: not resolved: neither name nor envelope has a message id; look at the \
                     file with postcat(1)",
                    path.display()
                );
                self.undecidable.insert(doubt);
                return Ok(false);
            }
        };
        match self.spool.disown(id).await? {
            Disowned::Known => {
                fs::remove_file(&path)?;
                info!("{queue_id}: submission in doubt: Redis has {id}; copy removed");
                Ok(false)
            }
            Disowned::Disowned => {
                self.maildrop.free(&doubt)?;
                info!("{queue_id}: submission in doubt: Redis never had {id}; copy to be sent");
                Ok(true)
            }
            Disowned::TooLate => {
                warn!(
                    "{}: not resolved: {id} is too old for Redis to decide; rename the file to \
                     {queue_id} to send the message (perhaps twice), or use `optimus delete {id}`",
                    path.display()
                );
                self.undecidable.insert(doubt);
                Ok(false)
            }
        }
    }
}

/// Counts the submissions in doubt. Returns 0 if the maildrop can't be read.
pub fn count(maildrop: &Maildrop) -> usize {
    maildrop.files_in_doubt().unwrap_or_default().len()
}

/// Returns the ids of messages in doubt whose files are finished.
///
/// # Errors
///
/// The maildrop could not be read.
pub fn messages(maildrop: &Maildrop) -> io::Result<BTreeSet<MessageId>> {
    let mut found = BTreeSet::new();
    for doubt in maildrop.files_in_doubt()? {
        if let Examined::Submission(id) = examine(&maildrop.in_doubt(&doubt), doubt.id)? {
            found.insert(id);
        }
    }
    Ok(found)
}

/// Content of a file in doubt.
#[derive(Debug, PartialEq, Eq)]
enum Examined {
    /// The file is still being written, or gone.
    Unfinished,
    /// A finished copy of this message.
    Submission(MessageId),
    /// Neither the name nor the envelope has a message id.
    SomethingElse,
}

/// Examines a file. `id` is the message id from its name; otherwise the envelope is read.
fn examine(path: &Path, id: Option<MessageId>) -> io::Result<Examined> {
    let Some(file) = crate::open(path)? else { return Ok(Examined::Unfinished) };
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.mode() & READY_MODE != READY_MODE {
        return Ok(Examined::Unfinished);
    }
    let id = id.or_else(|| envelope_message_id(BufReader::new(file)));
    Ok(id.map_or(Examined::SomethingElse, Examined::Submission))
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
    use std::path::PathBuf;

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
    fn the_envelope_names_the_message() {
        use RecordType::{Attr, From, Mesg, Time};
        let maildrop = tempfile::tempdir().unwrap();
        let attribute = format!("optimus_id={ID}");
        let named = [(Time, "1"), (Attr, attribute.as_str()), (From, "a"), (Mesg, "")];
        let found = |mode, records: &[(RecordType, &str)]| {
            examine(&write(maildrop.path(), "x", mode, records), None).unwrap()
        };
        assert_eq!(found(0o744, &named), Examined::Submission(ID.parse().unwrap()));
        assert_eq!(found(0o644, &named), Examined::Unfinished);
        assert_eq!(found(0o744, &named[2..]), Examined::SomethingElse);
        let by_name = examine(&maildrop.path().join("x"), ID.parse().ok()).unwrap();
        assert_eq!(by_name, Examined::Submission(ID.parse().unwrap()));
        assert_eq!(found(0o744, &[(Mesg, ""), (Attr, &attribute)]), Examined::SomethingElse);
        assert_eq!(examine(&maildrop.path().join("gone"), None).unwrap(), Examined::Unfinished);
    }
}
