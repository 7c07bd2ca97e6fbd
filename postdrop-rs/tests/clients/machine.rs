//! Machine on which users find OPTIMUS's programs installed.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use postfix_wire::record::RecordType::{self, Cont, From, Norm, Rcpt};

use testbed::until;

use crate::support::installed::{Installed, user};
use crate::support::{OUR_POSTDROPD, run, said};

/// Longest wait, far longer than a busy machine needs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Script that mounts OPTIMUS's programs over the machine's, runs `$4`, and becomes the user of
/// `$5` to run the other arguments.
const ON_THIS_MACHINE: &str = r#"
mount --bind "$1" /etc/postfix && mount --bind "$2/sendmail" /usr/sbin/sendmail &&
    mount --bind "$2/postdrop" /usr/sbin/postdrop || exit 99
home=$3 also=$4 who=$5
shift 5
eval "$also" || exit 99
exec setpriv $who -- env -i HOME="$home" PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
"#;

/// Checks that a program is installed. Otherwise fails with the package's name, which `ci/deps`
/// installs.
pub fn needs(package: &str, path: &str) {
    assert!(
        Path::new(path).exists(),
        "{path} is missing: package {package}, which ci/deps installs"
    );
}

/// Machine with OPTIMUS's programs, and a home for its ordinary user.
pub struct Machine {
    pub installed: Installed,
    pub home: PathBuf,
}

/// Submitted message, in a form that tests can compare.
#[derive(Debug)]
pub struct Mail {
    pub uid: u32,
    pub sender: String,
    pub recipients: Vec<String>,
    pub content: String,
}

impl Mail {
    /// Returns the value of the first header with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.content.split("\n\n").next().unwrap();
        let name = format!("{name}: ");
        head.lines().find_map(|line| line.strip_prefix(&name))
    }

    pub fn body(&self) -> &str {
        self.content.split_once("\n\n").unwrap().1
    }

    fn of(records: &[u8], uid: u32) -> Self {
        let all = said(records);
        let texts = |kinds: &[RecordType]| {
            all.iter()
                .filter(|(kind, _)| kinds.contains(kind))
                .map(|(_, text)| text.clone())
                .collect::<Vec<_>>()
        };
        assert!(texts(&[Cont]).is_empty(), "a line was split");
        let content = texts(&[Norm]).iter().map(|line| line.clone() + "\n").collect();
        Self { uid, sender: texts(&[From]).concat(), recipients: texts(&[Rcpt]), content }
    }
}

impl Machine {
    pub fn new() -> Self {
        Self::of(Installed::with_redis())
    }

    pub fn of(installed: Installed) -> Self {
        let home = installed.site.folder("home");
        chown(&home, Some(user().uid.as_raw()), Some(user().gid.as_raw())).unwrap();
        std::fs::set_permissions(&home, PermissionsExt::from_mode(0o755)).unwrap();
        Self { installed, home }
    }

    /// Returns a command of an ordinary user.
    pub fn command(&self, words: &[&str]) -> Command {
        let who = format!("--reuid {} --regid {} --clear-groups", user().uid, user().gid);
        self.command_as(&who, "", words)
    }

    /// Returns a command. `who` has setpriv's options, and `also` has shell commands that root runs
    /// first.
    pub fn command_as(&self, who: &str, also: &str, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", ON_THIS_MACHINE, "sh"]);
        command
            .arg(self.installed.site.postfix.config_dir())
            .arg(&self.installed.programs)
            .arg(&self.home);
        command.args([also, who]).args(words).current_dir(&self.home);
        command
    }

    /// Runs a command that must succeed, and returns its output.
    pub fn run(&self, words: &[&str], input: &[u8]) -> String {
        succeeded(&run(&mut self.command(words), input))
    }

    /// Writes a file in the home that the user can read, and returns its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.home.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Takes the mail in Redis.
    pub fn take(&mut self) -> Vec<Mail> {
        let messages = self.installed.site.take_messages();
        messages.iter().map(|message| Mail::of(&message.records, message.uid)).collect()
    }

    /// Takes the only mail in Redis, which must be the ordinary user's.
    pub fn take_one(&mut self) -> Mail {
        let mut mail = self.take();
        assert_eq!(mail.len(), 1, "{mail:?}");
        assert_eq!(mail[0].uid, user().uid.as_raw());
        assert_eq!(self.installed.site.maildrop(), []);
        mail.remove(0)
    }

    /// Runs a command as an ordinary user in a hardened service of systemd.
    pub fn run_without_new_privileges(&self, words: &[&str]) -> String {
        let who =
            format!("--reuid {} --regid {} --clear-groups --no-new-privs", user().uid, user().gid);
        succeeded(&run(&mut self.command_as(&who, "", words), b""))
    }

    /// Starts postdropd on this machine, and waits until it listens.
    pub fn postdropd(&self) -> Daemon {
        let socket = self.installed.site.postfix.queue_dir().join("optimus/submit");
        let daemon = Daemon::start(&mut self.command_as("--clear-groups", "", &[OUR_POSTDROPD]));
        let listens =
            || std::fs::metadata(&socket).is_ok_and(|about| about.mode() & 0o777 == 0o666);
        until(LIMIT, "postdropd to listen", listens).unwrap();
        daemon
    }
}

/// Program that runs until this value is dropped.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn succeeded(output: &Output) -> String {
    let told = [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat();
    assert!(output.status.success(), "{}: {told}", output.status);
    told
}
