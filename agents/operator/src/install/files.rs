//! Operations on files, each of which is one atomic step of the file system.
//!
//! A new file is written beside its place and renamed over it, so that there is never a moment
//! without the old one or the new one. The former file is kept by a second link, so it stays the
//! same file: content, mode, owner and time.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

/// Content that a file must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileContent {
    Bytes(Vec<u8>),
    LinkTo(PathBuf),
}

/// Owner, group and mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Rights {
    pub(super) fn of_root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }

    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() }
    }
}

/// Returns the metadata of a file; `None` if there is none. A link is not followed.
pub(super) fn look(path: &Path) -> io::Result<Option<Metadata>> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn read(path: &Path) -> io::Result<Option<FileContent>> {
    Ok(match look(path)? {
        None => None,
        Some(it) if it.is_symlink() => Some(FileContent::LinkTo(fs::read_link(path)?)),
        Some(_) => Some(FileContent::Bytes(fs::read(path)?)),
    })
}

/// Returns a checksum that tells contents apart. No access depends on it, so it need not be secure.
pub(super) fn print(content: &FileContent) -> String {
    match content {
        FileContent::Bytes(bytes) => format!("{:08x}:{}", crc32c::crc32c(bytes), bytes.len()),
        FileContent::LinkTo(target) => format!("link:{}", target.display()),
    }
}

pub(super) fn print_of(path: &Path) -> io::Result<Option<String>> {
    Ok(read(path)?.as_ref().map(print))
}

pub(super) fn is_same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let identity = |path| Ok::<_, io::Error>(look(path)?.map(|it| (it.dev(), it.ino())));
    Ok(identity(one)?.is_some() && identity(one)? == identity(other)?)
}

/// Puts a file at a path, and replaces any other file there. Its time is the given one, or now.
pub(super) fn put(
    path: &Path,
    content: &FileContent,
    rights: Rights,
    time: Option<TimeSpec>,
) -> io::Result<()> {
    let new = temporary(path, "new");
    durable::remove(&new)?;
    match content {
        FileContent::LinkTo(target) => symlink(target, &new)?,
        FileContent::Bytes(bytes) => write(&new, bytes, rights, time)?,
    }
    super::interrupt::here();
    durable::rename(&new, path)
}

fn write(path: &Path, bytes: &[u8], rights: Rights, time: Option<TimeSpec>) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    // The owner comes before the mode, because changing the owner clears the set-group-id bit.
    fchown(&file, Some(rights.uid), Some(rights.gid))?;
    file.set_permissions(PermissionsExt::from_mode(rights.mode))?;
    if let Some(time) = time {
        let follow = UtimensatFlags::NoFollowSymlink;
        utimensat(nix::fcntl::AT_FDCWD, path, &TimeSpec::UTIME_OMIT, &time, follow)?;
    }
    file.sync_all()
}

/// Gives the file a second name, and replaces any other file of that name.
pub(super) fn keep(path: &Path, aside: &Path) -> io::Result<()> {
    let new = temporary(aside, "keep");
    durable::remove(&new)?;
    fs::hard_link(path, &new)?;
    super::interrupt::here();
    durable::rename(&new, aside)
}

/// Reverses [`keep`], when the two names belong to different files.
pub(super) fn restore(aside: &Path, path: &Path) -> io::Result<()> {
    durable::rename(aside, path)
}

/// Removes the files that an interrupted run has left beside this one.
pub(super) fn remove_temporary(path: &Path) -> io::Result<()> {
    durable::remove(&temporary(path, "new"))?;
    durable::remove(&temporary(path, "keep"))
}

/// Returns the one temporary name of a file, so that a later run finds what an earlier one has
/// left.
fn temporary(path: &Path, what: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".optimus-");
    name.push(what);
    name.push("-");
    name.push(std::ffi::OsStr::from_bytes(path.file_name().unwrap_or_default().as_bytes()));
    path.with_file_name(name)
}

pub(super) fn time_of(metadata: &Metadata) -> TimeSpec {
    TimeSpec::new(metadata.mtime(), metadata.mtime_nsec())
}
