//! The sources of an injection: a list of files.
//!
//! The caller is often root, and the sources often lie in folders of other users. By a link they
//! could have root send a file that only root may read. So a file in a folder is opened without
//! following any link below that folder, and links there are skipped and named. A link that is
//! named on the command line is followed.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use serde::{Deserialize, Serialize};

/// Standard input.
pub(super) const STREAM: &str = "-";

/// Format of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// mbox, where any `>From ` line was quoted by one more `>`; the default for an mbox
    Mboxrd,
    /// mbox, where only `From ` lines were quoted
    Mboxo,
    /// mbox as mboxo, where Content-Length says how long each body is
    Mboxcl,
    /// mbox where nothing was quoted and Content-Length says how long each body is
    Mboxcl2,
    /// A folder with `new` and `cur`
    Maildir,
    /// A file for each message
    Eml,
}

/// A file, as it was when it was listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) path: PathBuf,
    /// Source in which it was found, if that is a folder.
    folder: Option<PathBuf>,
    pub(super) kind: Kind,
    pub(super) bytes: u64,
    mtime_ns: i128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Mboxrd,
    Mboxo,
    Mboxcl,
    Mboxcl2,
    Message,
}

/// All files, in an order that is the same each time, and the links that were skipped.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) files: Vec<Listed>,
    pub(super) links: Vec<PathBuf>,
}

impl Sources {
    pub(super) fn find(sources: &[PathBuf], format: Option<Format>) -> Result<Self> {
        let mut all = Self::default();
        for source in sources {
            all.add(source, format).with_context(|| source.display().to_string())?;
        }
        if all.files.is_empty() {
            bail!("no messages found; name a mailbox, a maildir, or a folder of .eml files");
        }
        Ok(all)
    }

    fn add(&mut self, source: &Path, format: Option<Format>) -> Result<()> {
        if source.as_os_str() == STREAM {
            let kind = dialect(format);
            self.files.push(Listed {
                path: source.to_owned(),
                folder: None,
                kind,
                bytes: 0,
                mtime_ns: 0,
            });
            return Ok(());
        }
        let metadata = source.metadata()?;
        if !metadata.is_dir() {
            self.files.push(listed(source.to_owned(), None, kind(source, format)?, &metadata));
            return Ok(());
        }
        let is_maildir =
            source.join("cur").symlink_metadata().is_ok() && format != Some(Format::Eml);
        if !is_maildir {
            return Ok(self.add_messages(source, source, format == Some(Format::Eml))?);
        }
        for folder in [source.join("new"), source.join("cur")] {
            if folder.symlink_metadata()?.is_symlink() {
                self.links.push(folder);
            } else {
                self.add_messages(source, &folder, true)?;
            }
        }
        Ok(())
    }

    /// Adds the message files of a folder. A folder that is no maildir may have other files, too.
    fn add_messages(&mut self, source: &Path, folder: &Path, all: bool) -> io::Result<()> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder)? {
            paths.push(entry?.path());
        }
        paths.sort();
        let is_hidden =
            |it: &Path| it.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"."));
        let is_message =
            |it: &Path| !is_hidden(it) && (all || it.extension().is_some_and(|it| it == "eml"));
        for path in paths.into_iter().filter(|it| is_message(it)) {
            let metadata = path.symlink_metadata()?;
            if metadata.is_symlink() {
                self.links.push(path);
            } else if metadata.is_file() {
                self.files.push(listed(path, Some(source), Kind::Message, &metadata));
            }
        }
        Ok(())
    }
}

fn kind(path: &Path, format: Option<Format>) -> Result<Kind> {
    let mut start = Vec::new();
    File::open(path)?.take(5).read_to_end(&mut start)?;
    match format {
        Some(Format::Eml) => Ok(Kind::Message),
        Some(Format::Maildir) => {
            bail!("not a maildir; give the folder that has cur and new, or another --format")
        }
        None if path.extension().is_some_and(|it| it == "eml") => Ok(Kind::Message),
        None if start != b"From " && !start.is_empty() => {
            bail!("not read: neither an mbox nor named .eml; give the format with --format")
        }
        format => Ok(dialect(format)),
    }
}

/// Returns the kind of file that an mbox is taken for.
fn dialect(format: Option<Format>) -> Kind {
    match format {
        Some(Format::Mboxo) => Kind::Mboxo,
        Some(Format::Mboxcl) => Kind::Mboxcl,
        Some(Format::Mboxcl2) => Kind::Mboxcl2,
        Some(Format::Mboxrd | Format::Maildir | Format::Eml) | None => Kind::Mboxrd,
    }
}

fn listed(path: PathBuf, folder: Option<&Path>, kind: Kind, it: &Metadata) -> Listed {
    let mtime_ns = i128::from(it.mtime()) * 1_000_000_000 + i128::from(it.mtime_nsec());
    Listed { folder: folder.map(Path::to_owned), kind, bytes: it.len(), mtime_ns, path }
}

impl Listed {
    pub(super) fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match &self.folder {
            _ if self.path.as_os_str() == STREAM => Box::new(io::stdin()),
            None => Box::new(File::open(&self.path)?),
            Some(folder) => Box::new(open_beneath(folder, &self.path)?),
        })
    }
}

/// Opens a file below a folder without following links, whatever its path has become meanwhile.
fn open_beneath(folder: &Path, path: &Path) -> io::Result<File> {
    let inside = path.strip_prefix(folder).map_err(io::Error::other)?;
    let no_links = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    // A FIFO must not hold the process up.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file: File =
        openat2(File::open(folder)?, inside, OpenHow::new().flags(flags).resolve(no_links))?.into();
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("no longer a file")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_is_followed_below_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, mail) = (folder.path().join("secret"), folder.path().join("mail"));
        fs::write(&secret, "secret").unwrap();
        fs::create_dir_all(mail.join("new")).unwrap();
        fs::write(mail.join("new/1"), "mail").unwrap();
        std::os::unix::fs::symlink(&secret, mail.join("new/2")).unwrap();
        std::os::unix::fs::symlink(folder.path(), mail.join("cur")).unwrap();
        let Sources { files, links } = Sources::find(std::slice::from_ref(&mail), None).unwrap();
        assert_eq!(links, [mail.join("new/2"), mail.join("cur")]);
        let [one] = &files[..] else { panic!("{files:?}") };
        let mut text = String::new();
        one.open().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "mail");
        // The file becomes a link after it was listed.
        fs::rename(mail.join("new/2"), mail.join("new/1")).unwrap();
        assert!(one.open().is_err());
        fs::rename(mail.join("new"), mail.join("old")).unwrap();
        std::os::unix::fs::symlink(folder.path(), mail.join("new")).unwrap();
        fs::write(folder.path().join("1"), "secret").unwrap();
        assert!(one.open().is_err());
    }
}
