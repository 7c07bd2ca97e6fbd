//! Root's commands where `mail_owner` has laid traps for them.
//!
//! `mail_owner`, or whoever has broken into one of its daemons, may write to `data_directory` and
//! to most of the queue directory. None of what lies there may make root's commands give away what
//! only root can read, or hold them up.
//!
//! Needs root and this build's programs: `cargo build --workspace --bins`.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::{User, mkfifo};
use testbed::{Postfix, Redis, until, until_some};

/// Longer than any command waits for somebody who doesn't answer.
const LONG: Duration = Duration::from_secs(60);
const SECRET: &str = "only-root-may-read-this";

/// Commands that look at the instance, of which none changes what a later one finds.
const LOOKING: [&[&str]; 7] = [
    &["check"],
    &["status"],
    &["queue"],
    &["corrupt"],
    &["delete", "--all", "--dry-run"],
    &["accept-spool"],
    &["inject", "--to", "to@example.org", "--timeout", "0", "box"],
];

/// A Postfix that doesn't run, and a secret of root's.
struct Site {
    postfix: Postfix,
    owner: User,
}

impl Site {
    fn new() -> Self {
        let postfix = Postfix::builder().optimus().prepare().unwrap();
        let owner = User::from_name("postfix").unwrap().unwrap();
        let site = Self { postfix, owner };
        let message = "From a Sat Nov 21 09:20:13 2026\nSubject: x\n\nx\n";
        fs::write(site.postfix.path().join("box"), message).unwrap();
        fs::write(site.secret(), format!("{SECRET}\n")).unwrap();
        fs::set_permissions(site.secret(), Permissions::from_mode(0o600)).unwrap();
        site
    }

    fn settings(&self, text: &str) {
        fs::write(self.postfix.config_dir().join("optimus.toml"), text).unwrap();
    }

    fn secret(&self) -> PathBuf {
        self.postfix.path().join("secret")
    }

    fn give(&self, path: &Path) {
        let (owner, group) = (self.owner.uid.as_raw(), self.owner.gid.as_raw());
        std::os::unix::fs::lchown(path, Some(owner), Some(group)).unwrap();
    }

    fn folder(&self, path: &Path) {
        fs::create_dir_all(path).unwrap();
        self.give(path);
    }

    /// Runs `optimus`; all it says. Fails if it hangs.
    fn optimus(&self, words: &[&str]) -> String {
        let said = self.postfix.path().join("said");
        let file = File::create(&said).unwrap();
        let mut command = self.postfix.command(testbed::bin("optimus"));
        command.args(words).current_dir(self.postfix.path()).stdin(Stdio::null());
        let mut child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let ended = until_some(LONG, "the end", || child.try_wait().unwrap());
        let _ = child.kill();
        let _ = child.wait();
        let text = String::from_utf8_lossy(&fs::read(said).unwrap()).into_owned();
        ended.unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"));
        text
    }
}

/// What lies in the place of a file.
#[derive(Debug, Clone, Copy)]
enum Trap {
    Symlink,
    HardLink,
    Fifo,
    Folder,
    Huge,
    ParentIsSymlink,
}

const TRAPS: [Trap; 6] =
    [Trap::Symlink, Trap::HardLink, Trap::Fifo, Trap::Folder, Trap::Huge, Trap::ParentIsSymlink];

impl Trap {
    /// Lays it at `path`, in a new folder of `mail_owner`'s.
    fn lay(self, site: &Site, path: &Path) {
        let folder = path.parent().unwrap();
        let _ = fs::remove_dir_all(folder);
        let _ = fs::remove_file(folder);
        site.folder(folder);
        match self {
            Self::Symlink => symlink(site.secret(), path).unwrap(),
            Self::HardLink => fs::hard_link(site.secret(), path).unwrap(),
            Self::Fifo => mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap(),
            Self::Folder => fs::create_dir(path).unwrap(),
            Self::Huge => File::create(path).unwrap().set_len(1 << 40).unwrap(),
            Self::ParentIsSymlink => {
                let elsewhere = site.postfix.path().join("root-s");
                let _ = fs::create_dir(&elsewhere);
                let _ = fs::copy(site.secret(), elsewhere.join(path.file_name().unwrap()));
                fs::set_permissions(&elsewhere, Permissions::from_mode(0o700)).unwrap();
                fs::remove_dir(folder).unwrap();
                symlink(elsewhere, folder).unwrap();
                return site.give(folder);
            }
        }
        if !matches!(self, Self::HardLink) {
            site.give(path);
        }
    }
}

/// Another process, of `mail_owner`'s, that answers at a socket and notes all it is told.
struct Imposter {
    process: Child,
    notes: PathBuf,
}

impl Imposter {
    fn at(site: &Site, socket: &Path) -> Self {
        let program = site.postfix.path().join("imposter");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let notes = site.postfix.data_dir().join("notes");
        let mut command = Command::new(program);
        command.args(["--exact", "imposter", "--ignored", "--nocapture"]);
        command.env("IMPOSTER_SOCKET", socket).env("IMPOSTER_NOTES", &notes);
        command.uid(site.owner.uid.as_raw()).gid(site.owner.gid.as_raw());
        command.current_dir(site.postfix.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        until(LONG, "the imposter", || notes.exists()).unwrap();
        Self { process, notes }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.notes).unwrap()).into_owned()
    }
}

impl Drop for Imposter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process of [`Imposter`], in another copy of this program.
#[test]
#[ignore = "is a part of the other tests"]
fn imposter() {
    let Some(socket) = std::env::var_os("IMPOSTER_SOCKET") else { return };
    let listener = UnixListener::bind(socket).unwrap();
    let notes = std::env::var_os("IMPOSTER_NOTES").unwrap();
    let mut notes = OpenOptions::new().create(true).append(true).open(notes).unwrap();
    for mut client in listener.incoming().flatten() {
        let mut buffer = [0; 4096];
        if let Ok(count) = client.read(&mut buffer) {
            notes.write_all(&buffer[..count]).unwrap();
            let _ = client.write_all(b"-ERR no\r\n");
        }
    }
}

#[test]
fn a_trap_for_the_password_neither_gives_a_secret_away_nor_holds_anybody_up() {
    let site = Site::new();
    site.settings("");
    let password = site.postfix.data_dir().join("optimus-redis/password");
    let imposter = Imposter::at(&site, &site.postfix.queue_dir().join("public/optimus-redis"));
    for trap in TRAPS {
        trap.lay(&site, &password);
        for words in LOOKING {
            let said = site.optimus(words);
            let heard = imposter.heard();
            assert!(!heard.contains(SECRET), "{trap:?}, {words:?}: {heard}");
            assert!(!said.contains(SECRET), "{trap:?}, {words:?}: {said}");
        }
    }
    // It was there to hear something.
    assert!(imposter.heard().contains("AUTH"), "{}", imposter.heard());
}

#[test]
fn a_trap_for_what_is_remembered_holds_nobody_up_and_shows_no_secret() {
    let site = Site::new();
    let folder = site.postfix.path().join("redis");
    fs::create_dir(&folder).unwrap();
    let redis = Redis::start_in(&folder, &[]).unwrap();
    fs::set_permissions(redis.socket(), Permissions::from_mode(0o777)).unwrap();
    site.settings(&format!("[redis]\nurl = {:?}\n", redis.url()));
    redis.cli(&["FUNCTION", "LOAD", &spool::library()]).unwrap();
    let node = site.postfix.queue_dir().join("optimus/node");
    fs::create_dir_all(node.parent().unwrap()).unwrap();
    for trap in TRAPS {
        for name in ["spool", "identity"] {
            trap.lay(&site, &node.join(name));
            for words in LOOKING.into_iter().chain([&["delete", "--all"][..], &["give-over"]]) {
                let said = site.optimus(words);
                assert!(!said.contains(SECRET), "{trap:?}, {name}, {words:?}: {said}");
            }
        }
    }
    assert_eq!(fs::read_to_string(site.secret()).unwrap(), format!("{SECRET}\n"), "it was written to");
}
