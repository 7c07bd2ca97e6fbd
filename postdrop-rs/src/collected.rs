//! Store for the records of one message: the latest records in memory, earlier ones in a file.
//!
//! ```text
//!  `before`:        │ `file`, without a name:     │ `after`:
//!  the time record, │ written whenever `after`    │ at most MEMORY_BYTES
//!  and the mark     │ has grown to MEMORY_BYTES   │ and one record
//! ```
//!
//! So a large message needs no more memory than a small one, and postdropd's many postdrops fit
//! into the memory of their service. Standard input is read once. Redis, the maildrop and postdropd
//! get the records from this store, as often as necessary.
//!
//! The file lies in the maildrop, whose disk may hold users' mail. A program without rights to the
//! maildrop uses a folder for temporary files. No other process can open the file, and the kernel
//! deletes the file when this process ends. Where no file can be made, or the caller's limits don't
//! let it grow, all records stay in memory. A full disk is an error, as it is when stock postdrop
//! writes its file.
//!
//! Source: `open(2)` (`O_TMPFILE`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use postfix_wire::record::{RecordType, put};
use spool::{Content, InFile, MessageId};

use crate::death::Removal;

/// Most bytes of a message in memory. Nearly all messages are smaller. postdropd's service needs
/// this much memory for each connection.
pub const MEMORY_BYTES: usize = 512 * 1024;
/// Mode of the file: for its owner alone.
const MODE: u32 = 0o600;
/// Folders for the file of a program without rights to the maildrop.
const TEMPORARY: [&str; 2] = ["/var/tmp", "/tmp"];

/// Folders in which the file may be made. The first one that works is used.
#[derive(Debug, Clone, Default)]
pub struct Room(Vec<PathBuf>);

impl Room {
    /// Keeps all records in memory.
    pub fn memory() -> Self {
        Self::default()
    }

    /// Uses the maildrop of this queue directory.
    pub fn maildrop(queue_directory: &Path) -> Self {
        Self(vec![queue_directory.join("maildrop")])
    }

    /// Uses folders that every user may write to, for a process without further rights.
    pub fn for_everybody() -> Self {
        Self(TEMPORARY.map(PathBuf::from).to_vec())
    }

    /// Makes a file. Returns `None` if no folder works. Fails if a disk is full.
    fn file(&self) -> io::Result<Option<File>> {
        for folder in &self.0 {
            match nameless(folder) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if is_full(&error) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }
}

/// Records of a message, in their order.
#[derive(Debug)]
pub struct Collected {
    room: Room,
    before: Vec<u8>,
    file: Option<File>,
    bytes_in_file: u64,
    after: Vec<u8>,
}

impl Collected {
    /// Starts a message with its first record. [`Self::add`] takes the later ones.
    pub(crate) fn beginning_with(kind: RecordType, data: &[u8], room: Room) -> Self {
        let mut before = Vec::new();
        put(&mut before, kind, data);
        Self { room, before, file: None, bytes_in_file: 0, after: Vec::new() }
    }

    /// Adds a record. Fails if the file can't be written; the records are then incomplete and
    /// useless.
    pub(crate) fn add(&mut self, kind: RecordType, data: &[u8]) -> io::Result<()> {
        put(&mut self.after, kind, data);
        if self.after.len() < MEMORY_BYTES || self.room.0.is_empty() {
            return Ok(());
        }
        self.put_aside()
    }

    /// Returns the records' size in bytes.
    pub fn bytes(&self) -> u64 {
        self.content().bytes()
    }

    /// Returns all records.
    pub fn content(&self) -> Content<'_> {
        let file = self.file.as_ref().map(|file| InFile { file, bytes: self.bytes_in_file });
        Content { before: &self.before, file, after: &self.after }
    }

    /// Returns all records except the first one and the mark.
    pub fn rest(&self) -> Content<'_> {
        Content { before: &[], ..self.content() }
    }

    /// Adds an attribute with the message id after the first record. pickup-rs asks Redis about
    /// this id.
    pub(crate) fn mark(&mut self, id: MessageId) {
        put(&mut self.before, RecordType::Attr, format!("optimus_id={id}").as_bytes());
    }

    /// Returns all records in memory.
    pub fn into_bytes(self) -> io::Result<Vec<u8>> {
        let mut all = Vec::with_capacity(usize::try_from(self.bytes()).unwrap_or_default());
        let mut take = |piece: &[u8]| {
            all.extend_from_slice(piece);
            Ok(())
        };
        self.content().each(|error| error, &mut take)?;
        Ok(all)
    }

    fn put_aside(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = self.room.file()?;
        }
        let Some(file) = &mut self.file else {
            self.room = Room::memory();
            return Ok(());
        };
        match file.write_all(&self.after) {
            Ok(()) => {
                self.bytes_in_file += self.after.len() as u64;
                self.after.clear();
                Ok(())
            }
            Err(error)
                if Errno::from_raw(error.raw_os_error().unwrap_or_default()) == Errno::EFBIG =>
            {
                self.take_back()
            }
            Err(error) => Err(error),
        }
    }

    /// Moves all records back to memory.
    fn take_back(&mut self) -> io::Result<()> {
        let mut all = Vec::new();
        let mut take = |piece: &[u8]| {
            all.extend_from_slice(piece);
            Ok(())
        };
        self.rest().each(|error| error, &mut take)?;
        (self.room, self.file, self.bytes_in_file, self.after) = (Room::memory(), None, 0, all);
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
    matches!(errno, Errno::ENOSPC | Errno::EDQUOT)
}

/// Makes a file without a name. On a file system without such files, the file gets a name that is
/// removed at once.
fn nameless(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(MODE);
    // O_EXCL keeps the file from getting a name later.
    let tmpfile = libc::O_TMPFILE | libc::O_EXCL;
    options.clone().custom_flags(tmpfile).open(folder).or_else(|error| {
        match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
            Errno::EOPNOTSUPP | Errno::EISDIR => {
                named_for_a_moment(folder, options.create_new(true))
            }
            _ => Err(error),
        }
    })
}

fn named_for_a_moment(folder: &Path, options: &OpenOptions) -> io::Result<File> {
    let path = folder.join(format!("aside.{}", std::process::id()));
    let removal = Removal::of(&path);
    let file = options.open(&path)?;
    removal.arm();
    let removed = std::fs::remove_file(&path);
    Removal::of_nothing().arm();
    removed.map(|()| file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: [u8; 1000] = [b'x'; 1000];

    fn collected(room: Room, lines: usize) -> Collected {
        let mut collected = Collected::beginning_with(RecordType::Time, b"1 2", room);
        (0..lines).for_each(|_| collected.add(RecordType::Norm, &LINE).unwrap());
        collected
    }

    fn expected(lines: usize, mark: Option<MessageId>) -> Vec<u8> {
        let mut all = Vec::new();
        put(&mut all, RecordType::Time, b"1 2");
        if let Some(id) = mark {
            put(&mut all, RecordType::Attr, format!("optimus_id={id}").as_bytes());
        }
        (0..lines).for_each(|_| put(&mut all, RecordType::Norm, &LINE));
        all
    }

    fn room(folder: &Path) -> Room {
        std::fs::create_dir_all(folder.join("maildrop")).unwrap();
        Room::maildrop(folder)
    }

    #[test]
    fn a_small_message_makes_no_file_and_a_large_one_stays_out_of_memory() {
        let folder = tempfile::tempdir().unwrap();
        assert!(collected(room(folder.path()), 100).file.is_none());
        let large = collected(room(folder.path()), 5_000);
        assert!(large.after.len() < MEMORY_BYTES && large.after.capacity() <= 2 * MEMORY_BYTES);
        assert!(large.bytes_in_file > 4_000_000);
        let names = std::fs::read_dir(folder.path().join("maildrop")).unwrap().count();
        assert_eq!(names, 0, "the file has a name");
        assert_eq!(large.into_bytes().unwrap(), expected(5_000, None));
    }

    #[test]
    fn the_id_follows_the_time_record_and_the_rest_has_neither() {
        let folder = tempfile::tempdir().unwrap();
        let id: MessageId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        for lines in [1, 2_000] {
            let mut records = collected(room(folder.path()), lines);
            records.mark(id);
            assert_eq!(records.rest().bytes(), lines as u64 * 1_003);
            assert_eq!(records.into_bytes().unwrap(), expected(lines, Some(id)));
        }
    }

    #[test]
    fn without_a_usable_folder_all_records_stay_in_memory() {
        for room in [Room::memory(), Room::maildrop(Path::new("/nonexistent"))] {
            let records = collected(room, 2_000);
            assert!(records.file.is_none());
            assert_eq!(records.into_bytes().unwrap(), expected(2_000, None));
        }
    }

    #[test]
    fn records_in_a_file_that_may_not_grow_go_back_to_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut records = collected(room(folder.path()), 2_000);
        assert!(records.bytes_in_file > 0);
        records.take_back().unwrap();
        assert!(records.file.is_none());
        assert_eq!(records.into_bytes().unwrap(), expected(2_000, None));
    }

    #[test]
    fn a_file_that_needs_a_name_soon_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(MODE).create_new(true);
        named_for_a_moment(folder.path(), &options).unwrap().write_all(b"x").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
