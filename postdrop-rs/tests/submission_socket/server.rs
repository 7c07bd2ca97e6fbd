//! Server postdropd of a site, and callers for whom set-group-id has no effect.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::until;

use crate::support::installed::{Installed, user};
use crate::support::{OUR_POSTDROPD, Site, run};

/// Longest wait, far longer than a busy machine needs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Script that runs the other arguments with `$1` as `/etc/postfix`.
const WITH_CONFIGURATION: &str = r#"mount --bind "$1" /etc/postfix || exit 99; shift; exec "$@""#;

/// Script that runs a caller's command, with its environment, in one of several places.
const CALLER: &str = r#"
config=$1 programs=$2 socket_folder=$3 where=$4 user="--reuid $5 --regid $6 --clear-groups"
shift 6
mount --bind "$config" /etc/postfix || exit 99
case $where in
no-new-privileges) exec setpriv $user --no-new-privs -- env -i "$@" ;;
nosuid)
    mount --bind "$programs" "$programs" && mount -o remount,bind,nosuid "$programs" || exit 99
    exec setpriv $user -- env -i "$@" ;;
container)
    # Its own users, no Postfix; of the machine it sees the programs and the socket.
    exec setpriv $user -- unshare -Urm sh -c '
        mount -t tmpfs none /etc/postfix && mount -t tmpfs none /var/spool/postfix &&
        mkdir /var/spool/postfix/optimus && mount --bind "$1" /var/spool/postfix/optimus || exit 99
        shift; exec env -i "$@"' sh "$socket_folder" "$@" ;;
*) exec setpriv $user -- env -i "$@" ;;
esac
"#;

/// Place of a caller in which set-group-id has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    NoNewPrivileges,
    Nosuid,
    Container,
    /// Copy of the program without the set-group-id bit.
    Copy,
    /// Ordinary place, in which set-group-id has effect.
    Nowhere,
}

impl Where {
    pub const ALL: [Self; 4] = [Self::NoNewPrivileges, Self::Nosuid, Self::Container, Self::Copy];

    fn word(self) -> &'static str {
        match self {
            Self::NoNewPrivileges => "no-new-privileges",
            Self::Nosuid => "nosuid",
            Self::Container => "container",
            Self::Copy => "copy",
            Self::Nowhere => "nowhere",
        }
    }
}

/// Installed programs and their callers.
pub struct Callers {
    pub installed: Installed,
}

impl Callers {
    pub fn new(site: Site) -> Self {
        Self::of(Installed::new(site, 0o2755))
    }

    pub fn with_redis() -> Self {
        Self::of(Installed::with_redis())
    }

    fn of(installed: Installed) -> Self {
        let command_directory = format!("command_directory = {}", installed.programs.display());
        installed.site.postfix.set_main(&[&command_directory]).unwrap();
        let copies = installed.site.folder("copies");
        for name in ["sendmail", "postdrop"] {
            let copy = copies.join(name);
            std::fs::copy(installed.programs.join(name), &copy).unwrap();
            std::fs::set_permissions(copy, PermissionsExt::from_mode(0o755)).unwrap();
        }
        Self { installed }
    }

    pub fn socket(&self) -> PathBuf {
        self.installed.site.postfix.queue_dir().join("optimus/submit")
    }

    pub fn command(&self, place: Where, program: &str, arguments: &[&str]) -> Command {
        self.command_as(user().uid.as_raw(), place, program, arguments)
    }

    pub fn command_as(&self, uid: u32, place: Where, program: &str, arguments: &[&str]) -> Command {
        let site = &self.installed.site;
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", CALLER, "sh"]).arg(site.postfix.config_dir());
        command
            .arg(&self.installed.programs)
            .arg(self.socket().parent().unwrap())
            .arg(place.word());
        command.args([uid, user().gid.as_raw()].map(|id| id.to_string()));
        let folder = if place == Where::Copy { "copies" } else { "sbin" };
        command.arg(site.postfix.path().join(folder).join(program)).args(arguments);
        command.current_dir(site.postfix.path());
        command
    }

    pub fn run(&self, place: Where, program: &str, arguments: &[&str], input: &[u8]) -> Output {
        run(&mut self.command(place, program, arguments), input)
    }

    pub fn server(&self, options: &[&str]) -> Server {
        // The socket of a killed server would be taken for the new one's.
        let _ = std::fs::remove_file(self.socket());
        let server = self.server_unready(&[OUR_POSTDROPD], options);
        let ready =
            || std::fs::metadata(self.socket()).is_ok_and(|about| about.mode() & 0o777 == 0o666);
        if let Err(error) = until(LIMIT, "postdropd to listen", ready) {
            panic!("{error}: {}", server.log());
        }
        server
    }

    /// Starts a server without waiting for it. `program` may begin with a command that runs it.
    pub fn server_unready(&self, program: &[&str], options: &[&str]) -> Server {
        let site = &self.installed.site;
        let log = site.postfix.path().join("postdropd.log");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", WITH_CONFIGURATION, "sh"]).arg(site.postfix.config_dir());
        command.args(program).args(options).current_dir(site.postfix.path());
        let child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        Server { child, log, socket: self.socket() }
    }
}

/// Running postdropd, which ends when this value is dropped.
pub struct Server {
    pub child: Child,
    log: PathBuf,
    socket: PathBuf,
}

impl Server {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// Connects the test itself, as root.
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(&self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).unwrap();
    }

    /// Returns the process ids of the postdrops.
    pub fn postdrops(&self) -> Vec<i32> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        children.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    pub fn wait_until_idle(&self) {
        until(LIMIT, "all postdrops to end", || self.postdrops().is_empty()).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("postdropd's log:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
