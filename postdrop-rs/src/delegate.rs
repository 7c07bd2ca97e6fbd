//! Tasks of `sendmail` other than submission. Postfix's own commands do these tasks, as in stock.
//!
//! | asked for as | runs |
//! |---|---|
//! | `mailq`, `-bp` | `postqueue -p` |
//! | `-q` | `postqueue -f` |
//! | `-qRsite` | `postqueue -s site` |
//! | `-qIid` | `postqueue -i id` |
//! | `newaliases`, `-bi`, `-I` | `postalias` on `alias_database`, or on the database of `-oA` |
//! | `-bs` | `smtpd -S`, which submits through postdrop |
//! | `smtpd`, `-bd`, `-bl` | `postfix start`, without waiting for its end |
//!
//! Each `-v` is passed on. The commands run as the caller: `sendmail` first gives up the
//! set-group-id for good. The commands' environment is the caller's, with the administrator's
//! `import_environment`, as if the caller had run the commands.
//!
//! Source: Postfix `sendmail(1)`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::exit::Failure;
use crate::instance::{DEFAULT_CONFIG_DIRECTORY, Instance};
use crate::list::words;
use crate::privilege::give_up_group;
use crate::table::settings;

/// Task of another command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Listing of the queue.
    ShowQueue,
    /// Immediate attempt to deliver all queued mail.
    Flush,
    /// Immediate attempt to deliver the queued mail for this site.
    FlushSite(Vec<u8>),
    /// Immediate attempt to deliver this queued message.
    FlushMessage(Vec<u8>),
    /// Rebuilding of alias databases: the named one, or those of `main.cf`.
    Aliases(Option<Vec<u8>>),
    /// SMTP on standard input and output.
    Smtp,
    /// Start of the mail system.
    Start,
}

impl Task {
    /// Returns stock's name of the task in error messages, which callers may look for.
    pub(crate) fn as_stock_calls_it(&self) -> &'static str {
        match self {
            Self::ShowQueue => "display queue mode",
            Self::Flush => "flush queue mode",
            Self::FlushSite(_) => "flush site",
            Self::FlushMessage(_) => "flush queue_id",
            Self::Aliases(_) => "alias initialization mode",
            Self::Smtp => "stand-alone mode",
            Self::Start => "daemon mode",
        }
    }
}

/// Variables of the caller's environment.
pub type Environment = Vec<(OsString, OsString)>;

/// Becomes the command of the task. Returns only if nothing must be done or waited for, or after a
/// failure.
pub fn delegate(
    task: &Task,
    verbosity: usize,
    instance: &Instance,
    environment: Environment,
) -> Result<(), Failure> {
    let Some((directory, program, arguments)) = command_line(task, verbosity, instance) else {
        return Ok(());
    };
    give_up_group()?;
    let path = Path::new(&instance.text(directory)).join(program);
    let mut command = Command::new(&path);
    command.arg0(program).args(arguments.into_iter().map(OsString::from_vec));
    command.envs(environment).env_remove("MAIL_CONFIG");
    command.envs(where_to_log(instance));
    command.envs(settings(&instance.text("import_environment")));
    command.current_dir(instance.text("queue_directory"));
    if instance.config_directory != Path::new(DEFAULT_CONFIG_DIRECTORY) {
        command.env("MAIL_CONFIG", &instance.config_directory);
    }
    let error = match task {
        Task::Start => match command.spawn() {
            Ok(_) => return Ok(()),
            Err(error) => error,
        },
        _ => command.exec(),
    };
    let error = host::limit::starting(error);
    Err(Failure::temporary(format!("execute {}: {error}", path.display())))
}

/// Returns variables that make the commands log to the same place until they have read `main.cf`.
fn where_to_log(instance: &Instance) -> Vec<(&'static str, String)> {
    let text = |name| instance.text(name);
    let mut variables = vec![("MAIL_LOGTAG", text("syslog_name"))];
    if !text("maillog_file").is_empty() {
        let socket = format!("{}/public/{}", text("queue_directory"), text("postlog_service_name"));
        variables.extend([("POSTLOG_SERVICE", socket), ("POSTLOG_HOSTNAME", text("myhostname"))]);
    }
    variables
}

/// Returns the parameter that names the program's directory, the program's name, and its arguments.
/// Returns `None` if nothing must be done.
fn command_line(
    task: &Task,
    verbosity: usize,
    instance: &Instance,
) -> Option<(&'static str, &'static str, Vec<Vec<u8>>)> {
    let (directory, program, before, after) = match task {
        Task::ShowQueue => ("command_directory", "postqueue", vec![b"-p".to_vec()], vec![]),
        Task::Flush => ("command_directory", "postqueue", vec![b"-f".to_vec()], vec![]),
        Task::FlushSite(site) => {
            ("command_directory", "postqueue", vec![b"-s".to_vec(), site.clone()], vec![])
        }
        Task::FlushMessage(id) => {
            ("command_directory", "postqueue", vec![b"-i".to_vec(), id.clone()], vec![])
        }
        Task::Aliases(map) => match aliases(map.as_deref(), instance) {
            maps if maps.is_empty() => return None,
            maps => {
                ("command_directory", "postalias", vec![], [vec![b"--".to_vec()], maps].concat())
            }
        },
        Task::Smtp => ("daemon_directory", "smtpd", vec![b"-S".to_vec()], vec![]),
        Task::Start => ("command_directory", "postfix", vec![], vec![b"start".to_vec()]),
    };
    let verbose = vec![b"-v".to_vec(); verbosity];
    Some((directory, program, [before, verbose, after].concat()))
}

fn aliases(map: Option<&[u8]>, instance: &Instance) -> Vec<Vec<u8>> {
    match map {
        Some([]) => vec![],
        Some(map) => vec![map.to_vec()],
        None => {
            words(&instance.text("alias_database")).map(|name| name.as_bytes().to_vec()).collect()
        }
    }
}
