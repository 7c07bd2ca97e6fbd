//! Files in places where other users than root may have put them.
//!
//! A program that runs as root, or set-group-id, must be careful with a file that a user can
//! change. A link may lead to a file that the user can't read, a FIFO makes the program wait, a
//! sparse file fills its memory. So only this module opens such files. Links that others can have
//! made are not followed, and no open waits. Only regular files of the right owner are accepted,
//! which nobody else may write to. See [`crate::folder`] for that owner.
//!
//! The checks are on the opened file, whatever its name leads to by then.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::folder::{Folder, PathRefusal, kind};

const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Flags of open(2): neither a FIFO nor a lease makes the caller wait, and no terminal becomes the
/// caller's controlling terminal.
const READING: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

/// Opens a file for reading, after checking that the owner of its folder, or root, put it there.
///
/// # Errors
///
/// A [`PathRefusal`], or the system's error; `NotFound` where there is no file.
pub fn open(path: &Path) -> io::Result<File> {
    let file = open_of_any_mode(path)?;
    let mode = file.metadata()?.mode();
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(PathRefusal::Mode(mode & 0o7777).into());
    }
    Ok(file)
}

/// Opens a file for a caller that checks the mode by itself.
///
/// # Errors
///
/// The errors of [`open`], except for [`PathRefusal::Mode`].
pub fn open_of_any_mode(path: &Path) -> io::Result<File> {
    let (folder, name) = Folder::of(path)?;
    let opened = openat(folder.fd(), name.as_os_str(), READING, Mode::empty());
    let file = File::from(opened.map_err(|error| refused(error, path, &folder))?);
    let is = file.metadata()?;
    if !is.is_file() {
        return Err(PathRefusal::Kind { is: kind(is.mode()), wanted: "regular file" }.into());
    }
    folder.vouch_for(is.uid(), is.nlink())?;
    Ok(file)
}

/// Reads a file of at most `bytes_max` bytes, after the checks of [`open`].
///
/// # Errors
///
/// The errors of [`open`], and [`PathRefusal::Size`].
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path)?.take(bytes_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(PathRefusal::Size { bytes_max }.into());
    }
    Ok(content)
}

/// Reads a text file of at most `bytes_max` bytes.
///
/// # Errors
///
/// The errors of [`read`], and `InvalidData` for text that isn't UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8"))
}

/// Converts the error for a name that changed after the walk, or for a kind of file that can't be
/// opened.
fn refused(error: Errno, path: &Path, folder: &Folder) -> io::Error {
    match error {
        Errno::ELOOP => PathRefusal::Link { at: path.to_owned(), owner: folder.owner() }.into(),
        Errno::ENXIO => PathRefusal::Kind { is: "socket", wanted: "regular file" }.into(),
        error => error.into(),
    }
}
