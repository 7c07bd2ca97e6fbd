//! One whole platform in a temporary folder: sink, Postfix with pickup-rs, Redis, agents.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use spool::acl::{self, Proof};
use spool::keys;
use testbed::{Postfix, Redis, Sink, until};

use crate::agents::Agents;
use crate::test_ids::test_ids;

/// The three agents, as processes of their own.
pub const AGENTS: [&str; 3] = ["info-agent", "scheduler-agent", "mail-agent"];

/// The three agents and Redis in one process.
pub(crate) const ALL_IN_ONE: &str = "optimus";

/// Time limit for a part to be ready.
const START: Duration = Duration::from_secs(30);

/// Description of a platform.
#[derive(Debug, Clone, Default)]
pub struct PlatformBuilder {
    settings: String,
    main: Vec<String>,
    services: Vec<String>,
    separate: bool,
    own_redis: bool,
    delay: Duration,
}

/// A running platform. All its parts end when dropped.
pub struct Platform {
    /// The agents, or `optimus` for all of them in one process.
    pub agents: Agents,
    separate: bool,
    /// The Redis server; `None` when `optimus` runs its own.
    pub redis: Option<Redis>,
    /// The only Postfix.
    pub postfix: Postfix,
    /// Sink to which all mail goes.
    pub sink: Sink,
}

impl PlatformBuilder {
    /// Adds text to `optimus.toml`, apart from the table `[redis]`.
    #[must_use]
    pub fn settings(mut self, text: &str) -> Self {
        self.settings.push_str(text);
        self
    }

    /// Sets a parameter of `main.cf`, as `name = value`.
    #[must_use]
    pub fn main(mut self, line: &str) -> Self {
        self.main.push(line.to_owned());
        self
    }

    /// Adds or replaces a line of `master.cf`.
    #[must_use]
    pub fn service(mut self, line: &str) -> Self {
        self.services.push(line.to_owned());
        self
    }

    /// Runs each agent and Redis as a process of its own, instead of `optimus run`.
    #[must_use]
    pub fn separate(mut self) -> Self {
        self.separate = true;
        self.own_redis()
    }

    /// Runs a Redis that is there before the agents and stays after them, instead of the one
    /// embedded in `optimus run`.
    #[must_use]
    pub fn own_redis(mut self) -> Self {
        self.own_redis = true;
        self
    }

    /// Makes the sink take this long to acknowledge a message.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Makes everything and starts Postfix and Redis. `start_agents` starts the agents.
    pub fn start(self) -> Result<Platform> {
        let platform = self.prepare()?;
        platform.postfix.start()?;
        Ok(platform)
    }

    /// Makes everything and starts Redis, but not Postfix.
    pub fn prepare(self) -> Result<Platform> {
        require_root()?;
        let sink = Sink::builder().without_content().delay(self.delay).start()?;
        let postfix = Postfix::builder().relay_to(sink.port()).optimus();
        let postfix = self.services.iter().fold(postfix, |postfix, line| postfix.service(line));
        let postfix =
            self.main.iter().fold(postfix, |postfix, line| postfix.main(line)).prepare()?;
        let users: &[String] = if self.separate { &users() } else { &[] };
        let redis = if self.own_redis { Some(own_redis(&postfix, users)?) } else { None };
        let mut settings = redis
            .as_ref()
            .map_or_else(String::new, |redis| format!("[redis]\nurl = {:?}\n", redis.url()));
        if self.separate {
            settings += LOGINS;
        }
        let secret = postfix.config_dir().join("secret");
        std::fs::write(&secret, SECRET)?;
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600))?;
        std::fs::write(postfix.config_dir().join("optimus.toml"), settings + &self.settings)?;
        let logs = postfix.path().join("log");
        Ok(Platform { agents: Agents::new(logs), separate: self.separate, redis, postfix, sink })
    }
}

impl Platform {
    /// Begins a description of a platform.
    pub fn builder() -> PlatformBuilder {
        PlatformBuilder::default()
    }

    /// Starts all agents and waits until submissions reach Redis.
    pub fn start_agents(&mut self) -> Result<()> {
        let names: &[&str] = if self.separate { &AGENTS } else { &[ALL_IN_ONE] };
        for name in names {
            self.start_agent(name)?;
        }
        let socket = self.redis_socket();
        until(START, "Redis to answer", || UnixStream::connect(&socket).is_ok())
            .with_context(|| self.logs())
    }

    /// Makes another Postfix with the same Redis and sink, and doesn't start it.
    pub(crate) fn beside(&self) -> Result<Postfix> {
        let postfix = Postfix::builder().relay_to(self.sink.port()).optimus().prepare()?;
        for name in ["optimus.toml", "secret"] {
            std::fs::copy(self.postfix.config_dir().join(name), postfix.config_dir().join(name))?;
        }
        Ok(postfix)
    }

    /// Whether Redis runs without the agents.
    pub fn has_own_redis(&self) -> bool {
        self.redis.is_some()
    }

    /// Starts one agent.
    pub fn start_agent(&mut self, name: &str) -> Result<()> {
        let mut command = self.postfix.command(testbed::bin(name));
        if name == ALL_IN_ONE {
            command.arg("run");
        }
        self.agents.start(name, command)
    }

    /// Restarts agents that have ended by themselves.
    pub fn revive(&mut self) -> Result<()> {
        for name in self.agents.take_ended().with_context(|| self.logs())? {
            self.start_agent(&name)?;
        }
        Ok(())
    }

    /// Returns how often the Mail Agent has compared its disk with Redis.
    pub fn recoveries(&self) -> usize {
        let log = std::fs::read(self.postfix.path().join("log/mail-agent.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).matches("queue compared with Redis").count()
    }

    /// Returns the socket of the Redis in use.
    pub fn redis_socket(&self) -> PathBuf {
        let embedded = || self.postfix.queue_dir().join("public/optimus-redis");
        self.redis.as_ref().map_or_else(embedded, Redis::socket)
    }

    /// Returns the output of redis-cli; with the embedded Redis, run as the agents' user.
    pub fn redis_cli(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("redis-cli");
        command.arg("-e").arg("-s").arg(self.redis_socket());
        if self.redis.is_none() {
            let file = self.postfix.path().join("data/optimus-redis/password");
            let password =
                std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            command.args(["--user", "optimus"]).env("REDISCLI_AUTH", password.trim());
        }
        let output = command.args(words).output().context("redis-cli: not started")?;
        if !output.status.success() {
            bail!("redis-cli {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Returns the number of messages ever submitted to Redis.
    pub fn submitted_to_redis(&self) -> Result<u64> {
        self.count("submitted")
    }

    /// Returns the number of messages ever settled.
    pub fn settled(&self) -> Result<u64> {
        self.count("settled")
    }

    fn count(&self, what: &str) -> Result<u64> {
        let text = self.redis_cli(&["HGET", keys::COUNTS, what])?;
        if text.is_empty() { Ok(0) } else { text.parse().context(text) }
    }

    /// Returns the number of messages that Redis has.
    pub fn kept_in_redis(&self) -> Result<usize> {
        let inbox: usize = self.redis_cli(&["LLEN", keys::INBOX])?.parse()?;
        if self.redis.is_some() {
            return Ok(
                inbox + self.redis_cli(&["--scan", "--pattern", keys::MESSAGES])?.lines().count()
            );
        }
        // The agents' user may not list keys.
        let gone = self.count("settled")? + self.count("dropped")?;
        Ok(inbox + usize::try_from(self.count("submitted")?.saturating_sub(gone))?)
    }

    /// Whether nothing waits anywhere any more, so that nothing can be sent again.
    pub fn is_at_rest(&self) -> bool {
        self.postfix.queue_is_empty() && self.kept_in_redis().is_ok_and(|kept| kept == 0)
    }

    /// Whether only undecided files of messages that Redis doesn't know are left. The operator must
    /// release or delete them.
    pub fn is_left_to_operator(&self) -> bool {
        self.postfix.has_only_undecided() && self.kept_in_redis().is_ok_and(|kept| kept == 0)
    }

    /// Returns the file that makes the next program at the step `name` kill itself.
    pub fn failpoint(&self, name: &str) -> PathBuf {
        self.postfix.config_dir().join("failpoints").join(name)
    }

    /// Lets every program remove the failpoint in which it dies.
    pub fn allow_failpoints(&self) -> Result<()> {
        let folder = self.postfix.config_dir().join("failpoints");
        std::fs::create_dir(&folder)?;
        Ok(std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777))?)
    }

    /// Lets Postfix's own command work on this instance, and touch nothing of the machine's
    /// Postfix.
    pub fn allow_postfix_command(&self) -> Result<()> {
        // Without a postlogd, postsuper writes the log itself, as mail_owner.
        let log = File::options().create(true).append(true).open(self.postfix.log_file())?;
        log.set_permissions(PermissionsExt::from_mode(0o666))?;
        self.postfix.limit_repairs()
    }

    /// Fails if Postfix logged an event that no kill excuses, and nothing explains.
    pub fn unexpected_lines(&self, is_explained: impl Fn(&str) -> bool) -> Result<()> {
        let log = self.postfix.log();
        let is_unexpected = |line: &&str| {
            (line.contains(" panic: ") || line.contains(" fatal: ")) && !is_explained(line)
        };
        let unexpected = log.lines().find(is_unexpected);
        unexpected.map_or(Ok(()), |line| bail!("Postfix's log: unexpected line: {line}"))
    }

    /// Copies all logs, the list of deliveries, and all waiting messages to a folder beside the
    /// programs. Returns the folder.
    pub fn keep_evidence(&self, name: &str) -> Result<PathBuf> {
        let folder = std::env::current_exe()?.with_file_name("evidence").join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("waiting"), self.waiting())?;
        for entry in std::fs::read_dir(self.postfix.path().join("log"))? {
            let entry = entry?;
            std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
        let deliveries = self
            .sink
            .received()
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<Vec<_>, _>>()?;
        std::fs::write(folder.join("deliveries.jsonl"), deliveries.join("\n"))?;
        Ok(folder)
    }

    /// Returns a line for each message that still lies in a queue.
    pub fn files_left(&self) -> Vec<String> {
        let line = |file: PathBuf| {
            let content = std::fs::read(&file).unwrap_or_default();
            let ids: Vec<String> = test_ids(&content).collect();
            format!("left: {}: {}", file.display(), ids.join(" "))
        };
        self.postfix.waiting_files().into_iter().map(line).collect()
    }

    /// Returns the names of all queue files and keys.
    fn waiting(&self) -> String {
        let listing =
            Command::new("ls").args(["-lR", "--full-time"]).arg(self.postfix.queue_dir()).output();
        let listing = listing.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let keys = self.redis_cli(&["--scan", "--pattern", &format!("{}*", keys::SHARD)]);
        format!("{}\n{}\n", listing.unwrap_or_default(), keys.unwrap_or_default())
    }

    /// Returns the ends of all logs, for a person who looks for the cause.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in
            std::fs::read_dir(self.postfix.path().join("log")).into_iter().flatten().flatten()
        {
            let text = std::fs::read(entry.path()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let shown = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            logs += &format!("--- end of {}:\n{shown}\n", entry.file_name().to_string_lossy());
        }
        logs
    }
}

/// Lines shown of each log.
const LOG_LINES: usize = 40;

/// Returns the two users of Redis, each with the least rights.
pub(crate) fn users() -> [String; 2] {
    let proof = Proof::Password(SECRET);
    [acl::agent("agent", proof, 0), acl::submitter("mail", proof, 0)]
}

/// Password of both users.
pub(crate) const SECRET: &str = "secret";

/// Settings of both users, from the middle of `[redis]` to the middle of `[submit]`.
pub(crate) const LOGINS: &str = "user = \"agent\"\npassword_file = \"secret\"\n\
    [submit]\nuser = \"mail\"\npassword_file = \"secret\"\n";

fn own_redis(postfix: &Postfix, users: &[String]) -> Result<Redis> {
    let folder = postfix.path().join("redis");
    std::fs::create_dir(&folder)?;
    Redis::start_in(&folder, &users.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Fails without root, which Postfix's master needs.
pub fn require_root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("trial: not started: Postfix's master needs root; run it as root");
    }
    Ok(())
}
