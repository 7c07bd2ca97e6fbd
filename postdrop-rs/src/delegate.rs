//! What `sendmail` does beside submitting: Postfix's own commands do it, as in stock.
//!
//! | asked for as | runs |
//! |---|---|
//! | `mailq`, `-bp` | `postqueue -p` |
//! | `-q` | `postqueue -f` |
//! | `-qRsite` | `postqueue -s site` |
//! | `-qIid` | `postqueue -i id` |
//! | `newaliases`, `-bi`, `-I` | `postalias` on `alias_database`, or on what `-oA` names |
//! | `-bs` | `smtpd -S`, which submits through postdrop |
//!
//! They run as the caller: our group is given up for good before.
//!
//! Source: Postfix `sendmail(1)`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::exit::Failure;
use crate::instance::{DEFAULT_CONFIG_DIRECTORY, Instance};
use crate::privilege::give_up_group;

/// Another command's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Show the queue.
    ShowQueue,
    /// Try everything now.
    Flush,
    /// Try what is for this site now.
    FlushSite(Vec<u8>),
    /// Try this message now.
    FlushMessage(Vec<u8>),
    /// Make alias databases anew: this one, or those of `main.cf`.
    Aliases(Option<Vec<u8>>),
    /// SMTP on standard input and output.
    Smtp,
}

impl Task {
    /// In a complaint, which callers may look for.
    pub(crate) fn as_stock_calls_it(&self) -> &'static str {
        match self {
            Self::ShowQueue => "display queue mode",
            Self::Flush => "flush queue mode",
            Self::FlushSite(_) => "flush site",
            Self::FlushMessage(_) => "flush queue_id",
            Self::Aliases(_) => "alias initialization mode",
            Self::Smtp => "stand-alone mode",
        }
    }
}

/// Becomes the command that does it. Returns only when there is nothing to do or it can't.
pub fn delegate(task: &Task, instance: &Instance) -> Result<(), Failure> {
    let (directory, program, arguments) = match task {
        Task::ShowQueue => ("command_directory", "postqueue", vec![b"-p".to_vec()]),
        Task::Flush => ("command_directory", "postqueue", vec![b"-f".to_vec()]),
        Task::FlushSite(site) => ("command_directory", "postqueue", vec![b"-s".to_vec(), site.clone()]),
        Task::FlushMessage(id) => ("command_directory", "postqueue", vec![b"-i".to_vec(), id.clone()]),
        Task::Aliases(map) => match aliases(map.as_deref(), instance) {
            maps if maps.is_empty() => return Ok(()),
            maps => ("command_directory", "postalias", [vec![b"--".to_vec()], maps].concat()),
        },
        Task::Smtp => ("daemon_directory", "smtpd", vec![b"-S".to_vec()]),
    };
    give_up_group()?;
    let path = Path::new(&instance.text(directory)).join(program);
    let mut command = Command::new(&path);
    command.arg0(program).args(arguments.into_iter().map(OsString::from_vec));
    if instance.config_directory != Path::new(DEFAULT_CONFIG_DIRECTORY) {
        command.env("MAIL_CONFIG", &instance.config_directory);
    }
    let error = command.exec();
    Err(Failure::temporary(format!("execute {}: {error}", path.display())))
}

fn aliases(map: Option<&[u8]>, instance: &Instance) -> Vec<Vec<u8>> {
    let listed = || instance.text("alias_database");
    map.map_or_else(
        || listed().split([',', ' ', '\t', '\r', '\n']).map(|name| name.as_bytes().to_vec()).collect(),
        |map| vec![map.to_vec()],
    )
    .into_iter()
    .filter(|name: &Vec<u8>| !name.is_empty())
    .collect()
}
