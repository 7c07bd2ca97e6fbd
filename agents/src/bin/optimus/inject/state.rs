//! The place of an injection, kept in a file until all is done.
//!
//! The first line says what is injected and from which random bits its names are made; it is fsynced before anything is submitted.
//! A line is appended for each batch that Redis has acknowledged. These lines needn't be fsynced: a lost one means that
//! messages are submitted again, under the same names. A last line that isn't whole is as none.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use spool::MessageId;

use super::source::{Listed, Place};

/// Below the random bits of a name: the message's number.
const NUMBER_BITS: u32 = 32;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    words: String,
    /// Any name made by [`MessageId::new`]: its time, and random bits above those of the number.
    first: MessageId,
    files: Vec<Listed>,
}

pub(super) struct State {
    head: Head,
    pub(super) done: Place,
    file: Flock<File>,
    path: PathBuf,
}

impl State {
    /// A new one, or the one that an interrupted run has left.
    pub(super) fn open(path: &Path, words: &str, files: Vec<Listed>) -> Result<Self> {
        let name = || path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            other => other.with_context(name)?,
        };
        let file = OpenOptions::new().create(true).append(true).open(path).with_context(name)?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        let file =
            file.map_err(|_| anyhow::anyhow!("{}: another `optimus inject` is at it", path.display()))?;
        let Some((head, places)) = text.split_once('\n') else {
            return Self::begin(
                path,
                file,
                Head { words: words.to_owned(), first: MessageId::new()?, files },
            );
        };
        let head: Head = serde_json::from_str(head).with_context(name)?;
        ensure!(head.words == words, "{}: is of another injection: {}", path.display(), head.words);
        ensure!(
            head.files == files,
            "{}: the files are not those that were begun with; remove it to inject all of them anew",
            path.display()
        );
        let whole = places.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        let done = whole.filter_map(|it| serde_json::from_str(it).ok()).next_back().unwrap_or_default();
        let mut state = Self { head, done, file, path: path.to_owned() };
        // Ends a line that was cut off.
        if !text.ends_with('\n') {
            state.file.write_all(b"\n").with_context(name)?;
        }
        Ok(state)
    }

    fn begin(path: &Path, mut file: Flock<File>, head: Head) -> Result<Self> {
        // What an interrupted beginning has left.
        file.set_len(0)?;
        let line = serde_json::to_string(&head)? + "\n";
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
        Ok(Self { head, done: Place::default(), file, path: path.to_owned() })
    }

    pub(super) fn files(&self) -> &[Listed] {
        &self.head.files
    }

    /// Redis has all before this place.
    pub(super) fn note(&mut self, place: Place) -> Result<()> {
        let line = serde_json::to_string(&place)? + "\n";
        self.file.write_all(line.as_bytes()).with_context(|| self.path.display().to_string())?;
        self.done = place;
        Ok(())
    }

    /// Nothing is left to be done.
    pub(super) fn end(self) -> Result<()> {
        std::fs::remove_file(&self.path).with_context(|| self.path.display().to_string())
    }

    pub(super) fn first(&self) -> MessageId {
        self.head.first
    }
}

/// The name of the message with this number. 48 random bits and the millisecond keep two injections apart.
pub(super) fn name(first: MessageId, number: u64) -> MessageId {
    let above = first.random_bits() >> NUMBER_BITS << NUMBER_BITS;
    let below = u128::from(number) & ((1 << NUMBER_BITS) - 1);
    MessageId::from_parts(first.unix_ms(), above | below)
}

pub(super) fn default_path(words: &str) -> PathBuf {
    format!("optimus-inject-{:08x}.state", crc32c::crc32c(words.as_bytes())).into()
}

/// Since the epoch.
pub(super) fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_each_time_and_no_two_are() {
        let first = MessageId::new().unwrap();
        assert_eq!(name(first, 7), name(first, 7));
        assert_ne!(name(first, 7), name(first, 8));
        assert_ne!(name(first, 7), name(MessageId::new().unwrap(), 7));
        assert_eq!(name(first, 7).unix_ms(), first.unix_ms());
    }

    #[test]
    fn a_line_that_is_cut_off_is_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let open = || State::open(&path, "w", Vec::new()).unwrap();
        let mut state = open();
        let (first, place) = (state.first(), Place { messages: 9, ..Place::default() });
        state.note(place).unwrap();
        state.file.write_all(b"{\"file\":1,").unwrap();
        drop(state);
        let mut state = open();
        assert_eq!((state.first(), state.done), (first, place));
        let place = Place { messages: 12, ..place };
        state.note(place).unwrap();
        drop(state);
        assert_eq!(open().done, place);
        assert!(State::open(&path, "other", Vec::new()).is_err());
        open().end().unwrap();
        assert!(!path.exists());
    }
}
