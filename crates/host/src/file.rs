//! Files that others than root may have put where they lie.
//!
//! A program that runs as root, or set-group-id, reads a file that a user can change as that user
//! would have it: a link leads to a file that the user can't read, a FIFO holds the program up, a
//! sparse file fills its memory. So such files are opened by this module and by nothing else:
//! without following links that others can have made, without waiting, and only if they are regular
//! files of the right owner that nobody else may write to. See [`crate::folder`] for who that is.
//!
//! The checks are of the opened file, whatever its name leads to by then.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::folder::{Folder, Refusal, kind};

const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Neither a FIFO nor a lease keeps the caller waiting, and no terminal becomes the caller's.
const READING: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

/// Opens a file for reading, if it is what its name says.
///
/// # Errors
///
/// A [`Refusal`], or what the system says; `NotFound` where there is no file.
pub fn open(path: &Path) -> io::Result<File> {
    let file = open_of_any_mode(path)?;
    let mode = file.metadata()?.mode();
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(Refusal::Mode(mode & 0o7777).into());
    }
    Ok(file)
}

/// Opens a file for a caller that looks at the mode by itself.
///
/// # Errors
///
/// As [`open`], but for the mode.
pub fn open_of_any_mode(path: &Path) -> io::Result<File> {
    let (folder, name) = Folder::of(path)?;
    let opened = openat(folder.fd(), name.as_os_str(), READING, Mode::empty());
    let file = File::from(opened.map_err(|error| refused(error, path, &folder))?);
    let is = file.metadata()?;
    if !is.is_file() {
        return Err(Refusal::Kind { is: kind(is.mode()), wanted: "regular file" }.into());
    }
    folder.vouch_for(is.uid(), is.nlink())?;
    Ok(file)
}

/// Reads a file of at most so many bytes, if it is what its name says.
///
/// # Errors
///
/// As [`open`], and [`Refusal::Size`].
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path)?.take(bytes_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(Refusal::Size { bytes_max }.into());
    }
    Ok(content)
}

/// Reads a file of text.
///
/// # Errors
///
/// As [`read`], and `InvalidData` where it is no UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8"))
}

/// Returns the error of a name that changed after the walk, or of a kind that can't be opened.
fn refused(error: Errno, path: &Path, folder: &Folder) -> io::Error {
    match error {
        Errno::ELOOP => Refusal::Link { at: path.to_owned(), owner: folder.owner() }.into(),
        Errno::ENXIO => Refusal::Kind { is: "socket", wanted: "regular file" }.into(),
        error => error.into(),
    }
}
