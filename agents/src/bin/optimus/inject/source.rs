//! What is injected: a list of files, and the messages in each.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::mbox::{Mbox, Quoting};

const INPUT_BYTES: usize = 256 * 1024;
/// Standard input.
pub(super) const STREAM: &str = "-";

/// What files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// mbox, where any `>From ` line was quoted by one more `>`. What an mbox is taken for
    Mboxrd,
    /// mbox, where only `From ` lines were quoted
    Mboxo,
    /// A folder with `new` and `cur`
    Maildir,
    /// A file for each message
    Eml,
}

/// A file, as it was when it was listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) bytes: u64,
    mtime_ns: i128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Mboxrd,
    Mboxo,
    Message,
}

/// All files, in an order that is the same next time.
pub(super) fn files(sources: &[PathBuf], format: Option<Format>) -> Result<Vec<Listed>> {
    let mut all = Vec::new();
    for source in sources {
        let name = || source.display().to_string();
        if source.as_os_str() == STREAM {
            let kind = if format == Some(Format::Mboxo) { Kind::Mboxo } else { Kind::Mboxrd };
            all.push(Listed { path: source.clone(), kind, bytes: 0, mtime_ns: 0 });
            continue;
        }
        if !source.metadata().with_context(name)?.is_dir() {
            let kind = kind(source, format).with_context(name)?;
            all.push(listed(source.clone(), kind)?);
            continue;
        }
        let is_maildir = source.join("cur").is_dir() && format != Some(Format::Eml);
        let folders =
            if is_maildir { vec![source.join("new"), source.join("cur")] } else { vec![source.clone()] };
        for folder in folders {
            for path in messages(&folder, is_maildir || format == Some(Format::Eml)).with_context(name)? {
                all.push(listed(path, Kind::Message)?);
            }
        }
    }
    if all.is_empty() {
        bail!("no messages there");
    }
    Ok(all)
}

/// In a folder that is no maildir, other files may be as well.
fn messages(folder: &Path, all: bool) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let is_message = |path: &PathBuf| {
        let is_hidden = path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"."));
        path.is_file() && !is_hidden && (all || path.extension().is_some_and(|it| it == "eml"))
    };
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|it| it.path()).filter(is_message).collect();
    paths.sort();
    Ok(paths)
}

fn kind(path: &Path, format: Option<Format>) -> Result<Kind> {
    let mut start = Vec::new();
    File::open(path)?.take(5).read_to_end(&mut start)?;
    Ok(match format {
        Some(Format::Mboxrd) => Kind::Mboxrd,
        Some(Format::Mboxo) => Kind::Mboxo,
        Some(Format::Eml) => Kind::Message,
        Some(Format::Maildir) => bail!("not a maildir"),
        None if path.extension().is_some_and(|it| it == "eml") => Kind::Message,
        None if start == b"From " || start.is_empty() => Kind::Mboxrd,
        None => bail!("is neither an mbox nor named .eml; say with --format what it is"),
    })
}

fn listed(path: PathBuf, kind: Kind) -> Result<Listed> {
    let it = path.metadata().with_context(|| path.display().to_string())?;
    let mtime_ns = i128::from(it.mtime()) * 1_000_000_000 + i128::from(it.mtime_nsec());
    Ok(Listed { kind, bytes: it.len(), mtime_ns, path })
}

/// Where in a list of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) offset: u64,
    /// Entries before it, usable or not.
    pub(super) messages: u64,
    /// Of these, not usable.
    pub(super) unusable: u64,
}

/// The messages of a list of files, from a place on.
pub(super) struct Messages {
    files: Vec<Listed>,
    place: Place,
    mbox: Option<Mbox<Box<dyn BufRead>>>,
}

/// What is where a message should be.
pub(super) struct Found {
    /// For people: file, and offset in an mbox.
    pub(super) at: String,
    /// The message, or why there is none.
    pub(super) message: Result<Vec<u8>, String>,
    /// The place after it.
    pub(super) next: Place,
}

impl Messages {
    pub(super) fn new(files: Vec<Listed>, place: Place) -> Self {
        Self { files, place, mbox: None }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// `None` at the end of the last file. A file that can't be read is no message, and others go on.
    pub(super) fn next_message(&mut self) -> Option<Found> {
        loop {
            let file = self.files.get(self.place.file)?.clone();
            let at = file.path.display().to_string();
            let (at, message) = match file.kind {
                Kind::Message => {
                    let message = fs::read(&file.path).map_err(|error| error.to_string());
                    self.place = Place { file: self.place.file + 1, offset: 0, ..self.place };
                    (at, message)
                }
                Kind::Mboxo | Kind::Mboxrd => match self.next_of_mbox(&file) {
                    Ok(Some((offset, message))) => {
                        let no_message = "does not begin with a line \"From \"";
                        (format!("{at}: byte {offset}"), message.ok_or_else(|| no_message.to_owned()))
                    }
                    Ok(None) => {
                        self.leave_file();
                        continue;
                    }
                    Err(error) => {
                        self.leave_file();
                        (at, Err(error.to_string()))
                    }
                },
            };
            self.place.messages += 1;
            return Some(Found { at, message, next: self.place });
        }
    }

    /// The message just read is of no use; the place after it.
    pub(super) fn count_unusable(&mut self) -> Place {
        self.place.unusable += 1;
        self.place
    }

    fn leave_file(&mut self) {
        self.mbox = None;
        self.place = Place { file: self.place.file + 1, offset: 0, ..self.place };
    }

    fn next_of_mbox(&mut self, file: &Listed) -> io::Result<Option<(u64, Option<Vec<u8>>)>> {
        let mbox = match &mut self.mbox {
            Some(mbox) => mbox,
            none => none.insert(open(file, self.place.offset)?),
        };
        let entry = mbox.next_entry()?;
        self.place.offset = mbox.offset();
        Ok(entry.map(|it| (it.offset, it.message)))
    }
}

/// A stream can't be wound forward, so what was done is read again.
fn open(file: &Listed, offset: u64) -> io::Result<Mbox<Box<dyn BufRead>>> {
    let quoting = if file.kind == Kind::Mboxo { Quoting::Mboxo } else { Quoting::Mboxrd };
    let input: Box<dyn BufRead> = if file.path.as_os_str() == STREAM {
        let mut stream = BufReader::with_capacity(INPUT_BYTES, io::stdin());
        io::copy(&mut stream.by_ref().take(offset), &mut io::sink())?;
        Box::new(stream)
    } else {
        let mut opened = File::open(&file.path)?;
        opened.seek(SeekFrom::Start(offset))?;
        Box::new(BufReader::with_capacity(INPUT_BYTES, opened))
    };
    Ok(Mbox::new(input, quoting, offset))
}
