//! The place of an injection, kept in a file until all is done.
//!
//! The first line names what is injected, and the random bits of which its names are made. It is
//! fsynced before anything is submitted. A line is appended for each batch that Redis has
//! acknowledged: the place after it, and the messages that could not be used. These lines needn't
//! be fsynced: after a lost one, messages are submitted again under the same names. A last line
//! that isn't whole is ignored.
//!
//! A run that ends with unusable messages leaves the file *at rest*: the same command tries these
//! again, and only these. Any other resumed run may repeat a batch, which is safe for as long as
//! Redis remembers names.
//!
//! The file's name can be guessed, and the folder may be anybody's. So the file must be the
//! caller's own, and no link.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use spool::MessageId;

use super::source::{Kind, Listed};
use super::walk::InputPlace;

/// Bits of a message's number, below the random bits of its name.
const NUMBER_BITS: u32 = 32;
/// Age up to which a run may be resumed; Redis remembers names for an hour more.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Beginning of each of these files.
const BEGINNING: &str = "{\"words\":";

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    words: String,
    /// Name made by [`MessageId::new`]: its time, and random bits above those of the number.
    first: MessageId,
    files: Vec<Listed>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct StateLine {
    place: InputPlace,
    failed: Vec<Failed>,
    /// Numbers of messages that had failed before, and haven't now.
    mended: Vec<u64>,
    unix_ms: u64,
    at_rest: bool,
}

/// A message that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) place: InputPlace,
    pub(super) at: String,
    pub(super) why: String,
}

pub(super) struct InjectState {
    head: Head,
    pub(super) done: InputPlace,
    /// Messages that could not be used, by number.
    pub(super) failed: BTreeMap<u64, Failed>,
    /// Time of the last line, in Unix milliseconds.
    noted_ms: u64,
    at_rest: bool,
    file: Flock<File>,
    path: PathBuf,
}

impl InjectState {
    /// Opens a new file, or the one that an earlier run has left; with `force`, however old it is.
    pub(super) fn open(path: &Path, words: &str, files: Vec<Listed>, force: bool) -> Result<Self> {
        let name = || path.display().to_string();
        let mut file = open_own(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(name)?;
        let Some((head, lines)) = text.split_once('\n') else {
            ensure!(
                text.starts_with(BEGINNING) || BEGINNING.starts_with(&text),
                "{}: not a state file of `optimus inject`; give another path with --state",
                path.display()
            );
            let head = Head { words: words.to_owned(), first: MessageId::new()?, files };
            return Self::begin(path, file, head);
        };
        let head: Head = serde_json::from_str(head).with_context(name)?;
        ensure!(
            head.words == words,
            "{}: belongs to another injection ({}); give another path with --state",
            path.display(),
            head.words
        );
        let mut state = Self::of(path, file, head);
        let whole = lines.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        whole.filter_map(|it| serde_json::from_str(it).ok()).for_each(|line| state.take(line));
        state.refuse_other_files(&files)?;
        state.head.files = files;
        state.resume(text.ends_with('\n'), force).with_context(name)?;
        Ok(state)
    }

    fn of(path: &Path, file: Flock<File>, head: Head) -> Self {
        let (done, noted_ms) = (InputPlace::default(), head.first.unix_ms());
        Self {
            head,
            done,
            failed: BTreeMap::new(),
            noted_ms,
            at_rest: false,
            file,
            path: path.to_owned(),
        }
    }

    fn begin(path: &Path, mut file: Flock<File>, head: Head) -> Result<Self> {
        // An interrupted beginning may have left a part of a line.
        file.set_len(0)?;
        let line = serde_json::to_string(&head)? + "\n";
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        durable::sync_folder_of(path)?;
        Ok(Self::of(path, file, head))
    }

    fn take(&mut self, line: StateLine) {
        line.mended.iter().for_each(|number| drop(self.failed.remove(number)));
        self.failed.extend(line.failed.into_iter().map(|it| (it.place.number(), it)));
        (self.done, self.noted_ms, self.at_rest) = (line.place, line.unix_ms, line.at_rest);
    }

    /// Fails if the files are not those of the first run. A file of one message that has failed may
    /// have been mended.
    fn refuse_other_files(&self, files: &[Listed]) -> Result<()> {
        let has_failed = |index| self.failed.values().any(|it| it.place.file == index);
        let is_same = |index: usize, old: &Listed| {
            files.get(index).is_some_and(|new| {
                new == old || new.path == old.path && new.kind == Kind::Message && has_failed(index)
            })
        };
        let mut all = self.head.files.iter().enumerate();
        ensure!(
            files.len() == self.head.files.len() && all.all(|(index, old)| is_same(index, old)),
            "{}: not resumed: the files are not those of the first run; remove this state file to \
                inject all files anew",
            self.path.display()
        );
        Ok(())
    }

    fn resume(&mut self, is_whole: bool, force: bool) -> Result<()> {
        let age = now().saturating_sub(Duration::from_millis(self.noted_ms));
        if !self.at_rest && !force && age > AGE_MAX {
            bail!(
                "inject: not resumed: the run was interrupted {} hours ago, and Redis remembers \
                    names for a day only; --force resumes the run, and may send the last messages \
                    twice",
                age.as_secs() / 3600
            );
        }
        // Ends a line that was cut off.
        if !is_whole {
            self.file.write_all(b"\n")?;
        }
        if self.at_rest {
            self.write(StateLine { place: self.done, ..StateLine::default() })?;
            self.file.sync_all()?;
        }
        Ok(())
    }

    /// Returns the files of this run.
    pub(super) fn files(&self) -> &[Listed] {
        &self.head.files
    }

    /// Notes that Redis has all messages before this place, but for failed ones. Messages in
    /// `mended` had failed before, and haven't now.
    pub(super) fn note(
        &mut self,
        place: InputPlace,
        failed: Vec<Failed>,
        mended: Vec<u64>,
    ) -> Result<()> {
        self.write(StateLine { place, failed, mended, ..StateLine::default() })
    }

    fn write(&mut self, line: StateLine) -> Result<()> {
        let line =
            StateLine { unix_ms: u64::try_from(now().as_millis()).unwrap_or(u64::MAX), ..line };
        let text = serde_json::to_string(&line)? + "\n";
        self.file.write_all(text.as_bytes()).with_context(|| self.path.display().to_string())?;
        self.take(line);
        Ok(())
    }

    /// Ends the injection: removes the file, or leaves it at rest where messages have failed.
    pub(super) fn end(mut self) -> Result<()> {
        if !self.failed.is_empty() {
            return self.write(StateLine {
                place: self.done,
                at_rest: true,
                ..StateLine::default()
            });
        }
        std::fs::remove_file(&self.path).with_context(|| self.path.display().to_string())
    }

    pub(super) fn first(&self) -> MessageId {
        self.head.first
    }
}

/// Opens the caller's own file, and locks it before it is read.
fn open_own(path: &Path) -> Result<Flock<File>> {
    let name = || path.display().to_string();
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = Flock::lock(options.open(path).with_context(name)?, FlockArg::LockExclusiveNonblock);
    let file = file.map_err(|_| {
        anyhow::anyhow!("{}: locked by another `optimus inject`; wait for its end", path.display())
    })?;
    let it = file.metadata().with_context(name)?;
    let is_own = it.uid() == nix::unistd::geteuid().as_raw() && it.mode() & WRITABLE_BY_OTHERS == 0;
    // A file without a name is one that another run has just removed.
    ensure!(
        it.is_file() && it.nlink() == 1 && is_own,
        "{}: writable by other users, or no plain file; refusing to use it; give another path \
            with --state",
        path.display()
    );
    Ok(file)
}

/// Returns the name of the message with this number. 48 random bits and the millisecond keep two
/// injections apart.
pub(super) fn name(first: MessageId, number: u64) -> MessageId {
    let above = first.random_bits() >> NUMBER_BITS << NUMBER_BITS;
    let below = u128::from(number) & ((1 << NUMBER_BITS) - 1);
    MessageId::from_parts(first.unix_ms(), above | below)
}

pub(super) fn default_path(words: &str) -> PathBuf {
    format!("optimus-inject-{:08x}.state", crc32c::crc32c(words.as_bytes())).into()
}

/// Returns the time since the epoch.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_each_time_and_no_two_are_equal() {
        let first = MessageId::new().unwrap();
        assert_eq!(name(first, 7), name(first, 7));
        assert_ne!(name(first, 7), name(first, 8));
        assert_ne!(name(first, 7), name(MessageId::new().unwrap(), 7));
        assert_eq!(name(first, 7).unix_ms(), first.unix_ms());
    }

    fn open(path: &Path) -> Result<InjectState> {
        InjectState::open(path, "w", Vec::new(), false)
    }

    #[test]
    fn a_line_that_is_cut_off_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut state = open(&path).unwrap();
        let (first, place) = (state.first(), InputPlace { messages: 9, ..InputPlace::default() });
        state.note(place, Vec::new(), Vec::new()).unwrap();
        state.file.write_all(b"{\"place\":1,").unwrap();
        drop(state);
        let mut state = open(&path).unwrap();
        assert_eq!((state.first(), state.done), (first, place));
        let place = InputPlace { messages: 12, ..place };
        state.note(place, Vec::new(), Vec::new()).unwrap();
        drop(state);
        assert_eq!(open(&path).unwrap().done, place);
        assert!(InjectState::open(&path, "other", Vec::new(), false).is_err());
        open(&path).unwrap().end().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_failed_message_is_kept_until_it_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (place, end) =
            (InputPlace::default(), InputPlace { messages: 2, ..InputPlace::default() });
        let failed = Failed { place, at: "a".to_owned(), why: "b".to_owned() };
        let mut state = open(&path).unwrap();
        state.note(end, vec![failed.clone()], Vec::new()).unwrap();
        state.end().unwrap();
        let mut state = open(&path).unwrap();
        assert_eq!(state.failed, BTreeMap::from([(place.number(), failed)]));
        state.note(end, Vec::new(), vec![place.number()]).unwrap();
        state.end().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn going_on_is_safe_for_as_long_as_redis_remembers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let write = |hours: u64, at_rest: bool| {
            let unix_ms = u64::try_from(now().as_millis()).unwrap() - hours * 3_600_000;
            let head = Head {
                words: "w".to_owned(),
                first: MessageId::from_parts(unix_ms, 0),
                files: Vec::new(),
            };
            let line = StateLine { unix_ms, at_rest, ..StateLine::default() };
            let texts =
                [serde_json::to_string(&head).unwrap(), serde_json::to_string(&line).unwrap()];
            std::fs::write(&path, texts.join("\n") + "\n").unwrap();
        };
        write(23, false);
        assert!(open(&path).is_ok());
        write(25, false);
        let error = format!("{:#}", open(&path).map(|_| ()).unwrap_err());
        assert!(error.contains("interrupted 25 hours ago") && error.contains("--force"), "{error}");
        assert!(InjectState::open(&path, "w", Vec::new(), true).is_ok());
        write(25, true);
        assert!(open(&path).is_ok());
    }

    #[test]
    fn only_a_file_of_the_caller_s_own_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| folder.path().join(name);
        for (name, text) in [("precious", "no newline"), ("lines", "one\ntwo\n")] {
            std::fs::write(of(name), text).unwrap();
            assert!(open(&of(name)).is_err());
            std::os::unix::fs::symlink(of(name), of("link")).unwrap();
            assert!(open(&of("link")).is_err());
            std::fs::remove_file(of("link")).unwrap();
            assert_eq!(std::fs::read_to_string(of(name)).unwrap(), text);
        }
        std::fs::write(of("empty"), "").unwrap();
        std::fs::hard_link(of("empty"), of("second")).unwrap();
        assert!(open(&of("second")).is_err());
        std::fs::remove_file(of("second")).unwrap();
        std::fs::set_permissions(of("empty"), std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        assert!(open(&of("empty")).is_err());
        drop(open(&of("new")).unwrap());
        assert_eq!(of("new").metadata().unwrap().mode() & 0o777, 0o600);
    }
}
