//! Start and end of the process, from master's `exec` to the service.
//!
//! A fatal error is logged and ends the process with status 1. When a service fails before it has
//! served a client, master waits `service_throttle_time` (a minute) and starts it again. So a
//! broken configuration doesn't make pickup-rs start again and again without a pause.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use handoff::protocol::Handoff;
use maildrop::{Maildrop, in_doubt};
use nix::unistd::{User, geteuid, initgroups, setgid, setuid};
use postfix_wire::maillog::MailLog;
use postfix_wire::master::Inherited;
use postfix_wire::{MainCf, MasterArgs};
use queue::{Folder, Queue};
use spool::{NodeId, Spool};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tracing::{error, info};

use crate::configuration::Configuration;
use crate::feeder::Feeder;
use crate::{log, node, service};

/// Stock pickup's name in the log, which log analysers know.
const LOG_NAME: &str = "pickup";

/// Directory of Postfix's configuration, unless MAIL_CONFIG names another.
const DEFAULT_CONFIG_DIRECTORY: &str = "/etc/postfix";

/// Longest wait at the end of the process for threads that read the queue.
const SHUTDOWN_PATIENCE: Duration = Duration::from_millis(100);

/// Longest wait for master's SIGTERM after the link to master was closed.
const SIGTERM_PATIENCE: Duration = Duration::from_millis(100);

/// Runs pickup-rs to its end. Returns failure after a fatal error, which is logged.
pub fn main() -> ExitCode {
    let config_directory = std::env::var_os("MAIL_CONFIG")
        .map_or_else(|| DEFAULT_CONFIG_DIRECTORY.into(), PathBuf::from);
    match start(&config_directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let words = settings::told(error.as_ref());
            error!(target: log::FATAL, "{words}");
            host::stderr::line(format!("pickup-rs: fatal: {words}").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn start(config_directory: &Path) -> Result<()> {
    let (main_cf, args) = (MainCf::load(config_directory), MasterArgs::parse(std::env::args()));
    let log = start_logging(main_cf.as_ref().ok(), args.as_ref().ok());
    let (main_cf, args, log) = (main_cf?, args.context("command line: not understood")?, log?);
    ensure!(
        !args.chroot,
        "master.cf: pickup-rs can't run chrooted; set the chroot field of the entry to n"
    );
    ensure!(
        args.operands.is_empty(),
        "command line: unexpected argument {}; remove it from the entry in master.cf",
        args.operands.join(" ")
    );
    let mut inherited = Inherited::take(&args)?;
    let configuration = Configuration::load(config_directory, &main_cf, &args)?;
    let queue = Queue::new(&configuration.places.queue_directory, configuration.layout.clone());
    become_mail_owner(
        &main_cf,
        &[configuration.places.node_directory(), queue.directory(Folder::Prepared)],
    )?;
    queue.check_file_system()?;
    std::env::set_current_dir(&configuration.places.queue_directory)
        .context("queue_directory: can't be entered")?;
    let [listener] = <[_; 1]>::try_from(inherited.unix_listeners()?).map_err(|it| {
        anyhow::anyhow!(
            "listening sockets: {}, not one; the entry in master.cf must be of type unix",
            it.len()
        )
    })?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("event loop: can't be started")?;
    let result = runtime.block_on(serve(configuration, &log, listener, inherited.link));
    runtime.shutdown_timeout(SHUTDOWN_PATIENCE);
    result
}

/// Opens the log that the configuration names. Without a valid configuration, defaults are used.
fn start_logging(main_cf: Option<&MainCf>, args: Option<&MasterArgs>) -> Result<MailLog> {
    let defaults = || MainCf::parse("", Path::new(DEFAULT_CONFIG_DIRECTORY), "localhost");
    let mut main_cf = main_cf.cloned().map_or_else(defaults, Ok)?;
    if let Some(args) = args {
        // The caller reports a wrong option, now that there is a log.
        let _ = args.configure(&mut main_cf);
    }
    log::init(&main_cf, LOG_NAME, args.is_some_and(|args| args.verbose > 0))
}

/// Makes the folders that only root can make, and gives up root, as stock pickup does. Master
/// starts every service as root, whatever `master.cf` says. The caller has read the password of
/// Redis, which only root may read.
fn become_mail_owner(main_cf: &MainCf, folders: &[PathBuf]) -> Result<()> {
    let name = main_cf.get("mail_owner").unwrap_or_default();
    let Some(owner) = User::from_name(&name)? else {
        bail!("mail_owner: no user has the name {name:?}; set mail_owner in main.cf to a user")
    };
    for folder in folders {
        node::folder::make(folder, owner.uid, owner.gid)?;
    }
    if geteuid() == owner.uid {
        return Ok(());
    }
    let give_up = || -> nix::Result<()> {
        initgroups(&std::ffi::CString::new(name.as_str()).unwrap_or_default(), owner.gid)?;
        setgid(owner.gid)?;
        setuid(owner.uid)
    };
    give_up().with_context(|| format!("{name}: can't become this user"))
}

async fn serve(
    configuration: Configuration,
    log: &MailLog,
    listener: std::os::unix::net::UnixListener,
    link: postfix_wire::MasterLink,
) -> Result<()> {
    let queue = Queue::new(&configuration.places.queue_directory, configuration.layout.clone());
    let node = node::find_identity(&configuration.places, &queue)?;
    let spool = Spool::serving(configuration.redis.clone(), configuration.places.spool_file());
    let own_spool = Spool::serving(configuration.redis.clone(), configuration.places.spool_file());
    let attendance =
        node::Attendance::new(node.clone(), own_spool, configuration.places.clone(), queue)?;
    let attendance = Arc::new(attendance);
    let mut attending =
        node::Attending::start(attendance.clone()).context("attendance: can't be started")?;
    let feeder = feeder(&configuration, node.clone(), spool.clone());
    let maildrop = Maildrop {
        queue_directory: configuration.places.queue_directory.clone(),
        layout: configuration.layout.clone(),
        stock_pickup: configuration.stock_pickup_socket.clone(),
        host: configuration.site.hostname.clone(),
    };
    log_start(&configuration);
    let mut terminate = signal(SignalKind::terminate())?;
    let service = service::run(configuration, node, feeder, attendance.clone(), listener, link);
    let serving = async {
        tokio::select! {
            biased;
            result = service => result,
            // The node has another name now.
            result = attending.ended() => result,
            () = in_doubt::run(maildrop, spool.clone(), || attendance.is_here()) => Ok(()),
            () = spool.stay_connected() => Ok(()),
            () = log::keep_flushing(log) => Ok(()),
        }
    };
    let result = tokio::select! {
        biased;
        _ = terminate.recv() => None,
        result = serving => Some(result),
    };
    // Master sends SIGTERM before its death, but the kernel may report the closed link first.
    let is_stopped = result.is_none() || timeout(SIGTERM_PATIENCE, terminate.recv()).await.is_ok();
    // A stopped node leaves, so that another place may serve the node at once. After any other end
    // of this process, the next one on this host goes on.
    let farewell = if is_stopped { node::Farewell::Leave } else { node::Farewell::Stay };
    attending.stop(farewell).await;
    Ok(result.unwrap_or(Ok(()))?)
}

fn log_start(configuration: &Configuration) {
    match configuration.handoff {
        Handoff::Hold => info!("two-phase hand-off chosen"),
        Handoff::Direct => {
            let rules = configuration.content_rules.join(", ");
            info!(content_rules = %rules, "direct hand-off chosen");
        }
    }
}

fn feeder(configuration: &Configuration, node: NodeId, spool: Spool) -> Feeder {
    Feeder {
        node,
        spool,
        site: configuration.site.clone(),
        queue: Queue::new(&configuration.places.queue_directory, configuration.layout.clone()),
        cleanup_socket: configuration.cleanup_socket.clone(),
        flags: configuration.flags_in_force(),
        handoff: configuration.handoff,
        internal_addresses: configuration.internal_addresses,
        ipc_timeout: configuration.ipc_timeout,
        config_directory: configuration.places.config_directory.clone(),
    }
}
