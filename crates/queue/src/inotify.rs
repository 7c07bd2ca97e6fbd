//! inotify on the folders of the queue and their hash directories.
//!
//! Hashed queues have a directory per hash value, which Postfix makes and removes at any time. Its
//! name has one character.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use host::limit::watching;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, InotifyEvent, WatchDescriptor};

use crate::folder::Folder;
use crate::queue::Queue;

/// A folder of the queue, or a hash directory in it.
#[derive(Debug)]
pub struct Directory {
    /// The folder.
    pub folder: Folder,
    /// Path of the directory.
    pub path: PathBuf,
    /// Number of levels of subdirectories below.
    pub levels: usize,
}

/// Watches of directories, and their events.
#[derive(Debug)]
pub struct Inotify(nix::sys::inotify::Inotify);

impl Inotify {
    /// Makes an instance without watches.
    pub fn new() -> io::Result<Self> {
        nix::sys::inotify::Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map(Self)
            .map_err(|error| context("queue", error))
    }

    /// Watches a directory and all below it, and gives each to `watched`, the upper ones first. A
    /// directory that has vanished needs no watch.
    pub fn add(
        &self,
        directory: Directory,
        flags: fn(&Directory) -> AddWatchFlags,
        watched: &mut impl FnMut(WatchDescriptor, Directory),
    ) -> io::Result<()> {
        match self.0.add_watch(&directory.path, flags(&directory) | AddWatchFlags::IN_ONLYDIR) {
            Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(context(&directory.path.display().to_string(), error)),
            Ok(descriptor) => {
                let below = directory.subdirectories()?;
                watched(descriptor, directory);
                below.into_iter().try_for_each(|below| self.add(below, flags, watched))
            }
        }
    }

    /// Returns the events up to now, without waiting.
    pub fn events(&self) -> io::Result<Vec<InotifyEvent>> {
        let mut all = Vec::new();
        loop {
            match self.0.read_events() {
                Ok(events) => all.extend(events),
                Err(Errno::EAGAIN) => return Ok(all),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Directory {
    /// Returns the directory of a folder.
    pub fn of(queue: &Queue, folder: Folder) -> Self {
        Self { folder, path: queue.directory(folder), levels: queue.depth(folder) }
    }

    /// Returns the hash directory of this name in this one, if it can be one.
    pub fn below(&self, name: &Path) -> Option<Self> {
        let levels = self.levels.checked_sub(1)?;
        (name.as_os_str().len() == 1).then(|| Self {
            folder: self.folder,
            path: self.path.join(name),
            levels,
        })
    }

    fn subdirectories(&self) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        if self.levels == 0 {
            return Ok(found);
        }
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.extend(self.below(Path::new(&entry.file_name())));
            }
        }
        Ok(found)
    }
}

fn context(object: &str, error: Errno) -> io::Error {
    io::Error::other(format!("{object}: can't be watched: {}", watching(error)))
}
