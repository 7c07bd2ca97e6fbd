//! Stranded mail: messages in a maildrop that no pickup service reads, which are submitted again.
//!
//! A host that only submits mail runs no Postfix. While Redis is away, `sendmail` stores mail in
//! the maildrop for stock pickup. On such a host, that mail would stay there for ever.
//!
//! ```text
//!   maildrop/ID ──rename──▶ maildrop/ID.MESSAGE.in-doubt ──submit──▶ Redis ──▶ unlink
//!        ▲                          │ (in doubt from here on)
//!        └── a pickup service ──────┤
//!        └── Redis never had it ────┘ the resolver of `in_doubt` asks
//! ```
//!
//! The new name makes the file a submission in doubt under a new message id. So after any later
//! failure, the file is resolved like every other submission in doubt. The name is durable before
//! Redis hears of the message. The caller holds the maildrop's lock, which keeps other processes of
//! OPTIMUS away.
//!
//! Stock pickup may start at any moment, and must not have opened the file under its old name. All
//! processes of stock pickup keep the service's socket or FIFO open, even those that outlive their
//! master. So if no process listens there after the rename, none has opened the file. Otherwise the
//! file gets its old name back, for stock pickup.
//!
//! Files that begin with a size record are queue files, moved there by `postsuper -r`. They stay.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postfix_wire::record::put;
use postfix_wire::{QueueId, RecordType, Records};
use spool::{MessageId, Spool, Submission};
use tracing::{info, warn};

use crate::trigger::listens;
use crate::{InDoubt, Maildrop, READY_MODE, ResolveError};

/// Time for which a file is left alone after Redis did not take it.
const REST: Duration = Duration::from_secs(60);

/// Size of the longest file that is submitted, in bytes: the `proto-max-bulk-len` of Redis.
const SIZE_MAX_BYTES: u64 = 500 << 20;

/// Deepest level of directories below a hashed maildrop, which is Postfix's own bound.
const DEPTH_MAX: usize = 16;

/// Attribute by which a submission in doubt names its message. Redis has disowned that id since.
const ID_ATTRIBUTE: &[u8] = b"optimus_id=";

/// Counts the messages that no pickup service will take. Returns 0 if the maildrop can't be read.
pub fn count(maildrop: &Maildrop) -> usize {
    if listens(&maildrop.stock_pickup) {
        return 0;
    }
    let files = waiting(maildrop).unwrap_or_default();
    files
        .iter()
        .filter(|(_, path)| path.symlink_metadata().is_ok_and(|it| is_finished(&it)))
        .count()
}

/// Submitter of stranded mail. Remembers the files that Redis did not take.
#[derive(Default)]
pub(crate) struct Stranded {
    /// Files that are tried again after [`REST`], each with the time of the last attempt.
    resting: HashMap<QueueId, Instant>,
    /// Files that were logged once and are left alone.
    left: HashSet<QueueId>,
}

/// Outcome for one file.
enum FileOutcome {
    /// Redis has the message.
    Submitted,
    /// The file is not finished, or a pickup service will take it.
    NotNow,
    /// Redis can't take the message.
    Left,
}

impl Stranded {
    /// Submits all stranded mail while the caller holds the maildrop's lock. Stops at the first
    /// message that Redis does not take.
    pub(crate) async fn submit_all(
        &mut self,
        maildrop: &Maildrop,
        spool: &Spool,
    ) -> Result<(), ResolveError> {
        self.resting.retain(|_, since| since.elapsed() < REST);
        for (queue_id, path) in waiting(maildrop)? {
            if self.resting.contains_key(&queue_id) || self.left.contains(&queue_id) {
                continue;
            }
            if listens(&maildrop.stock_pickup) {
                return Ok(());
            }
            self.resting.insert(queue_id.clone(), Instant::now());
            spool.ping().await?;
            match submit(maildrop, spool, &queue_id, &path).await? {
                FileOutcome::Submitted => _ = self.resting.remove(&queue_id),
                FileOutcome::NotNow => {}
                FileOutcome::Left => _ = self.left.insert(queue_id),
            }
        }
        Ok(())
    }
}

async fn submit(
    maildrop: &Maildrop,
    spool: &Spool,
    queue_id: &QueueId,
    path: &Path,
) -> Result<FileOutcome, ResolveError> {
    let Some(mut file) = crate::open(path)? else { return Ok(FileOutcome::NotNow) };
    let metadata = file.metadata()?;
    if !is_finished(&metadata) {
        return Ok(FileOutcome::NotNow);
    }
    if metadata.len() > SIZE_MAX_BYTES {
        warn!(
            "{}: not submitted: longer than Redis takes; start Postfix to send it",
            path.display()
        );
        return Ok(FileOutcome::Left);
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    let Some((arrival_ms, records)) = records(&content) else {
        warn!(
            "{}: not submitted: not a submission, or damaged; start Postfix to send it",
            path.display()
        );
        return Ok(FileOutcome::Left);
    };
    let id = MessageId::new().map_err(|error| io::Error::other(error.to_string()))?;
    let Some(claimed) =
        claim(maildrop, &InDoubt { queue_id: queue_id.clone(), id: Some(id) }, path)?
    else {
        return Ok(FileOutcome::NotNow);
    };
    let host = maildrop.host.as_str();
    spool
        .submit(&Submission { id, uid: metadata.uid(), arrival_ms, host, records: &records })
        .await?;
    fs::remove_file(&claimed)?;
    info!("{queue_id}: submitted as {id}, since no pickup service reads the maildrop");
    Ok(FileOutcome::Submitted)
}

/// Renames the file to a submission in doubt, durably. Returns `None` if a pickup service may have
/// it.
fn claim(maildrop: &Maildrop, doubt: &InDoubt, path: &Path) -> io::Result<Option<PathBuf>> {
    let claimed = maildrop.in_doubt(doubt);
    fs::rename(path, &claimed)?;
    if listens(&maildrop.stock_pickup) {
        fs::rename(&claimed, path)?;
        return Ok(None);
    }
    // Both directories are synced, so that after a crash the file has its new name alone.
    durable::sync_folder_of(&claimed)?;
    durable::sync_folder_of(path)?;
    Ok(Some(claimed))
}

fn is_finished(metadata: &fs::Metadata) -> bool {
    metadata.is_file() && metadata.nlink() == 1 && metadata.mode() & READY_MODE == READY_MODE
}

/// Returns the time of submission in Unix milliseconds and the records without a message id.
/// Returns `None` if the content is no whole submission.
fn records(content: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (mut arrival_ms, mut last) = (None, None);
    let mut records = Vec::with_capacity(content.len());
    for record in Records::new(content) {
        let record = record.ok()?;
        if last.is_none() {
            arrival_ms = Some(milliseconds(record.kind, record.data)?);
        }
        last = Some(record.kind);
        if record.kind != RecordType::Attr || !record.data.starts_with(ID_ATTRIBUTE) {
            put(&mut records, record.kind, record.data);
        }
    }
    (last == Some(RecordType::End)).then_some((arrival_ms?, records))
}

/// Parses a time record: seconds, and microseconds if present.
fn milliseconds(kind: RecordType, data: &[u8]) -> Option<u64> {
    let text = (kind == RecordType::Time).then(|| std::str::from_utf8(data).ok())??;
    let mut numbers = text.split(' ').map(str::parse::<u64>);
    let (seconds, micros) = (numbers.next()?.ok()?, numbers.next().unwrap_or(Ok(0)).ok()?);
    seconds.checked_mul(1000)?.checked_add(micros / 1000)
}

/// Lists the ordinary files of the maildrop and of the directories below it.
fn waiting(maildrop: &Maildrop) -> io::Result<Vec<(QueueId, PathBuf)>> {
    let mut files = Vec::new();
    gather(&maildrop.path(), DEPTH_MAX, &mut files)?;
    Ok(files)
}

fn gather(directory: &Path, depth: usize, files: &mut Vec<(QueueId, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if kind.is_dir() && name.len() == 1 && depth > 0 {
            gather(&entry.path(), depth - 1, files)?;
        } else if kind.is_file()
            && let Some(id) = name.to_str().and_then(|name| name.parse().ok())
        {
            files.push((id, entry.path()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &[u8] = b"optimus_id=01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn file(kinds: &[(RecordType, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        kinds.iter().for_each(|(kind, data)| put(&mut bytes, *kind, data));
        bytes
    }

    #[test]
    fn a_submission_loses_the_id_that_redis_has_refused() {
        use RecordType::{Attr, End, From, Time};
        let with = file(&[(Time, b"12 345678"), (Attr, ID), (From, b"a"), (End, b"")]);
        let without = file(&[(Time, b"12 345678"), (From, b"a"), (End, b"")]);
        assert_eq!(records(&with), Some((12_345, without.clone())));
        assert_eq!(records(&without), Some((12_345, without)));
    }

    #[test]
    fn only_a_whole_submission_is_parsed() {
        use RecordType::{End, From, Size, Time};
        assert_eq!(records(&file(&[(Time, b"12"), (From, b"a")])), None, "no end");
        assert_eq!(
            records(&file(&[(Size, b"1 2"), (Time, b"12"), (End, b"")])),
            None,
            "a queue file"
        );
        assert_eq!(records(&file(&[(Time, b"x"), (End, b"")])), None);
        assert_eq!(records(b""), None);
        assert_eq!(records(&file(&[(Time, b"12"), (End, b"")])[..3]), None, "cut off");
    }
}
