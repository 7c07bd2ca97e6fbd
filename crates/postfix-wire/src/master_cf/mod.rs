//! `master.cf`: the services that master runs.
//!
//! ```text
//! # service type  private unpriv  chroot  wakeup  maxproc command + args
//! optimus   unix  -       -       n       -       1       pickup-rs
//!     -o syslog_name=postfix/optimus -o { non_smtpd_milters = inet:a, inet:b }
//! ```
//!
//! `-` stands for a field's default. Arguments in braces may have blanks.
//!
//! Source: `master(5)`, `master_ent.c`.

mod fields;

use std::path::{Path, PathBuf};

use fields::Fields;

use crate::lines::{logical_lines, split_nameval};
use crate::main_cf::{MainCf, MainCfError, read_config};
use crate::master::MasterArgs;

/// Name of the file.
pub const FILE_NAME: &str = "master.cf";

/// Error: `master.cf` can't be used. The administrator must correct the file.
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
        /// Line where the entry starts.
        line: usize,
        /// Name of the field.
        field: &'static str,
    },
    /// The value of a field is not valid.
    #[error("{}: line {line}: field {field:?}: bad value: {value:?}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Line where the entry starts.
        line: usize,
        /// Name of the field.
        field: &'static str,
        /// Content of the field.
        value: String,
    },
}

/// Kind of socket by which clients reach a service.
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

/// Service that master runs: an entry of `master.cf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterService {
    /// Line where its entry starts.
    pub line: usize,
    /// Name of the service; for `inet` a port or `host:port`.
    pub name: String,
    /// Kind of socket by which clients reach the service.
    pub service_type: ServiceType,
    /// Whether the socket is in `private/`, not `public/`.
    pub private: bool,
    /// Whether the service runs as `mail_owner`.
    pub unprivileged: bool,
    /// Whether the service is confined to the queue directory. `None`: the compatibility level
    /// decides.
    pub chroot: Option<bool>,
    /// Time between two wake-ups by master, in seconds; 0 for no wake-ups.
    pub wakeup_s: u32,
    /// Whether master wakes the service only once it was used.
    pub wakeup_if_used: bool,
    /// Most processes of the service; 0 for any number. `None`: `default_process_limit`.
    pub process_limit: Option<u32>,
    /// Program in `daemon_directory`.
    pub command: String,
    /// Arguments of the command, without their braces.
    pub args: Vec<String>,
}

impl MasterService {
    /// Returns the parameters that `-o` sets, in their order. Options end at the first operand, as
    /// with any Postfix daemon. Invalid options are left out.
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

/// Services of a Postfix instance, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterCf {
    services: Vec<MasterService>,
}

impl MasterCf {
    /// Reads `master.cf` in `config_directory`. Bytes that are not UTF-8 become U+FFFD. Fails if
    /// the file can't be read or an entry is wrong.
    pub fn load(config_directory: &Path) -> Result<Self, MasterCfError> {
        let path = config_directory.join(FILE_NAME);
        Self::parse(&read_config(&path)?, &path)
    }

    /// Reads the text of a `master.cf`; errors name `path`. Fails if an entry is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, MasterCfError> {
        let entry = |line: &crate::lines::LogicalLine| {
            Fields { path, line: line.number, rest: &line.text }.service().transpose()
        };
        Ok(Self {
            services: logical_lines(text).iter().filter_map(entry).collect::<Result<_, _>>()?,
        })
    }

    /// Returns all services.
    pub fn services(&self) -> &[MasterService] {
        &self.services
    }

    /// Returns the service of this name and type. Later entries override earlier ones, as in
    /// master.
    pub fn find(&self, name: &str, service_type: ServiceType) -> Option<&MasterService> {
        self.services
            .iter()
            .rev()
            .find(|service| service.name == name && service.service_type == service_type)
    }

    /// Returns the configuration for this service: `main_cf` with the overrides of `-o`. Fails if
    /// Postfix refuses an override.
    pub fn configuration_of(
        &self,
        service: &MasterService,
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
