//! Installed programs: copies with group and mode, a default configuration in a mount namespace of
//! their own, and an ordinary user.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::unistd::{Group, User, chown};

use settings::EMBEDDED_SUBMITTER;

use super::{OUR_POSTDROP, OUR_SENDMAIL, PATIENT, Site, run};
use spool::keys;

/// User without any rights.
pub const USER: &str = "nobody";

pub fn user() -> User {
    User::from_name(USER).unwrap().unwrap()
}

/// Script that becomes the user in a namespace where `$1` is `/etc/postfix`, and runs the other
/// arguments.
pub const AS_USER: &str = r#"
mount --bind "$1" /etc/postfix || exit 99
uid=$2 gid=$3
shift 3
exec setpriv --reuid "$uid" --regid "$gid" --clear-groups -- env -i "$@"
"#;

pub struct Installed {
    pub site: Site,
    pub programs: PathBuf,
}

impl Installed {
    /// Copies the programs with the group and mode of an installation.
    pub fn new(site: Site, mode: u32) -> Self {
        let programs = site.folder("sbin");
        let group = Group::from_name("postdrop").unwrap().unwrap();
        for program in [OUR_SENDMAIL, OUR_POSTDROP] {
            let copy = programs.join(Path::new(program).file_name().unwrap());
            std::fs::copy(program, &copy).unwrap();
            chown(&copy, None, Some(group.gid)).unwrap();
            std::fs::set_permissions(&copy, PermissionsExt::from_mode(mode)).unwrap();
        }
        Self { site, programs }
    }

    pub fn with_redis() -> Self {
        let site = Site::with_redis();
        // The embedded server's socket lies there, where only the group can reach it.
        let socket = site.postfix.queue_dir().join("public/optimus-redis");
        let redis = site.redis.as_ref().unwrap();
        symlink(redis.socket(), socket).unwrap();
        // The embedded server has this user for submission.
        let (key, channel) = (format!("~{}", keys::INBOX), format!("&{}", keys::NOTICES));
        let rights = ["on", "nopass", &key, &channel, "+rpush", "+publish"];
        redis.cli(&[&["ACL", "SETUSER", EMBEDDED_SUBMITTER], &rights[..]].concat()).unwrap();
        site.settings(PATIENT);
        Self::new(site, 0o2755)
    }

    /// Runs a program. `environment` has items of the form `NAME=value`.
    pub fn run(
        &self,
        environment: &[&str],
        program: &str,
        arguments: &[&str],
        input: &[u8],
    ) -> Output {
        run(&mut self.command(environment, program, arguments), input)
    }

    pub fn command(&self, environment: &[&str], program: &str, arguments: &[&str]) -> Command {
        let program = self.programs.join(program).display().to_string();
        self.as_user(&[environment, &[&program], arguments].concat())
    }

    /// Returns a command of `words` as the user. The leading words of the form `NAME=value` are its
    /// whole environment.
    pub fn as_user(&self, words: &[&str]) -> Command {
        self.as_uid(user().uid.as_raw(), words)
    }

    pub fn as_uid(&self, uid: u32, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", AS_USER, "sh"]).arg(self.site.postfix.config_dir());
        // setpriv's arguments come first, then env's.
        command.args([uid, user().gid.as_raw()].map(|id| id.to_string())).args(words);
        command.current_dir(self.site.postfix.path());
        command
    }

    /// Returns a command that runs a script of a shell or perl, with OPTIMUS's `sendmail` as the
    /// script's first argument.
    pub fn script(&self, interpreter: &str, option: &str, script: &str) -> Command {
        let sendmail = self.programs.join("sendmail").display().to_string();
        let name = if interpreter == "sh" { &["sh"][..] } else { &[] };
        self.as_user(&[&[interpreter, option, script], name, &[&sendmail]].concat())
    }
}
