//! The operator's command.

use std::io::Write;
use std::process::ExitCode;

use agents::daemon::Instance;
use clap::{CommandFactory, Parser, Subcommand};

mod acl;
mod check;
mod config;
mod drain;
mod embedded;
mod inject;
mod install;
mod maildrop;
mod manual;
mod node;
mod operate;
mod postsuper;
mod quarantine;
mod queue;
mod run;
mod served;
mod status;
mod stock;
mod trace;

#[derive(Parser)]
#[command(name = "optimus", version, about = "One queue for many Postfix servers")]
struct Cli {
    #[command(flatten)]
    options: agents::daemon::Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all three agents in one process, and a Redis of their own when none is configured
    Run,
    /// Resolve submissions in doubt on a host without agents, until stopped; `optimus run` does
    /// this too
    Maildrop,
    /// Print the state: lots, agents, backlog; deferred, quarantined and waiting mail, and why it
    /// waits; exit as a monitoring plugin does: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
    Status(status::Arguments),
    /// List mail in Redis and in this host's Postfix, as `postqueue -p` does
    Queue {
        /// One JSON object a line, as `postqueue -j` does
        #[arg(long)]
        json: bool,
    },
    /// Print where a message is or was, by Redis and this host's logs; exit status 1 if neither
    /// knows the message
    Trace(trace::Trace),
    /// Print what is wrong with the configuration; exit status 1 if there is an error
    Check,
    /// Serve the spool that Redis holds now, after Redis was emptied or replaced on purpose
    AcceptSpool,
    /// Change which node this server is
    Node(node::NodeCommand),
    /// Have a node take no more mail, until `undrain`, and wait until its lots have moved; its
    /// Postfix keeps and sends what it has taken
    Drain(drain::NodeName),
    /// Let a drained node take mail again
    Undrain(drain::NodeName),
    /// Declare a node lost now, in place of after agents.node_loss_grace_s: others send its mail
    /// again. Fails while its Postfix runs
    Lost(drain::NodeName),
    /// Print the settings in force
    Config,
    /// Print the two users that OPTIMUS needs in a Redis of your own, for its ACL file
    Acl,
    /// List messages in quarantine, which can't be used; retry, drop or show them
    Quarantine(quarantine::Quarantine),
    /// Delete mail, wherever it is
    Delete(operate::Selection),
    /// Put mail on hold, wherever it is
    Hold(operate::Selection),
    /// Release mail from hold
    Release(operate::Selection),
    /// Put mail into a new lot; a node's Postfix requeues its own
    Requeue(operate::Selection),
    /// Submit the messages of mailboxes and folders, fast and each once; an interrupted run can be
    /// resumed
    Inject(inject::Inject),
    /// Put OPTIMUS into this system's Postfix, keeping what was there
    Install(install::Install),
    /// Put everything back as it was before `optimus install`
    Uninstall(install::Uninstall),
    /// Settle the mail committed to this node, once its agents have ended: its Postfix alone
    /// delivers that mail. For `uninstall`
    #[command(hide = true)]
    GiveOver,
    /// Try the accesses that a role needs. For `check`
    #[command(hide = true)]
    TryAs {
        /// Role to try as
        role: check::trying::Role,
    },
    /// Submit the batches that arrive on standard input. For `inject`
    #[command(hide = true)]
    SubmitBatches {
        /// The user that submits
        uid: u32,
    },
    /// Write the man pages into a folder
    Man {
        /// The folder
        folder: std::path::PathBuf,
    },
    /// Print a shell's completions of this command
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    if std::path::Path::new(&name).file_name().is_some_and(|it| it == postsuper::NAME) {
        return postsuper::main();
    }
    agents::daemon::end("optimus", run(given()))
}

/// Returns the command line. An invalid one ends the process with exit status 2; for `status`, a
/// monitoring plugin, with 3.
fn given() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        let is_plugin = std::env::args().any(|it| it == "status");
        if !is_plugin || !error.use_stderr() {
            error.exit();
        }
        let _ = error.print();
        std::process::exit(status::PluginState::Unknown.exit_status().into())
    })
}

fn run(Cli { options, command }: Cli) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run => agents::daemon::run(&options, run::run)?,
        Command::Maildrop => agents::daemon::run(&options, maildrop::keep)?,
        Command::Status(arguments) => return Ok(status::run(&options, &arguments)),
        Command::Queue { json } => return queue::print(&options, json),
        Command::Quarantine(quarantine) => {
            return agents::daemon::block_on(quarantine::run(unprivileged(&options)?, quarantine))?;
        }
        Command::Delete(which) => return operate::run(&options, spool::Act::Delete, &which),
        Command::Hold(which) => return operate::run(&options, spool::Act::Hold, &which),
        Command::Release(which) => return operate::run(&options, spool::Act::Release, &which),
        Command::Requeue(which) => return operate::run(&options, spool::Act::Requeue, &which),
        Command::Trace(trace) => return trace::run(&options, &trace),
        Command::Check => return check::run(&options),
        Command::TryAs { role } => return check::trying::run(&options, role),
        Command::AcceptSpool => agents::daemon::block_on(served::accept(unprivileged(&options)?))??,
        Command::Node(node) => agents::daemon::block_on(node::run(unprivileged(&options)?, node))??,
        Command::Drain(which) => {
            agents::daemon::block_on(drain::drain(unprivileged(&options)?, which))??;
        }
        Command::Undrain(which) => {
            agents::daemon::block_on(drain::undrain(unprivileged(&options)?, which))??;
        }
        Command::Lost(which) => {
            agents::daemon::block_on(drain::lost(unprivileged(&options)?, which))??;
        }
        Command::Config => config::print(&options)?,
        Command::Acl => acl::print(&options)?,
        Command::Inject(inject) => return agents::daemon::block_on(inject::run(&options, inject))?,
        Command::SubmitBatches { uid } => return inject::pusher::run(&options, uid),
        Command::Install(install) => return install::install(&options, &install),
        Command::Uninstall(uninstall) => return install::uninstall(&options, &uninstall),
        Command::GiveOver => {
            agents::daemon::block_on(install::give_over(unprivileged(&options)?))??;
        }
        Command::Man { folder } => manual::write(&folder)?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "optimus", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn unprivileged(options: &agents::daemon::Options) -> anyhow::Result<Instance> {
    let instance = Instance::open(options)?;
    instance.drop_privileges()?;
    Ok(instance)
}

/// Prints a line. A reader who has seen enough closes the pipe, which is no failure.
fn say(line: impl std::fmt::Display) {
    let line = line.to_string();
    let _ = writeln!(std::io::stdout(), "{}", host::limit::explained(&line));
}
