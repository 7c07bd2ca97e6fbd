//! The skeleton of every daemon: options, log, configuration, privileges, signals, drain.
//!
//! Started as root, a daemon becomes `mail_owner` with `setgid_group` as its only supplementary
//! group (decision 0005). That is enough for pickup-rs's socket in `private/` and the embedded
//! Redis's in `public/`. A daemon reads files for root alone, such as a password file, before that.
//!
//! SIGTERM and SIGINT drain: the agent finishes or hands back its mail, leaves the directory and
//! ends. A second signal ends it at once, which loses nothing.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Group, Uid, User, getgroups, setegid, seteuid, setgid, setgroups, setuid};
use postfix_wire::main_cf::MainCf;
use rpc::Key;
use settings::{Places, Settings};
use spool::{Server, Spool};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Postfix's configuration directory, unless the caller names another.
pub const DEFAULT_CONFIG_DIRECTORY: &str = "/etc/postfix";

/// Options of every daemon and of every subcommand.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Postfix's configuration directory, where optimus.toml is too
    #[arg(
        short,
        long,
        env = "MAIL_CONFIG",
        default_value = DEFAULT_CONFIG_DIRECTORY,
        global = true,
    )]
    pub config_directory: PathBuf,
    /// Level of the log: error, warn, info, debug, trace, or a filter of tracing-subscriber
    #[arg(long, env = "OPTIMUS_LOG", default_value = "info", global = true)]
    pub log_level: String,
    /// The name of this agent in the directory, when one host runs several of a kind [default: this
    /// instance's own]
    #[arg(long, global = true)]
    pub name: Option<String>,
}

/// Configuration of one Postfix instance and its OPTIMUS.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Postfix's settings.
    pub main_cf: MainCf,
    /// OPTIMUS's settings.
    pub settings: Settings,
    /// Paths of the instance's files and sockets.
    pub places: Places,
    /// Redis, where the mail waits, with the daemons' login.
    pub server: Server,
    /// Secret that the agents share (`agents.rpc_key`), if one is set; or the reason for which it
    /// can't be used.
    pub rpc_key: Option<Result<Key, String>>,
    /// Name of the agent, if the operator gave one (`--name`).
    pub name: Option<String>,
}

impl Instance {
    /// Reads the configuration; an error says what is wrong with it.
    pub fn open(options: &Options) -> Result<Self> {
        let main_cf = MainCf::load(&options.config_directory)?;
        let settings = Settings::load(&options.config_directory)?;
        let places = Places::of(&options.config_directory, &main_cf)?;
        let server = Server::of_daemons(&places, &settings)?;
        // The file may be for root alone.
        let key = |path: &PathBuf| Key::from_file(path).map_err(|error| error.to_string());
        let rpc_key = settings.agents.rpc_key.as_ref().map(key);
        Ok(Self { main_cf, settings, places, server, rpc_key, name: options.name.clone() })
    }

    /// Returns a client that serves this instance's spool and refuses another one.
    pub fn spool(&self) -> Spool {
        Spool::serving(self.server.clone(), self.places.spool_file())
    }

    /// Returns a client that submits as `sendmail` does. With the rights of its login, only
    /// [`Spool::submit_many`] works. Must be called while the process is root: the password may be
    /// for root and `setgid_group` alone.
    pub fn submitting(&self) -> Result<Spool> {
        let login = self.settings.submitter()?;
        let server = Server::parse(&self.places.redis_url(&self.settings))
            .context("redis.url: not usable")?;
        let server = server.with_credentials(login.user.as_deref(), login.password.as_deref());
        Ok(Spool::looking(server.embedded(self.settings.redis.url.is_none())))
    }

    /// Returns a client that only looks; see [`Spool::looking`].
    pub fn looking(&self) -> Spool {
        Spool::looking(self.server.clone())
    }

    /// Returns the host's name, for display.
    pub fn host(&self) -> String {
        self.main_cf.get("myhostname").unwrap_or_default()
    }

    /// Returns the term of a lease.
    pub fn term(&self) -> Duration {
        Duration::from_millis(self.settings.agents.lease_ms)
    }

    /// Returns the user that owns Postfix's queue.
    pub fn mail_owner(&self) -> Result<User> {
        let name = self.main_cf.get("mail_owner").unwrap_or_default();
        User::from_name(&name)?
            .with_context(|| format!("mail_owner: no user {name:?}; correct main.cf"))
    }

    /// Returns the group of `postdrop`.
    pub fn setgid_group(&self) -> Result<Group> {
        let name = self.main_cf.get("setgid_group").unwrap_or_default();
        Group::from_name(&name)?
            .with_context(|| format!("setgid_group: no group {name:?}; correct main.cf"))
    }

    /// Becomes `mail_owner`, if the process is root. Must be called while it has one thread.
    pub fn drop_privileges(&self) -> Result<()> {
        if !Uid::effective().is_root() {
            return Ok(());
        }
        let (owner, group) = (self.mail_owner()?, self.setgid_group()?);
        let failed = |call| format!("{}: can't become this user: {call}", owner.name);
        setgroups(&[owner.gid, group.gid]).with_context(|| failed("setgroups"))?;
        setgid(owner.gid).with_context(|| failed("setgid"))?;
        setuid(owner.uid).with_context(|| failed("setuid"))?;
        if setuid(Uid::from_raw(0)).is_ok() || Gid::effective() != owner.gid {
            bail!(failed("still root"));
        }
        Ok(())
    }
}

impl Instance {
    /// Runs `work` with the rights of `mail_owner`, if the process is root, and restores root's
    /// afterwards. Must be called while the process has one thread.
    pub fn with_least_rights<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        if !Uid::effective().is_root() {
            return Ok(work());
        }
        let (owner, group, before) = (self.mail_owner()?, self.setgid_group()?, getgroups()?);
        let failed = |call| format!("{}: rights not taken: {call}", owner.name);
        setgroups(&[owner.gid, group.gid]).with_context(|| failed("setgroups"))?;
        setegid(owner.gid).with_context(|| failed("setegid"))?;
        seteuid(owner.uid).with_context(|| failed("seteuid"))?;
        let result = work();
        let failed = |call| format!("root: rights not taken back: {call}");
        seteuid(Uid::from_raw(0)).with_context(|| failed("seteuid"))?;
        setegid(Gid::from_raw(0)).with_context(|| failed("setegid"))?;
        setgroups(&before).with_context(|| failed("setgroups"))?;
        Ok(result)
    }
}

/// Ends a program: prints an error in one line, and returns the exit status, 1 for any failure.
pub fn end(program: &str, result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        host::stderr::line(
            format!("{program}: fatal: {}", settings::told(error.as_ref())).as_bytes(),
        );
        ExitCode::FAILURE
    })
}

/// Runs the whole program of a daemon: [`run`], then [`end`].
pub fn main<F: Future<Output = Result<()>>>(
    program: &str,
    options: &Options,
    service: impl FnOnce(Instance, watch::Receiver<bool>) -> F,
) -> ExitCode {
    end(program, run(options, service).map(|()| ExitCode::SUCCESS))
}

/// Starts the log on standard error. A slow reader of the log never blocks the process.
pub fn log(options: &Options) -> Result<()> {
    let filter = EnvFilter::try_new(&options.log_level).context("--log-level: not understood")?;
    // A full disk under the log must not end the daemon, and reporting it would need the log.
    let log = tracing_subscriber::fmt().with_ansi(false).log_internal_errors(false);
    let log = log.with_env_filter(filter).event_format(spans::LineFormat);
    let log = log.with_writer(|| host::stderr::Stderr).finish();
    log.with(spans::KeepFields).init();
    Ok(())
}

/// Runs a command's work without a log: a command prints its own messages.
pub fn block_on<F: Future>(work: F) -> Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(LocalSet::new().block_on(&runtime, work))
}

/// Reads the configuration, drops privileges, and runs `service` until it ends by itself or has
/// drained.
pub fn run<F: Future<Output = Result<()>>>(
    options: &Options,
    service: impl FnOnce(Instance, watch::Receiver<bool>) -> F,
) -> Result<()> {
    log(options)?;
    let instance = Instance::open(options)?;
    instance.drop_privileges()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let (drain, drained) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let service = service(instance, drained);
        tokio::pin!(service);
        for _ in 0..2 {
            tokio::select! {
                result = &mut service => return result,
                _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "drain began"),
                _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "drain began"),
            }
            drain.send_replace(true);
        }
        bail!("drain: cut short by a second signal; the next start recovers the mail")
    })
}
