//! `optimus.toml`: the administrator's settings. The defaults work on one machine without any.
//!
//! The file lies beside `main.cf`, so that each Postfix instance has its own, and need not exist.
//! Every setting is listed here with its unit and default. An unknown name is an error, so a
//! misspelt setting can't be silently ignored.

mod agent_address;
pub mod failpoint;
mod password;
mod told;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use postfix_wire::main_cf::{MainCf, MainCfError};
use serde::{Deserialize, Serialize};

pub use agent_address::{AgentAddress, AgentAddressError};
pub use password::Login;
pub use told::told;

/// Name of the file, in Postfix's configuration directory.
pub const FILE_NAME: &str = "optimus.toml";

/// Limit of the file, bytes: far more than all settings with their comments.
const BYTES_MAX: u64 = 1 << 20;
/// Limit of a lot: `LOT_MAX` of `optimus.lua`, which makes no larger lots in any case.
const LOT_SIZE_MAX: u32 = 10_000;
/// Limit of the submission timeout, in milliseconds: no caller of `sendmail` waits longer.
const TIMEOUT_MS_MAX: u64 = 600_000;
/// Limit of a lease, in milliseconds: a dead node would stay unnoticed for as long.
const LEASE_MS_MAX: u64 = 3_600_000;
/// Limit of Redis's memory, in MiB: a petabyte, whose number of bytes Redis can read.
const MEMORY_MB_MAX: u64 = 1 << 30;
/// Limit of the grace: `GONE_MS` of `optimus.lua`, in seconds, after which a Mail Agent that has
/// gone is forgotten. A longer grace would never end, and the node's committed mail would wait for
/// ever.
const GONE_S: u64 = 30 * 24 * 3_600;

/// Settings that can't be used. Nothing was changed; correct the file and try again.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file exists and can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Not TOML, or a setting's name or type is wrong.
    #[error("{}:{line}:{column}: {words}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// The parser's text. It may quote a value, a password among others, so only a reader of
        /// the file may get it.
        words: String,
    },
    /// A value is out of its bounds.
    #[error("{}: {setting}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The setting, as `table.name`.
        setting: &'static str,
        /// The mistake in the value.
        reason: &'static str,
    },
    /// The password file can't be read.
    #[error("{setting}: {}: {source}", path.display())]
    PasswordFile {
        /// The setting, as `table.name`.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// `main.cf`, on which defaults rest, can't be used.
    #[error(transparent)]
    MainCf(#[from] MainCfError),
}

/// Suffix of a maildrop file whose submission is in doubt, behind the queue id.
///
/// Such a file is finished: fsynced, with mode 0744 as stock postdrop's, and `A optimus_id=<id>` in
/// its envelope. Stock pickup skips it because its name is not a queue id. pickup-rs asks Redis to
/// disown the id. Then it removes the file, or renames it to the queue id and wakes stock pickup.
/// The file lies in the maildrop itself, even if that has subdirectories. See
/// `docs/decisions/0003-*`.
pub const IN_DOUBT_SUFFIX: &str = ".in-doubt";

/// User of the embedded Redis for the daemons.
pub const EMBEDDED_USER: &str = "optimus";

/// User of the embedded Redis for submission. It needs no password: the socket is for
/// `setgid_group` alone.
pub const EMBEDDED_SUBMITTER: &str = "submit";

/// All settings, with the defaults filled in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Redis with the mail.
    pub redis: Redis,
    /// Submission by `sendmail` and `postdrop`.
    pub submit: Submit,
    /// The grouping of messages.
    pub lots: Lots,
    /// Settings that all agents share.
    pub agents: Agents,
    /// Settings of the Mail Agent.
    pub mail: Mail,
    /// Settings of pickup-rs.
    pub pickup: Pickup,
    /// Limits of the quarantine.
    pub quarantine: Quarantine,
    /// Thresholds of `optimus status`.
    pub status: Thresholds,
}

/// Settings of `[redis]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `unix:///path`, or `redis://host:port/db`. Default: none, which means the embedded server of
    /// `optimus run`.
    pub url: Option<String>,
    /// ACL user of the daemons, and of submission unless that has one of its own. Default: Redis's
    /// default user. Only with a `url`: the embedded server has users of its own.
    pub user: Option<String>,
    /// File whose first line is that user's password; a relative path is relative to Postfix's
    /// configuration directory. For root alone (mode 0600) where submission has a user of its own,
    /// else for root and `setgid_group` (0640). `optimus check` complains when everybody can read
    /// it.
    pub password_file: Option<PathBuf>,
    /// Memory from which on the embedded Redis takes no more submissions, which then go to the
    /// maildrop. MiB, at least 16. Default: half of the machine's, or of the control group's limit
    /// if that is less.
    pub memory_mb: Option<u64>,
}

/// Settings of `[submit]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Submit {
    /// Longest time that a submission waits for Redis before it goes to the local maildrop, in
    /// milliseconds, at most 600000. Default: 2000.
    pub timeout_ms: u64,
    /// Socket of postdropd, for `sendmail` and `postdrop` that can't have the group's rights.
    /// An absolute path in a folder that only root can write to. Default: `optimus/submit` in
    /// `queue_directory`.
    pub socket: Option<PathBuf>,
    /// ACL user of `sendmail` and `postdrop`, which need only append to the inbox. `optimus acl`
    /// prints the user's line. Default: the user of `[redis]`.
    pub user: Option<String>,
    /// File whose first line is that user's password, as in `[redis]`. For root and `setgid_group`:
    /// owner root, group postdrop, mode 0640.
    pub password_file: Option<PathBuf>,
}

/// Settings of `[lots]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lots {
    /// Number of messages in a full lot, at most 10000. Default: 200.
    pub size: u32,
    /// Longest time that messages too few for a full lot wait while every agent is busy, in
    /// milliseconds. Default: 200.
    pub linger_ms: u64,
}

/// Settings of `[agents]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agents {
    /// Time without a renewal after which an agent is dead, in milliseconds, from 100 to 3600000.
    /// Default: 5000. Agents renew their leases at every third of that time.
    pub lease_ms: u64,
    /// Time after which other nodes send a dead node's committed mail again, in seconds, less than
    /// 30 days. Default: 3600.
    pub node_loss_grace_s: u64,
    /// IP address at which this host's agents answer rpc, and the first of 16 ports. Default:
    /// 127.0.0.1; with a `rpc_key`, the address from which this host reaches Redis.
    pub address: Option<AgentAddress>,
    /// File with the secret that the agents of all hosts share, as private as a password file.
    /// Default: none, which means that agents answer on this host only.
    pub rpc_key: Option<PathBuf>,
}

/// Settings of `[mail]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mail {
    /// Most messages that a node may hold unsettled, deferred ones and those on hold apart.
    /// Default: 20000, as many as the queue manager keeps active (`qmgr_message_active_limit`).
    pub window: u32,
    /// Most messages that a node may hold while other nodes are alive, which could send the rest
    /// sooner. Default: 2000.
    pub window_shared: u32,
}

/// Settings of `[pickup]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pickup {
    /// Number of cleanup processes that are fed at once. Default: 4.
    pub cleanups: usize,
    /// Time between two comparisons of the queue with pickup-rs's view of it, in seconds. Default:
    /// 60.
    pub rescan_s: u64,
}

/// Settings of `[quarantine]`: limits of the quarantine. Messages beyond a limit are given up, the
/// oldest of the user with the most first. 0 means no limit. A message that may be good, while
/// something else is at fault, is always kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quarantine {
    /// Size of all users' messages, in MiB, each message counted as at least 16 KiB. Default: 256.
    pub total_mb: u64,
    /// Size of one submitting user's messages, in MiB. Default: 64.
    pub user_mb: u64,
    /// Time that a message is kept, in days. Default: 30.
    pub age_days: u64,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self { total_mb: 256, user_mb: 64, age_days: 30 }
    }
}

/// Settings of `[status]`: thresholds from which `optimus status` exits with 1 (WARNING) or 2
/// (CRITICAL). 0 means never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Time for which mail may wait for a node before that is a warning, in seconds. Default: 300.
    pub oldest_warning_s: u64,
    /// Time for which mail may wait for a node before that is critical, in seconds. Default: 1800.
    pub oldest_critical_s: u64,
    /// Number of messages in quarantine that is a warning. Default: 1.
    pub quarantine_warning: u64,
    /// Number of messages in quarantine that is critical. Default: 100.
    pub quarantine_critical: u64,
    /// Number of Mail Agents that must be alive. Fewer are a warning; none is critical. Default: 1.
    pub mail_agents: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            oldest_warning_s: 300,
            oldest_critical_s: 1_800,
            quarantine_warning: 1,
            quarantine_critical: 100,
            mail_agents: 1,
        }
    }
}

impl Default for Submit {
    fn default() -> Self {
        Self { timeout_ms: 2_000, socket: None, user: None, password_file: None }
    }
}

impl Default for Lots {
    fn default() -> Self {
        Self { size: 200, linger_ms: 200 }
    }
}

impl Default for Agents {
    fn default() -> Self {
        Self { lease_ms: 5_000, node_loss_grace_s: 3_600, address: None, rpc_key: None }
    }
}

impl Default for Mail {
    fn default() -> Self {
        Self { window: 20_000, window_shared: 2_000 }
    }
}

impl Default for Pickup {
    fn default() -> Self {
        Self { cleanups: 4, rescan_s: 60 }
    }
}

/// Returns the file's text, whatever its mode: settings are as private as main.cf.
fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    host::file::open_of_any_mode(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(host::folder::PathRefusal::Size { bytes_max: BYTES_MAX }.into());
    }
    Ok(text)
}

impl Settings {
    /// Reads `optimus.toml` in `config_directory`; a missing file means defaults.
    pub fn load(config_directory: &Path) -> Result<Self, SettingsError> {
        let path = config_directory.join(FILE_NAME);
        match text_of(&path) {
            Ok(text) => Self::parse(&text, &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SettingsError::Read { path, source }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let mut settings: Self =
            toml::from_str(text).map_err(|error| syntax(&error, text, path))?;
        for file in [
            &mut settings.redis.password_file,
            &mut settings.submit.password_file,
            &mut settings.agents.rpc_key,
        ] {
            *file = file.take().map(|file| path.with_file_name(file));
        }
        match settings.out_of_bounds() {
            None => Ok(settings),
            Some((setting, reason)) => {
                Err(SettingsError::Value { path: path.to_owned(), setting, reason })
            }
        }
    }

    fn out_of_bounds(&self) -> Option<(&'static str, &'static str)> {
        [
            (
                self.redis.memory_mb.is_some_and(|it| !(16..=MEMORY_MB_MAX).contains(&it)),
                "redis.memory_mb",
                "must be from 16 to 1073741824",
            ),
            (
                !(1..=TIMEOUT_MS_MAX).contains(&self.submit.timeout_ms),
                "submit.timeout_ms",
                "must be from 1 to 600000",
            ),
            (
                self.submit.socket.as_ref().is_some_and(|path| !path.is_absolute()),
                "submit.socket",
                "must be an absolute path",
            ),
            (!(1..=LOT_SIZE_MAX).contains(&self.lots.size), "lots.size", "must be from 1 to 10000"),
            (
                !(100..=LEASE_MS_MAX).contains(&self.agents.lease_ms),
                "agents.lease_ms",
                "must be from 100 to 3600000",
            ),
            (
                self.agents.node_loss_grace_s >= GONE_S,
                "agents.node_loss_grace_s",
                "must be less than 2592000, which is 30 days",
            ),
            (self.mail.window == 0, "mail.window", "must be at least 1"),
            (self.mail.window_shared == 0, "mail.window_shared", "must be at least 1"),
            (
                !(1..=100).contains(&self.pickup.cleanups),
                "pickup.cleanups",
                "must be from 1 to 100",
            ),
            (self.pickup.rescan_s == 0, "pickup.rescan_s", "must be at least 1"),
        ]
        .into_iter()
        .find_map(|(wrong, setting, reason)| wrong.then_some((setting, reason)))
    }
}

fn syntax(error: &toml::de::Error, text: &str, path: &Path) -> SettingsError {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or_default();
    SettingsError::Syntax {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
        words: told::one_line(error.message()),
    }
}

/// Limit of the identity file, bytes: no node's name is longer, with its line break.
const IDENTITY_BYTES_MAX: u64 = 4_096;

/// Paths of one Postfix instance, defined once because four programs must agree on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Postfix's configuration directory.
    pub config_directory: PathBuf,
    /// Postfix's `queue_directory`.
    pub queue_directory: PathBuf,
    /// Postfix's `data_directory`.
    pub data_directory: PathBuf,
}

impl Places {
    /// Returns the paths for an instance's `main.cf`.
    pub fn of(config_directory: &Path, main_cf: &MainCf) -> Result<Self, SettingsError> {
        Ok(Self {
            config_directory: config_directory.to_owned(),
            queue_directory: main_cf.get_path("queue_directory")?,
            data_directory: main_cf.get_path("data_directory")?,
        })
    }

    /// Returns the embedded Redis's socket. It is in `public/`, which only set-group-id `sendmail`
    /// can enter.
    pub fn redis_socket(&self) -> PathBuf {
        self.queue_directory.join("public/optimus-redis")
    }

    /// Returns the folder of the embedded Redis's append-only file and other data.
    pub fn redis_directory(&self) -> PathBuf {
        self.data_directory.join("optimus-redis")
    }

    /// Returns postdropd's socket. Its folder is open to everybody, because `public/` is for the
    /// group only.
    pub fn submit_socket(&self, settings: &Settings) -> PathBuf {
        settings
            .submit
            .socket
            .clone()
            .unwrap_or_else(|| self.queue_directory.join("optimus/submit"))
    }

    /// Returns the Mail Agent's socket for `mailq`. The agent lists mail in Redis there, as
    /// showq(8) lists mail in Postfix.
    pub fn showq_socket(&self) -> PathBuf {
        self.queue_directory.join("public/optimus-showq")
    }

    /// Returns the file with the password of the embedded Redis's user [`EMBEDDED_USER`], which
    /// `optimus run` makes.
    pub fn redis_password_file(&self) -> PathBuf {
        self.redis_directory().join("password")
    }

    /// Returns pickup-rs's socket, which master makes for the service `optimus`.
    pub fn pickup_socket(&self) -> PathBuf {
        self.queue_directory.join("private/optimus")
    }

    /// Returns the folder of files about the queue's node. The folder moves with the queue, and is
    /// lost with it.
    pub fn node_directory(&self) -> PathBuf {
        self.queue_directory.join("optimus/node")
    }

    /// Returns the file with the identity and the last known lot number of this instance's spool.
    pub fn spool_file(&self) -> PathBuf {
        self.node_directory().join("spool")
    }

    /// Returns the file with the mark: the number up to which all commits are released, as this
    /// disk knows.
    pub fn mark_file(&self) -> PathBuf {
        self.node_directory().join("mark")
    }

    /// Returns the file with the name of the queue's node.
    pub fn identity_file(&self) -> PathBuf {
        self.node_directory().join("identity")
    }

    /// Returns the identity file of earlier versions, where scripts that remove stale sockets reach
    /// it.
    pub fn former_identity_file(&self) -> PathBuf {
        self.queue_directory.join("private/optimus-identity")
    }

    /// Returns the name of the queue's node from its file; `None` where no pickup-rs has run yet.
    pub fn identity(&self) -> io::Result<Option<String>> {
        for path in [self.identity_file(), self.former_identity_file()] {
            match host::file::read_text(&path, IDENTITY_BYTES_MAX) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                read => return read.map(|text| Some(text.trim_end().to_owned())),
            }
        }
        Ok(None)
    }

    /// Returns the URL of the Redis to use: the configured one, or the embedded one.
    pub fn redis_url(&self, settings: &Settings) -> String {
        settings
            .redis
            .url
            .clone()
            .unwrap_or_else(|| format!("unix://{}", self.redis_socket().display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, SettingsError> {
        Settings::parse(text, Path::new("/etc/postfix/optimus.toml"))
    }

    #[test]
    fn a_missing_file_means_defaults() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(Settings::load(empty.path()).unwrap(), Settings::default());
    }

    #[test]
    fn a_setting_that_is_not_given_keeps_its_default() {
        let settings = parse("[lots]\nsize = 7\n").unwrap();
        assert_eq!(settings.lots, Lots { size: 7, ..Lots::default() });
        assert_eq!(settings.mail, Mail::default());
    }

    #[test]
    fn a_misspelt_setting_is_an_error_that_names_file_and_line() {
        let error = parse("[lots]\nsiez = 7\n").unwrap_err().to_string();
        assert!(
            error.starts_with("/etc/postfix/optimus.toml:2:1: ") && error.contains("siez"),
            "{error}"
        );
    }

    #[test]
    fn every_mistake_is_told_in_one_line() {
        let unfinished =
            ["[lots\n", "[lots]\nsize = \"x\n", "[lots]\nsize = '''\n\n", "[lots]\nsize = [\n1,\n"];
        for text in unfinished.into_iter().chain([
            "lots = 1\n",
            "[lots]\nsize = -1\n",
            "\0",
            "a = 1\na = 2",
        ]) {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                !error.contains('\n') && error.starts_with("/etc/postfix/optimus.toml:"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn only_the_parser_s_words_can_hold_a_secret() {
        for text in
            ["redis = \"redis://:hunter2@host\"", "[redis]\nurl = \"redis://:hunter2@host\" x"]
        {
            let Err(SettingsError::Syntax { path, line, .. }) = parse(text) else {
                panic!("{text}")
            };
            assert_eq!(
                (path.to_str(), line),
                (Some("/etc/postfix/optimus.toml"), text.lines().count())
            );
        }
    }

    #[test]
    fn a_password_file_lies_beside_the_settings() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(folder.path().join(FILE_NAME), "[redis]\npassword_file = \"password\"")
            .unwrap();
        let redis = Settings::load(folder.path()).unwrap().redis;
        assert_eq!(redis.password_file.as_ref(), Some(&path));
        std::fs::write(&path, "secret\r\nmore\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o640);
        assert_eq!(redis.password().unwrap().as_deref(), Some("secret"));
        assert_eq!(Redis::default().password().unwrap(), None);
        let absolute = parse("[redis]\npassword_file = \"/run/x\"").unwrap();
        assert_eq!(absolute.redis.password_file, Some("/run/x".into()));
    }

    #[test]
    fn a_value_out_of_bounds_is_an_error_that_names_the_setting() {
        for (text, setting) in [
            ("[lots]\nsize = 0\n", "lots.size"),
            ("[lots]\nsize = 10001\n", "lots.size"),
            ("[submit]\ntimeout_ms = 600001\n", "submit.timeout_ms"),
            ("[submit]\nsocket = \"submit\"\n", "submit.socket"),
            ("[agents]\nlease_ms = 3600001\n", "agents.lease_ms"),
            ("[agents]\nnode_loss_grace_s = 2592000\n", "agents.node_loss_grace_s"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(setting), "{error}");
        }
        assert!(parse("[agents]\nnode_loss_grace_s = 2591999\n[lots]\nsize = 10000\n").is_ok());
    }
}
