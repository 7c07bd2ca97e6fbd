//! Root's commands where `mail_owner` has laid traps for them.
//!
//! `mail_owner`, or an intruder in one of its daemons, may write to `data_directory` and to most of
//! the queue directory. No file there may make root's commands give away what only root can read,
//! or hold them up.
//!
//! Needs root and this build's programs: `cargo build --workspace --all-features --bins`.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::Mode;
use nix::unistd::{User, mkfifo};
use testbed::{Postfix, Redis, until, until_some};

/// Limit of all waits, longer than any command waits for a peer that doesn't answer.
const LONG: Duration = Duration::from_secs(60);
const SECRET: &str = "only-root-may-read-this";

/// Commands that look at the instance, of which none changes what a later one finds.
const LOOKING: [&[&str]; 7] = [
    &["check"],
    &["status"],
    &["queue"],
    &["quarantine"],
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

    fn give_away(&self, path: &Path) {
        let (owner, group) = (self.owner.uid.as_raw(), self.owner.gid.as_raw());
        std::os::unix::fs::lchown(path, Some(owner), Some(group)).unwrap();
    }

    fn folder(&self, path: &Path) {
        fs::create_dir_all(path).unwrap();
        self.give_away(path);
    }

    fn optimus(&self, words: &[&str]) -> String {
        let mut command = self.postfix.command(testbed::bin("optimus"));
        self.said_by(command.args(words))
    }

    /// Runs one of [`LOOKING`], or a program of submission, whose output includes the mail log.
    fn run(&self, name: &str) -> String {
        if let Some(words) = LOOKING.iter().find(|it| it[0] == name) {
            return self.optimus(words);
        }
        let mut command = self.postfix.command(testbed::bin("sendmail"));
        if name == "sendmail" {
            command.args(["-bm", "to@example.org"]);
        }
        self.said_by(command.arg0(name)) + &self.postfix.log()
    }

    /// Returns all output of a command. Fails if the command hangs.
    fn said_by(&self, command: &mut Command) -> String {
        let said = self.postfix.path().join("said");
        let file = File::create(&said).unwrap();
        command.current_dir(self.postfix.path()).stdin(Stdio::null());
        let mut child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let ended = until_some(LONG, "the end", || child.try_wait().unwrap());
        let _ = child.kill();
        let _ = child.wait();
        let text = String::from_utf8_lossy(&fs::read(said).unwrap()).into_owned();
        ended.unwrap_or_else(|error| panic!("{command:?}: {error}: {text}"));
        text
    }
}

/// Trap in the place of a file.
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
    /// Lays the trap at `path`, in a new folder of `mail_owner`'s.
    fn lay(self, site: &Site, path: &Path) {
        let folder = path.parent().unwrap();
        let _ = fs::remove_dir_all(folder);
        let _ = fs::remove_file(folder);
        site.folder(folder);
        self.put(site, path);
    }

    /// Lays the trap at `path`, where there is nothing.
    fn put(self, site: &Site, path: &Path) {
        let folder = path.parent().unwrap();
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
                return site.give_away(folder);
            }
        }
        if !matches!(self, Self::HardLink) {
            site.give_away(path);
        }
    }
}

/// A process of `mail_owner`'s that answers at a socket, and notes all bytes that it receives.
struct Imposter {
    process: Child,
    notes: PathBuf,
}

impl Imposter {
    fn at(site: &Site, socket: &Path) -> Self {
        Self::of(site, &site.owner, socket)
    }

    /// Starts an imposter of another user's, who should not reach the socket.
    fn of(site: &Site, user: &User, socket: &Path) -> Self {
        let program = site.postfix.path().join("imposter");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let folder = site.postfix.path().join("notes");
        let _ = fs::create_dir(&folder);
        fs::set_permissions(&folder, Permissions::from_mode(0o1777)).unwrap();
        let notes = folder.join(&user.name);
        let mut command = Command::new(program);
        command.args(["--exact", "imposter", "--ignored", "--nocapture"]);
        command.env("IMPOSTER_SOCKET", socket).env("IMPOSTER_NOTES", &notes);
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
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
        let user = getsockopt(&client, PeerCredentials).unwrap().uid();
        writeln!(notes, "connected by user {user}").unwrap();
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
            assert!(!heard.contains("by user 0\n"), "{trap:?}, {words:?}: root has connected");
            assert!(!said.contains(SECRET), "{trap:?}, {words:?}: {said}");
        }
    }
    // The imposter was asked something, so it could have heard a secret.
    assert!(imposter.heard().contains("AUTH"), "{}", imposter.heard());
}

/// Makes a site whose settings name a running Redis.
fn with_redis() -> (Site, Redis) {
    let site = Site::new();
    let folder = site.postfix.path().join("redis");
    fs::create_dir(&folder).unwrap();
    let redis = Redis::start_in(&folder, &[]).unwrap();
    fs::set_permissions(redis.socket(), Permissions::from_mode(0o777)).unwrap();
    site.settings(&format!("[redis]\nurl = {:?}\n", redis.url()));
    redis.cli(&["FUNCTION", "LOAD", &spool::library()]).unwrap();
    (site, redis)
}

/// Checks files of the queue directory that commands count, read or remove.
#[test]
fn a_trap_in_the_queue_directory_holds_nobody_up_and_shows_no_secret() {
    let (site, _redis) = with_redis();
    let changing = [&["delete", "--all"][..], &["hold", "--all"], &["give-over"]];
    for trap in TRAPS {
        for place in ["optimus/prepared", "optimus/prepared/4C1B21A0", "maildrop/4C1B21A0.in-doubt"]
        {
            trap.lay(&site, &site.postfix.queue_dir().join(place));
            for words in LOOKING.into_iter().chain(changing) {
                let said = site.optimus(words);
                assert!(!said.contains(SECRET), "{trap:?}, {place}, {words:?}: {said}");
            }
        }
    }
    assert_eq!(fs::read_to_string(site.secret()).unwrap(), format!("{SECRET}\n"));
}

/// Checks the number that `uninstall` trusts: files behind a link must not count.
#[test]
fn prepared_files_are_counted_without_following_links() {
    let (site, _redis) = with_redis();
    let elsewhere = site.postfix.path().join("elsewhere");
    fs::create_dir_all(elsewhere.join("A")).unwrap();
    (0..5).for_each(|n| fs::write(elsewhere.join("A").join(n.to_string()), "").unwrap());
    let prepared = site.postfix.queue_dir().join("optimus/prepared");
    let counted = || {
        let said = site.optimus(&["status", "--json"]);
        let value: serde_json::Value = serde_json::from_str(&said).unwrap();
        value["queue"]["prepared"].as_u64().unwrap()
    };
    fs::create_dir_all(prepared.join("4")).unwrap();
    fs::write(prepared.join("4/4C1B21A0"), "").unwrap();
    assert_eq!(counted(), 1);
    symlink(&elsewhere, prepared.join("4/link")).unwrap();
    assert_eq!(counted(), 2, "a link is one entry");
    fs::remove_dir_all(&prepared).unwrap();
    symlink(&elsewhere, &prepared).unwrap();
    assert_eq!(counted(), 0);
}

/// Checks files that only root can put there, by mistake.
#[test]
fn settings_and_passwords_that_are_no_files_are_named_and_hold_nobody_up() {
    let site = Site::new();
    let config = site.postfix.config_dir().to_owned();
    let commands = || LOOKING.into_iter().map(|words| words[0]).chain(["sendmail"]);
    for trap in [Trap::Fifo, Trap::Folder, Trap::Huge] {
        for name in ["optimus.toml", "password"] {
            site.settings("[redis]\nurl = \"redis://127.0.0.1:1\"\npassword_file = \"password\"\n");
            let path = config.join(name);
            let _ = fs::remove_file(&path);
            trap.put(&site, &path);
            std::os::unix::fs::lchown(&path, Some(0), Some(0)).unwrap();
            for command in commands() {
                let said = site.run(command);
                // Only the first line of a password is read, so the file's size is no fault.
                // sendmail writes to the mail log, for which no Postfix runs here.
                let is_named = said.contains(path.to_str().unwrap()) || command == "sendmail";
                let is_read = name == "password" && matches!(trap, Trap::Huge);
                assert!(is_named || is_read, "{trap:?}, {name}, {command}: {said}");
            }
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
    }
}

#[test]
fn a_trap_for_the_remembered_identities_holds_nobody_up_and_shows_no_secret() {
    let (site, _redis) = with_redis();
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
    let content = fs::read_to_string(site.secret()).unwrap();
    assert_eq!(content, format!("{SECRET}\n"), "it was written to");
}

/// The folder of a socket should keep other users out. Where it doesn't, the kernel tells the user
/// of the process that answers.
#[test]
fn another_user_s_process_behind_a_socket_is_told_nothing() {
    let site = Site::new();
    site.settings("");
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let folder = site.postfix.path().join("nobodys");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(nobody.uid.as_raw()), None).unwrap();
    let imposter = Imposter::of(&site, &nobody, &folder.join("socket"));
    let password = site.postfix.data_dir().join("optimus-redis/password");
    site.folder(password.parent().unwrap());
    fs::write(&password, format!("{SECRET}\n")).unwrap();
    site.give_away(&password);
    for (place, commands) in [
        ("public/optimus-redis", &["check", "status", "quarantine", "inject", "sendmail"][..]),
        ("public/optimus-showq", &["mailq"]),
        ("public/showq", &["queue"]),
        ("private/optimus", &["check"]),
    ] {
        let socket = site.postfix.queue_dir().join(place);
        let _ = fs::remove_file(&socket);
        fs::hard_link(folder.join("socket"), &socket).unwrap();
        site.give_away(&socket);
        fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
        for command in commands {
            let said = site.run(command);
            // Where Postfix's socket can't be used, root reads the queue by stock's own program.
            // sendmail writes to the mail log, for which no Postfix runs here.
            let has_another_way = place == "public/showq" || *command == "sendmail";
            let is_said = said.contains("user 65534 answers there, not root or user");
            assert!(is_said || has_another_way, "{place}, {command}: {said}");
        }
        fs::remove_file(&socket).unwrap();
    }
    let heard = imposter.heard();
    assert!(heard.contains("connected by user"), "a command did connect: {heard}");
    let told: Vec<&str> = heard.lines().filter(|it| !it.starts_with("connected by user")).collect();
    assert!(told.is_empty(), "{told:?}");
}
