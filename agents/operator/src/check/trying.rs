//! Trials by role, for problems that root doesn't have.
//!
//! Root may read, enter and connect to everything. So root's own look misses what users, agents and
//! pickup-rs can't do. `optimus check` therefore runs itself once for each role. The child becomes
//! the role's user and group, opens, enters and connects, and prints one line for each failure.
//!
//! | role | user and group | tries |
//! |---|---|---|
//! | user | nobody | to run `sendmail` and `postdrop`, to reach postdropd |
//! | submitter | nobody, with `setgid_group` as a set-group-id program has it | settings, password, maildrop, Redis |
//! | agent | `mail_owner`, with `setgid_group` | pickup-rs, its folders, Redis |
//! | pickup | `mail_owner`, with its groups | the queues, its folders, Redis |
//!
//! When Redis fails for `check` itself, the roles don't report that again. `check`, and the first
//! look here, ask Redis as `mail_owner`: root must give no password to a server behind another
//! user's socket.

use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use agents::daemon::{Instance, Options};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, Gid, Uid, User, access, initgroups, setgid, setgroups, setuid};
use postfix_wire::MainCf;
use settings::{Places, Settings};
use spool::{Address, Spool, SpoolError};

use super::Problem;
use crate::say;

/// Role in which a child of `check` tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Any user, before set-group-id programs start.
    User,
    /// `sendmail` or `postdrop` of any user.
    Submitter,
    /// Info, Scheduler and Mail Agents.
    Agent,
    /// pickup-rs.
    Pickup,
}

impl Role {
    const ALL: [Self; 4] = [Self::User, Self::Submitter, Self::Agent, Self::Pickup];

    fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Submitter => "submitter",
            Self::Agent => "agent",
            Self::Pickup => "pickup",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "users",
            Self::Submitter => "sendmail of a user",
            Self::Agent => "agents",
            Self::Pickup => "pickup-rs",
        })
    }
}

/// Tries as each role. Returns no problem unless the process is root, which alone can change users.
pub(super) fn check(options: &Options) -> Vec<Problem> {
    if !Uid::effective().is_root() {
        return Vec::new();
    }
    Role::ALL.into_iter().flat_map(|role| try_as(role, options)).collect()
}

/// Tries as one role. Each line of the child's output is a problem.
fn try_as(role: Role, options: &Options) -> Vec<Problem> {
    let tried = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.arg("try-as").arg(role.word()).arg("-c").arg(&options.config_directory);
        command.stdin(host::nothing()?).output().map_err(host::limit::starting)
    });
    match tried {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().map(|line| Problem::error(format!("{role}: {line}"))).collect()
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            vec![Problem::error(format!("{role}: not tried: {}: {said}", output.status))]
        }
        Err(error) => vec![Problem::error(format!("{role}: not tried: {error}"))],
    }
}

/// Runs in the child: becomes the role and prints its failures.
pub(crate) fn run(options: &Options, role: Role) -> Result<ExitCode> {
    let instance = Instance::open(options)?;
    let is_redis_there = instance.with_least_rights(|| log_in(&instance.looking()))??.is_ok();
    become_role(&instance, role)?;
    let trial = Trial { instance: &instance, role };
    let mut failures = match role {
        Role::User => trial.user(),
        Role::Submitter => trial.submitter(options, is_redis_there)?,
        Role::Agent => trial.agent(),
        Role::Pickup => trial.pickup(),
    };
    if matches!(role, Role::Agent | Role::Pickup) {
        failures.extend(match is_redis_there {
            true => trial.redis(&instance.looking())?,
            false => trial.redis_socket(&instance.looking()).into_iter().collect(),
        });
    }
    failures.iter().for_each(say);
    Ok(ExitCode::SUCCESS)
}

fn become_role(instance: &Instance, role: Role) -> Result<()> {
    let nobody = User::from_name("nobody")?
        .map_or((Uid::from_raw(65_534), Gid::from_raw(65_534)), |it| (it.uid, it.gid));
    let group = instance.setgid_group()?.gid;
    let owner = instance.mail_owner()?;
    let (uid, gid) = match role {
        Role::User => (nobody.0, nobody.1),
        Role::Submitter => (nobody.0, group),
        Role::Agent | Role::Pickup => (owner.uid, owner.gid),
    };
    match role {
        Role::User | Role::Submitter => setgroups(&[])?,
        Role::Agent => setgroups(&[owner.gid, group])?,
        Role::Pickup => initgroups(&CString::new(owner.name.as_str())?, owner.gid)?,
    }
    setgid(gid).context("setgid: group not taken")?;
    setuid(uid).context("setuid: user not taken")?;
    if Uid::effective().is_root() {
        bail!("mail_owner: is root; name another user in main.cf");
    }
    Ok(())
}

struct Trial<'a> {
    instance: &'a Instance,
    role: Role,
}

type Failures = Vec<String>;

const READ: AccessFlags = AccessFlags::R_OK;
const WRITE: AccessFlags = AccessFlags::W_OK;
const ENTER: AccessFlags = AccessFlags::X_OK;

impl Trial<'_> {
    fn user(&self) -> Failures {
        let main_cf = &self.instance.main_cf;
        let sendmail = main_cf.get_path("sendmail_path").ok();
        let postdrop =
            main_cf.get_path("command_directory").ok().map(|folder| folder.join("postdrop"));
        let programs: Vec<PathBuf> = [sendmail, postdrop].into_iter().flatten().collect();
        let mut failures: Failures =
            programs.iter().filter_map(|it| self.reach(it, ENTER)).collect();
        failures.extend(programs.iter().filter_map(|it| without_set_id(it)));
        let socket = self.instance.places.submit_socket(&self.instance.settings);
        if socket.exists() || is_hidden(&socket) {
            failures.extend(self.reach(&socket, WRITE));
        }
        failures
    }

    /// Tries as `sendmail`, which reads settings and password by itself.
    fn submitter(&self, options: &Options, is_redis_there: bool) -> Result<Failures> {
        let folder = &options.config_directory;
        let files = [folder.join("main.cf"), folder.join(settings::FILE_NAME)];
        let there = files.iter().filter(|it| it.exists() || is_hidden(it));
        let mut failures: Failures = there.filter_map(|it| self.reach(it, READ)).collect();
        failures.extend(
            self.reach(&self.instance.places.queue_directory.join("maildrop"), WRITE | ENTER),
        );
        failures.extend(self.reach(&self.instance.places.queue_directory.join("public"), ENTER));
        if !failures.is_empty() {
            return Ok(failures);
        }
        match own_spool(folder) {
            Ok(spool) if is_redis_there => failures.extend(self.redis(&spool)?),
            Ok(_) => (),
            Err(error) => {
                let group = self.instance.setgid_group()?.name;
                let remedy = format!("give the file to root and group {group} with mode 0640");
                failures.push(format!(
                    "{}; mail goes to the maildrop; {remedy}",
                    settings::told(error.as_ref())
                ));
            }
        }
        Ok(failures)
    }

    fn agent(&self) -> Failures {
        let Places { data_directory, .. } = &self.instance.places;
        let mut failures: Failures =
            self.reach(data_directory, READ | WRITE | ENTER).into_iter().collect();
        failures.extend(self.folder(&self.instance.places.node_directory()));
        failures.extend(self.folder(&self.instance.places.redis_directory()));
        let socket = self.instance.places.pickup_socket();
        if socket.exists() || is_hidden(&socket) {
            failures.extend(self.reach(&socket, WRITE));
        }
        failures
    }

    fn pickup(&self) -> Failures {
        let queue = &self.instance.places.queue_directory;
        let queues = ["maildrop", "hold", "incoming", "active", "deferred", "defer"];
        let mut failures: Failures = queues
            .iter()
            .filter_map(|it| self.reach(&queue.join(it), READ | WRITE | ENTER))
            .collect();
        failures.extend(self.folder(&self.instance.places.node_directory()));
        failures.extend(self.reach(&queue.join("public"), ENTER));
        failures
    }

    /// Tries a folder of OPTIMUS's, if it is there.
    fn folder(&self, path: &Path) -> Option<String> {
        if path.exists() || is_hidden(path) { self.reach(path, READ | WRITE | ENTER) } else { None }
    }

    /// Returns the reason why the role can't reach a file, with the first folder in the way.
    fn reach(&self, path: &Path, wanted: AccessFlags) -> Option<String> {
        let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
        folders.reverse();
        let closed = folders.into_iter().find(|it| access(*it, ENTER) == Err(Errno::EACCES));
        if let Some(folder) = closed {
            let what = format!(
                "{}: may not be entered, on the way to {}",
                folder.display(),
                path.display()
            );
            return Some(format!("{what}; chmod a+x {}", folder.display()));
        }
        let error = access(path, wanted).err()?;
        let (verb, remedy) = self.remedy(path, wanted);
        Some(format!("{}: can't be {verb}: {}; {remedy}", path.display(), error.desc()))
    }

    fn remedy(&self, path: &Path, wanted: AccessFlags) -> (&'static str, String) {
        let shown = path.display();
        match (self.role, wanted) {
            (_, READ) => ("read", format!("chmod a+r {shown}")),
            (Role::User, ENTER) => {
                ("run", format!("chmod a+rx {shown}, on a file system without noexec"))
            }
            (_, ENTER) => ("entered", "run postfix set-permissions".to_owned()),
            (Role::User | Role::Submitter, _) => {
                ("used", "run postfix set-permissions, and check the mode".to_owned())
            }
            (Role::Agent | Role::Pickup, _) => (
                "used",
                format!(
                    "chown {} {shown}",
                    self.instance.main_cf.get("mail_owner").unwrap_or_default()
                ),
            ),
        }
    }

    /// Returns the reason why the role can't use the socket of Redis, where there is one.
    fn redis_socket(&self, spool: &Spool) -> Option<String> {
        let Address::Unix(socket) = &spool.server().address else { return None };
        if socket.exists() || is_hidden(socket) { self.reach(socket, READ | WRITE) } else { None }
    }

    /// Connects and logs in.
    fn redis(&self, spool: &Spool) -> Result<Failures> {
        if let Some(failure) = self.redis_socket(spool) {
            return Ok(vec![failure]);
        }
        let address = &spool.server().address;
        Ok(log_in(spool)?
            .err()
            .map(|error| format!("redis at {address}: {error}"))
            .into_iter()
            .collect())
    }
}

/// Connects and logs in. A user that may not ping counts as logged in: Redis looks at rights only
/// after a login.
fn log_in(spool: &Spool) -> Result<std::result::Result<(), SpoolError>> {
    Ok(match agents::daemon::block_on(async { spool.ping().await })? {
        Err(SpoolError::Refused(words)) if words.starts_with("NoPerm") => Ok(()),
        answer => answer,
    })
}

/// Makes a client from the files that this process may read.
fn own_spool(config_directory: &Path) -> Result<Spool> {
    let main_cf = MainCf::load(config_directory)?;
    let settings = Settings::load(config_directory)?;
    let places = Places::of(config_directory, &main_cf)?;
    let login = settings.submitter()?;
    let server = spool::Server::parse(&places.redis_url(&settings)).context("redis.url")?;
    let server = server.with_credentials(login.user.as_deref(), login.password.as_deref());
    Ok(Spool::looking(server.embedded(settings.redis.url.is_none())))
}

/// Whether this process may not look whether the file exists.
fn is_hidden(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn without_set_id(path: &Path) -> Option<String> {
    let flags = statvfs(path).ok()?.flags();
    let what = "is on a file system mounted nosuid, so set-group-id has no effect";
    let remedy = "mount that file system without nosuid, or run postdropd";
    flags.contains(FsFlags::ST_NOSUID).then(|| format!("{}: {what}; {remedy}", path.display()))
}
