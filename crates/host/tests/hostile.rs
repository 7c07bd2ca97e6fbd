//! Files that a hostile user prepares for root, by kind.
//!
//! The tests need root, who alone can give files to other users.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use host::file::{read, read_text};
use host::folder::is_refusal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// Any user but root.
const USER: u32 = 65_534;
const OTHER: u32 = 65_533;
const BYTES_MAX: u64 = 100;
/// Limit on the time of one read. A longer read means that a file made root wait.
const LONG: Duration = Duration::from_secs(60);

/// A secret of root's, and a user's folder with that user's good file `file`.
struct Site {
    root: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { root: tempfile::tempdir().unwrap() };
        fs::set_permissions(site.root.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(site.secret(), "root's secret").unwrap();
        fs::set_permissions(site.secret(), Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(site.folder()).unwrap();
        site.give_away(&site.folder());
        fs::write(site.file(), "good").unwrap();
        site.give_away(&site.file());
        site
    }

    fn secret(&self) -> PathBuf {
        self.root.path().join("secret")
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("users")
    }

    fn file(&self) -> PathBuf {
        self.folder().join("file")
    }

    fn give_away(&self, path: &Path) {
        chown(path, Some(USER), Some(USER)).unwrap();
    }

    /// Makes a link as the user.
    fn link(&self, target: impl AsRef<Path>, path: &Path) {
        symlink(target, path).unwrap();
        std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap();
    }

    /// Puts another kind of file in the place of the file.
    fn instead(&self, make: impl FnOnce(&Path)) {
        fs::remove_file(self.file()).unwrap();
        make(&self.file());
    }

    fn refused(&self, words: &str) {
        expect_refusal(&in_time(&self.file()).unwrap_err(), words);
    }
}

fn expect_refusal(error: &io::Error, words: &str) {
    assert!(is_refusal(error) && error.to_string().contains(words), "{error}");
}

/// Reads in another thread, because a hostile file may make the reader wait for ever.
fn in_time(path: &Path) -> io::Result<Vec<u8>> {
    let (done, outcome) = mpsc::channel();
    let path = path.to_owned();
    std::thread::spawn(move || done.send(read(&path, BYTES_MAX)));
    outcome.recv_timeout(LONG).expect("the read ends in time")
}

#[test]
fn a_good_file_of_a_user_is_read_and_a_missing_one_is_missing() {
    let site = Site::new();
    assert_eq!(read_text(&site.file(), 4).unwrap(), "good");
    fs::remove_file(site.file()).unwrap();
    assert_eq!(in_time(&site.file()).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_symbolic_link_is_refused_wherever_it_leads() {
    for target in ["../secret", "/etc/passwd", "file", "nowhere"] {
        let site = Site::new();
        site.instead(|it| site.link(target, it));
        site.refused("file is a link in a folder that user 65534 can change");
    }
}

#[test]
fn a_hard_link_to_a_file_of_root_s_is_refused() {
    let site = Site::new();
    site.instead(|it| fs::hard_link(site.secret(), it).unwrap());
    site.refused("belongs to user 0, the folder to user 65534");
}

#[test]
fn an_irregular_file_is_refused_without_waiting() {
    let site = Site::new();
    site.instead(|it| {
        mkfifo(it, Mode::from_bits_truncate(0o600)).unwrap();
        site.give_away(it);
    });
    site.refused("is a FIFO");
    fs::remove_file(site.file()).unwrap();
    fs::create_dir(site.file()).unwrap();
    site.refused("is a directory");
    fs::remove_dir(site.file()).unwrap();
    let _listener = UnixListener::bind(site.file()).unwrap();
    site.refused("is a socket");
}

#[test]
fn a_huge_file_is_refused_before_it_fills_memory() {
    let site = Site::new();
    fs::OpenOptions::new().write(true).open(site.file()).unwrap().set_len(1 << 40).unwrap();
    site.refused("has more than 100 bytes");
}

#[test]
fn a_file_of_another_user_is_refused() {
    let site = Site::new();
    chown(site.file(), Some(OTHER), None).unwrap();
    site.refused("belongs to user 65533");
}

#[test]
fn a_file_that_others_can_write_to_is_refused() {
    let site = Site::new();
    for mode in [0o620, 0o602] {
        fs::set_permissions(site.file(), Permissions::from_mode(mode)).unwrap();
        site.refused("lets others than the owner write");
    }
    fs::set_permissions(site.file(), Permissions::from_mode(0o644)).unwrap();
    assert!(read(&site.file(), BYTES_MAX).is_ok());
}

#[test]
fn a_parent_that_became_a_link_is_refused() {
    let site = Site::new();
    let inner = site.folder().join("inner");
    site.link(site.root.path(), &inner);
    let error = in_time(&inner.join("secret")).unwrap_err();
    expect_refusal(&error, "inner is a link in a folder that user 65534 can change");
    fs::remove_file(&inner).unwrap();
    site.link("/", &inner);
    expect_refusal(&in_time(&inner.join("etc/passwd")).unwrap_err(), "inner is a link");
}

#[test]
fn a_link_of_root_s_is_followed_and_what_lies_behind_it_is_looked_at() {
    let site = Site::new();
    let link = site.root.path().join("link");
    symlink("users", &link).unwrap();
    assert_eq!(in_time(&link.join("file")).unwrap(), b"good");
    site.instead(|it| site.link("../secret", it));
    expect_refusal(&in_time(&link.join("file")).unwrap_err(), "is a link");
    assert_eq!(in_time(&link.join("../secret")).unwrap(), b"root's secret");
    let circle = site.root.path().join("circle");
    symlink("circle", &circle).unwrap();
    assert_eq!(in_time(&circle).unwrap_err().raw_os_error(), Some(libc::ELOOP));
}

/// The folder is like `/tmp`, or like a container's folder of secrets.
#[test]
fn in_a_shared_folder_only_root_s_own_files_and_links_count() {
    let site = Site::new();
    let shared = site.root.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    fs::write(shared.join("own"), "own").unwrap();
    symlink("own", shared.join("link")).unwrap();
    assert_eq!(in_time(&shared.join("link")).unwrap(), b"own");
    std::os::unix::fs::lchown(shared.join("link"), Some(USER), None).unwrap();
    expect_refusal(&in_time(&shared.join("link")).unwrap_err(), "link is a link");
    fs::hard_link(site.secret(), shared.join("second")).unwrap();
    expect_refusal(&in_time(&shared.join("second")).unwrap_err(), "has several names");
    chown(shared.join("own"), Some(USER), None).unwrap();
    expect_refusal(&in_time(&shared.join("own")).unwrap_err(), "belongs to user 65534");
    // A user gives root's link a second name.
    symlink(site.secret(), site.root.path().join("link")).unwrap();
    fs::remove_file(shared.join("link")).unwrap();
    fs::hard_link(site.root.path().join("link"), shared.join("link")).unwrap();
    expect_refusal(&in_time(&shared.join("link")).unwrap_err(), "link is a link");
}
