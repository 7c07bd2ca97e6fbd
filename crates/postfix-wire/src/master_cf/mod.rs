//! `master.cf`: which services master runs.
//!
//! ```text
//! # service type  private unpriv  chroot  wakeup  maxproc command + args
//! optimus   unix  -       -       n       -       1       pickup-rs
//!     -o syslog_name=postfix/optimus -o { non_smtpd_milters = inet:a, inet:b }
//! ```
//!
//! `-` asks for a field's default. Arguments in braces may hold blanks.
//!
//! Source: `master(5)`, `master_ent.c`.

mod fields;

use std::path::{Path, PathBuf};

use fields::Fields;

use crate::lines::{logical_lines, split_nameval};
use crate::main_cf::{MainCf, MainCfError, read_config};
use crate::master::MasterArgs;

/// The file's name.
pub const FILE_NAME: &str = "master.cf";

/// A `master.cf` can't be used. Nothing was changed; correct the file and try again.
#[derive(Debug, thiserror::Error)]
pub enum MasterCfError {
    /// The file can't be read.
    #[error(transparent)]
    Read(#[from] MainCfError),
    /// A line lacks a field.
    #[error("{}: line {line}: missing {field:?} field", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The line where the entry starts.
        line: usize,
        /// The field's name.
        field: &'static str,
    },
    /// A field's value makes no sense.
    #[error("{}: line {line}: field {field:?}: bad value: {value:?}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line where the entry starts.
        line: usize,
        /// The field's name.
        field: &'static str,
        /// The field's content.
        value: String,
    },
}

/// The kind of socket by which clients reach a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceType {
    /// TCP.
    Inet,
    /// A Unix stream socket.
    Unix,
    /// A Unix datagram socket.
    UnixDgram,
    /// A FIFO.
    Fifo,
    /// Connections passed over a Unix socket.
    Pass,
}

impl ServiceType {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "inet" => Self::Inet,
            "unix" => Self::Unix,
            "unix-dgram" => Self::UnixDgram,
            "fifo" => Self::Fifo,
            "pass" => Self::Pass,
            _ => return None,
        })
    }
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The line its entry starts on.
    pub line: usize,
    /// The service's name; for `inet` a port or `host:port`.
    pub name: String,
    /// The kind of socket by which clients reach the service.
    pub service_type: ServiceType,
    /// Whether its socket is in `private/`, not `public/`.
    pub private: bool,
    /// Whether it runs as `mail_owner`.
    pub unprivileged: bool,
    /// Whether it is confined to the queue directory. `None`: as the compatibility level says.
    pub chroot: Option<bool>,
    /// Time between two wake-ups by master, seconds; 0 never.
    pub wakeup_s: u32,
    /// Whether master wakes it only once it was used.
    pub wakeup_if_used: bool,
    /// The most processes it may have; 0 any number. `None`: `default_process_limit`.
    pub process_limit: Option<u32>,
    /// The program, in `daemon_directory`.
    pub command: String,
    /// The command's arguments, braces taken off.
    pub args: Vec<String>,
}

impl Service {
    /// The parameters that `-o` sets, in their order. Options end at the first operand, as with any
    /// Postfix daemon; what makes no sense is left out.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let split =
            |text: &String| split_nameval(text).ok().map(|(n, v)| (n.to_owned(), v.to_owned()));
        MasterArgs::overrides_of(self.args.iter().cloned()).iter().filter_map(split).collect()
    }

    /// Returns the socket's path, relative to the queue directory; `None` for `inet`.
    pub fn socket(&self) -> Option<PathBuf> {
        let class = if self.private { "private" } else { "public" };
        (self.service_type != ServiceType::Inet).then(|| Path::new(class).join(&self.name))
    }
}

/// All services of a Postfix instance, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterCf {
    services: Vec<Service>,
}

impl MasterCf {
    /// Reads `master.cf` in `config_directory`. Bytes that are not UTF-8 become U+FFFD.
    pub fn load(config_directory: &Path) -> Result<Self, MasterCfError> {
        let path = config_directory.join(FILE_NAME);
        Self::parse(&read_config(&path)?, &path)
    }

    /// Reads the text of a `master.cf`; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, MasterCfError> {
        let entry = |line: &crate::lines::LogicalLine| {
            Fields { path, line: line.number, rest: &line.text }.service().transpose()
        };
        Ok(Self {
            services: logical_lines(text).iter().filter_map(entry).collect::<Result<_, _>>()?,
        })
    }

    /// All services.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The service of that name and type. Later entries override earlier ones, as in master.
    pub fn find(&self, name: &str, service_type: ServiceType) -> Option<&Service> {
        self.services
            .iter()
            .rev()
            .find(|service| service.name == name && service.service_type == service_type)
    }

    /// The configuration as that service sees it.
    pub fn configuration_of(
        &self,
        service: &Service,
        main_cf: &MainCf,
    ) -> Result<MainCf, MainCfError> {
        let mut main_cf = main_cf.clone();
        for (name, value) in service.overrides() {
            main_cf.override_with(&format!("{name} = {value}"))?;
        }
        main_cf.set("service_name", &service.name);
        Ok(main_cf)
    }
}

#[cfg(test)]
mod tests;
