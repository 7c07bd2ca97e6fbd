//! Folders on the way to a file, and the users who may change their entries.
//!
//! Everybody who may write to a folder of a path can change what the path leads to. A program with
//! more rights than such a user must not let that user choose the file. So a path is walked here
//! one component at a time, by descriptors. Each folder tells which of its entries can be trusted:
//!
//! | folder of | links in it | files and sockets in it |
//! |---|---|---|
//! | root or this process, which nobody else can write to | are followed | anybody's |
//! | the same, which others can write to, as `/tmp` | of theirs are followed | theirs, with one name |
//! | another user | of theirs are followed | that user's |
//!
//! A user can't make a file, a link or a socket that belongs to another user, but can give it
//! another name. A second name of root's file has the wrong owner in a user's own folder, and too
//! many names in a shared one. A link or a socket of root's counts only while it has one name.
//!
//! Source: open(2), path_resolution(7), symlink(7); Linux's `fs.protected_symlinks` has the same
//! rule for sticky folders, and none for a user's own.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid};

/// Most links that are followed on the way, as in Linux.
const LINKS_MAX: usize = 40;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const ROOT: u32 = 0;

/// Refusal of a path whose file other users than root may have put there. The text has failure,
/// cause and remedy; the caller names the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRefusal {
    /// A symbolic link is on the way.
    Link {
        /// The link.
        at: PathBuf,
        /// User id of the owner of the link's folder.
        owner: u32,
    },
    /// The file is of another kind than the caller expects: a regular file or a socket.
    Kind {
        /// Kind that was found.
        is: &'static str,
        /// Kind that is expected.
        wanted: &'static str,
    },
    /// The file belongs neither to the folder's owner, nor to root where only root can have made
    /// it.
    Owner {
        /// Owner of the file.
        is: u32,
        /// Owner of the folder.
        wanted: u32,
    },
    /// The file has several names, in a folder that others can write to.
    Names,
    /// Other users than the owner may write to the file.
    Mode(u32),
    /// The file is larger than allowed.
    Size {
        /// Limit, bytes.
        bytes_max: u64,
    },
    /// Other users can change the folder's entries.
    Unsettled {
        /// Owner of the folder.
        owner: u32,
        /// Mode of the folder.
        mode: u32,
    },
    /// The user who listens at a socket isn't the owner of its folder.
    Peer {
        /// User of the listening process.
        is: u32,
        /// Owner of the folder.
        wanted: u32,
    },
}

impl fmt::Display for PathRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link { at, owner } => {
                let at = at.display();
                let what = "is a link in a folder that user";
                write!(f, "not used: {at} {what} {owner} can change; remove the link")
            }
            Self::Kind { is, wanted } => {
                write!(f, "not used: is a {is}, not a {wanted}; remove that {is}")
            }
            Self::Owner { is, wanted } => {
                write!(
                    f,
                    "not used: belongs to user {is}, the folder to user {wanted}; remove that file"
                )
            }
            Self::Names => f.write_str(
                "not used: has several names in a folder that others can write to; \
                 put a copy in its place",
            ),
            Self::Mode(mode) => {
                write!(
                    f,
                    "not used: mode {mode:03o} lets others than the owner write; run chmod go-w"
                )
            }
            Self::Size { bytes_max } => {
                write!(f, "not used: has more than {bytes_max} bytes; remove that file")
            }
            Self::Unsettled { owner, mode } => {
                write!(
                    f,
                    "not used: the folder belongs to user {owner} and has mode {mode:03o}; "
                )?;
                f.write_str("give the folder to root with mode 755")
            }
            Self::Peer { is, wanted } => {
                let remedy = "end that process";
                write!(f, "not used: user {is} answers there, not root or user {wanted}; {remedy}")
            }
        }
    }
}

impl std::error::Error for PathRefusal {}

impl From<PathRefusal> for io::Error {
    fn from(refusal: PathRefusal) -> Self {
        Self::other(refusal)
    }
}

/// Whether an error is one of this module's refusals, and not the system's.
pub fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|it| it.downcast_ref::<PathRefusal>().is_some())
}

/// An open folder, with the users who may change it.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    owner: u32,
    mode: u32,
}

impl Folder {
    /// Walks to the folder that has the last name of a path. Returns the open folder and that name,
    /// which needn't exist.
    ///
    /// # Errors
    ///
    /// [`PathRefusal::Link`], or the system's error. Nothing was opened for reading.
    pub fn of(path: &Path) -> io::Result<(Self, OsString)> {
        Walk::new(path)?.finish()
    }

    /// Opens the folder of a path without following a link at the path's end.
    fn above(path: &Path) -> io::Result<(Self, OsString)> {
        Walk { follows_last: false, ..Walk::new(path)? }.finish()
    }

    /// Returns the user id of the folder's owner.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Returns the folder's descriptor, for system calls such as openat(2).
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Whether only root and this process's user can change the entries.
    pub fn is_settled(&self) -> bool {
        is_trusted(self.owner) && self.mode & WRITABLE_BY_OTHERS == 0
    }

    /// Checks by owner and number of names that the folder's owner, or root, put an entry there.
    ///
    /// # Errors
    ///
    /// [`PathRefusal::Owner`] or [`PathRefusal::Names`].
    pub fn vouch_for(&self, owner: u32, names: u64) -> Result<(), PathRefusal> {
        match () {
            () if self.is_settled() => Ok(()),
            () if owner != self.owner && !(is_trusted(self.owner) && is_trusted(owner)) => {
                Err(PathRefusal::Owner { is: owner, wanted: self.owner })
            }
            () if is_trusted(owner) && names > 1 => Err(PathRefusal::Names),
            () => Ok(()),
        }
    }

    /// Opens the folder of this path if only root and this process's user can change its entries.
    /// Only there may a program with more rights make, rename, remove or give away a file by its
    /// path.
    ///
    /// # Errors
    ///
    /// [`PathRefusal::Link`] or [`PathRefusal::Unsettled`], or the system's error.
    pub fn settled(path: &Path) -> io::Result<(Self, OsString)> {
        let (folder, name) = Self::of(path)?;
        folder.refuse_unless_settled().map(|()| (folder, name))
    }

    fn refuse_unless_settled(&self) -> io::Result<()> {
        if self.is_settled() {
            return Ok(());
        }
        Err(PathRefusal::Unsettled { owner: self.owner, mode: self.mode & 0o7777 }.into())
    }

    /// Makes the folder at this path for this owner, with this mode whatever the umask is. Returns
    /// false if an entry has the name already. Such an entry stays as it is, also a link.
    ///
    /// # Errors
    ///
    /// The errors of [`Folder::settled`]. Nothing is made where others could replace the folder.
    pub fn make(path: &Path, mode: u32, owner: Option<(Uid, Gid)>) -> io::Result<bool> {
        let (folder, name) = Self::above(path)?;
        folder.refuse_unless_settled()?;
        match mkdirat(&folder.fd, name.as_os_str(), Mode::from_bits_truncate(mode)) {
            Err(Errno::EEXIST) => return Ok(false),
            made => made?,
        }
        let made = openat(&folder.fd, name.as_os_str(), MADE, Mode::empty())?;
        fchmod(&made, Mode::from_bits_truncate(mode))?;
        if let Some((user, group)) = owner {
            fchown(&made, Some(user), Some(group))?;
        }
        Ok(true)
    }

    /// Returns the owner of the folder at this path, or `None` if no folder is there. Doesn't
    /// follow a link at the path's end.
    ///
    /// # Errors
    ///
    /// [`PathRefusal::Link`], or the system's error.
    pub fn owner_of(path: &Path) -> io::Result<Option<Uid>> {
        let (folder, name) = Self::above(path)?;
        match fstatat(&folder.fd, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(is) => {
                Ok((is.st_mode & libc::S_IFMT == libc::S_IFDIR).then(|| Uid::from_raw(is.st_uid)))
            }
        }
    }

    fn opened(fd: OwnedFd) -> io::Result<Self> {
        let is = fstat(&fd)?;
        Ok(Self { fd, owner: is.st_uid, mode: is.st_mode })
    }

    /// Whether a link may be followed: only if its maker is trusted. A link with several names may
    /// have been put here by another user.
    fn may_lead_on(&self, link: &FileStat) -> bool {
        self.is_settled() || is_trusted(link.st_uid) && link.st_nlink == 1
    }
}

fn is_trusted(user: u32) -> bool {
    user == ROOT || user == geteuid().as_raw()
}

/// Returns the kind of file, in a word.
pub(crate) fn kind(mode: u32) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFREG => "regular file",
        libc::S_IFDIR => "directory",
        libc::S_IFLNK => "link",
        libc::S_IFIFO => "FIFO",
        libc::S_IFSOCK => "socket",
        _ => "device",
    }
}

struct Walk {
    at: Folder,
    /// Path so far, for error texts.
    passed: PathBuf,
    rest: VecDeque<OsString>,
    links: usize,
    follows_last: bool,
}

const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const MADE: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const ENTRY: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl Walk {
    fn new(path: &Path) -> io::Result<Self> {
        let start = if path.is_absolute() { "/" } else { "." };
        let at = Folder::opened(open(start, FOLDER, Mode::empty())?)?;
        let mut walk =
            Self { at, passed: start.into(), rest: VecDeque::new(), links: 0, follows_last: true };
        walk.push(path);
        Ok(walk)
    }

    fn push(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.rest.push_front(name.to_owned()),
                Component::ParentDir => self.rest.push_front("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => (),
            }
        }
    }

    fn finish(mut self) -> io::Result<(Folder, OsString)> {
        loop {
            let Some(name) = self.rest.pop_front() else { return Err(Errno::EISDIR.into()) };
            let entry = match openat(&self.at.fd, name.as_os_str(), ENTRY, Mode::empty()) {
                Err(Errno::ENOENT) if self.rest.is_empty() => return Ok((self.at, name)),
                entry => entry?,
            };
            let is = fstat(&entry)?;
            match is.st_mode & libc::S_IFMT {
                libc::S_IFLNK if self.follows_last || !self.rest.is_empty() => {
                    self.follow(&entry, &is, &name)?;
                }
                _ if self.rest.is_empty() => return Ok((self.at, name)),
                libc::S_IFDIR => {
                    self.passed.push(&name);
                    self.at = Folder { fd: entry, owner: is.st_uid, mode: is.st_mode };
                }
                _ => return Err(Errno::ENOTDIR.into()),
            }
        }
    }

    fn follow(&mut self, link: &OwnedFd, is: &FileStat, name: &OsString) -> io::Result<()> {
        if !self.at.may_lead_on(is) {
            let owner = if is_trusted(self.at.owner) { is.st_uid } else { self.at.owner };
            return Err(PathRefusal::Link { at: self.passed.join(name), owner }.into());
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::ELOOP.into());
        }
        let target = PathBuf::from(readlinkat(link, "")?);
        if target.is_absolute() {
            self.at = Folder::opened(openat(AT_FDCWD, "/", FOLDER, Mode::empty())?)?;
            self.passed = "/".into();
        }
        self.push(&target);
        Ok(())
    }
}
