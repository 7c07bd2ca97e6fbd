//! A whole platform of real parts: Postfix with pickup-rs, a sink, Redis, and the agents as
//! processes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use spool::acl::{self, Proof};
use spool::keys;
use testbed::{Delivery, Postfix, PostfixBuilder, Redis, Sink, Tally, until, until_some};

/// Limit of all waits, far more than any step takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Platform {
    agents: BTreeMap<String, Child>,
    pub(crate) redis: Option<Redis>,
    pub(crate) postfix: Postfix,
    pub(crate) sink: Sink,
    submitted: Vec<String>,
}

/// Settings of a platform. With `redis` the platform has its own Redis; else it uses the one of
/// `optimus run`.
pub(crate) struct Plan {
    pub(crate) settings: &'static str,
    pub(crate) redis: bool,
    pub(crate) postfix: fn(PostfixBuilder) -> PostfixBuilder,
}

impl Default for Plan {
    fn default() -> Self {
        Self { settings: "[agents]\nlease_ms = 1000\n", redis: false, postfix: |it| it }
    }
}

impl Plan {
    /// Starts Redis, the sink, Postfix and pickup-rs, but no agent.
    pub(crate) fn start(self) -> Platform {
        self.start_with_redis_of(None)
    }

    /// Starts another server with the first one's Redis, which must not be the one of `optimus
    /// run`.
    pub(crate) fn start_beside(self, first: &Platform) -> Platform {
        self.start_with_redis_of(first.redis.as_ref())
    }

    fn start_with_redis_of(self, first: Option<&Redis>) -> Platform {
        let sink = Sink::start().unwrap();
        let postfix =
            (self.postfix)(Postfix::builder().relay_to(sink.port()).optimus()).prepare().unwrap();
        let redis = self.redis.then(|| {
            let folder = postfix.path().join("redis");
            std::fs::create_dir(&folder).unwrap();
            let users = [acl::agent("agent", SECRET, 0), acl::submitter("mail", SECRET, 0)];
            let redis = Redis::start_in(&folder, &[&users[0], &users[1]]).unwrap();
            std::fs::set_permissions(redis.socket(), PermissionsExt::from_mode(0o777)).unwrap();
            redis
        });
        let config = postfix.config_dir();
        let served = redis.as_ref().or(first);
        let logins = served.map_or_else(String::new, |redis| logins(&redis.url()));
        std::fs::write(config.join("secret"), "secret\n").unwrap();
        std::fs::set_permissions(config.join("secret"), PermissionsExt::from_mode(0o640)).unwrap();
        std::fs::write(config.join("optimus.toml"), logins + self.settings).unwrap();
        postfix.start().unwrap();
        Platform { agents: BTreeMap::new(), redis, postfix, sink, submitted: Vec::new() }
    }
}

const SECRET: Proof<'_> = Proof::Password("secret");

/// Returns the settings for two logins, each with the rights it needs alone. Tests use Redis's
/// default user, which may do all.
fn logins(url: &str) -> String {
    let login = |user: &str| format!("user = {user:?}\npassword_file = \"secret\"\n");
    format!("[redis]\nurl = {url:?}\n{}[submit]\n{}", login("agent"), login("mail"))
}

impl Platform {
    /// Starts an agent; `optimus` runs all.
    pub(crate) fn start(&mut self, name: &str) {
        self.start_with(name, |_| ());
    }

    pub(crate) fn start_with(&mut self, name: &str, adjust: impl FnOnce(&mut Command)) {
        let mut command = self.command(name);
        adjust(&mut command);
        if name == "optimus" {
            command.arg("run");
        }
        let log = File::options().create(true).append(true).open(self.log_of(name)).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        assert!(self.agents.insert(name.to_owned(), child).is_none(), "{name} runs already");
    }

    pub(crate) fn command(&self, name: &str) -> Command {
        self.postfix.command(testbed::bin(name))
    }

    pub(crate) fn log_of(&self, name: &str) -> PathBuf {
        self.postfix.path().join(format!("{name}.log"))
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_of(name)).unwrap_or_default()
    }

    pub(crate) fn kill_9(&mut self, name: &str) {
        let mut child = self.agents.remove(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks an agent to end, and waits for its exit status.
    pub(crate) fn terminate(&mut self, name: &str) -> ExitStatus {
        kill(self.pid(name), Signal::SIGTERM).unwrap();
        self.wait_for_end(name)
    }

    pub(crate) fn pid(&self, name: &str) -> Pid {
        Pid::from_raw(i32::try_from(self.agents[name].id()).unwrap())
    }

    /// Waits until an agent has ended.
    pub(crate) fn wait_for_end(&mut self, name: &str) -> ExitStatus {
        let child = self.agents.get_mut(name).unwrap();
        let status = until_some(LONG, "an agent to end", || child.try_wait().unwrap()).unwrap();
        self.agents.remove(name);
        status
    }

    pub(crate) fn redis_socket(&self) -> PathBuf {
        self.redis
            .as_ref()
            .map_or_else(|| self.postfix.queue_dir().join("public/optimus-redis"), Redis::socket)
    }

    pub(crate) fn wait_for_redis(&self) {
        let socket = self.redis_socket();
        until(LONG, "redis to answer", || UnixStream::connect(&socket).is_ok()).unwrap();
    }

    /// Returns redis-cli's output; with the embedded Redis, as the agents' user.
    pub(crate) fn redis_cli(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.arg("-s").arg(self.redis_socket());
        if self.redis.is_none() {
            let file = self.data_directory().join("optimus-redis/password");
            let password = std::fs::read_to_string(file).unwrap_or_default();
            command.args(["--user", "optimus"]).env("REDISCLI_AUTH", password.trim());
        }
        String::from_utf8(command.args(words).output().unwrap().stdout).unwrap().trim().to_owned()
    }

    /// Returns Postfix's data directory.
    pub(crate) fn data_directory(&self) -> PathBuf {
        self.postfix.path().join("data")
    }

    /// Submits `count` messages by `sendmail`.
    pub(crate) fn submit(&mut self, count: usize) {
        (0..count).for_each(|_| self.submit_of(0));
    }

    /// Returns the number of messages submitted so far.
    pub(crate) fn submitted(&self) -> usize {
        self.submitted.len()
    }

    /// Submits a message of `bytes` bytes or a few more.
    pub(crate) fn submit_of(&mut self, bytes: usize) {
        let id = format!("m{}", self.submitted.len());
        let body = "x".repeat(99) + "\n";
        let message = format!(
            "X-Test-Id: {id}\nSubject: test\n\nHello.\n{}",
            body.repeat(bytes / body.len())
        );
        let arguments = ["-i", "-f", "from@example.org", "to@example.org"];
        let output = self
            .postfix
            .sendmail(testbed::bin("sendmail"), &arguments, message.as_bytes())
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.submitted.push(id);
    }

    /// Submits as [`Self::submit`] does, to this Redis, whatever the configuration says.
    pub(crate) fn submit_to(&mut self, redis: &Redis, count: usize) {
        let path = self.postfix.config_dir().join("optimus.toml");
        let (before, url) = (std::fs::read(&path).unwrap(), redis.tcp_url().unwrap());
        std::fs::write(&path, format!("[redis]\nurl = {url:?}\n")).unwrap();
        self.submit(count);
        std::fs::write(&path, before).unwrap();
    }

    /// Waits until so many messages have arrived.
    pub(crate) fn sink_has(&self, count: usize) {
        until(LONG, "mail to arrive", || self.sink.distinct() >= count).unwrap();
    }

    /// Waits until this Redis keeps no message.
    pub(crate) fn expect_rest_of(&self, redis: &Redis) {
        until(LONG, "redis to be empty", || {
            redis.cli(&["KEYS", keys::MESSAGES]).is_ok_and(|keys| keys.is_empty())
                && redis.cli(&["EXISTS", keys::INBOX]).is_ok_and(|it| it == "0")
        })
        .unwrap();
    }

    /// Has Redis cut all submitted mail into ready lots. Returns the keys of the messages.
    pub(crate) fn cut_lots(&self) -> String {
        self.redis_cli(&["FUNCTION", "LOAD", "REPLACE", &spool::library()]);
        self.redis_cli(&["FCALL", "optimus_cut", "1", keys::SHARD, "", "1", "1000", ""]);
        self.redis_cli(&["--scan", "--pattern", keys::MESSAGES])
    }

    /// Waits until all submitted mail has arrived and none is kept anywhere. Expects each message
    /// once.
    pub(crate) fn expect_all_once(&self) -> Vec<Delivery> {
        let arrived =
            until(LONG, "all mail to arrive", || self.sink.distinct() >= self.submitted.len());
        arrived.unwrap_or_else(|error| {
            panic!("{error}: {} of {}", self.sink.distinct(), self.submitted.len())
        });
        self.expect_rest();
        let deliveries = self.sink.received();
        let tally = Tally::of(self.submitted.iter().map(String::as_str), &deliveries);
        assert!(tally.is_clean(), "{tally:?}");
        deliveries
    }

    /// Waits until Redis keeps no message.
    pub(crate) fn expect_rest(&self) {
        until(LONG, "redis to be empty", || self.is_at_rest()).unwrap();
    }

    /// Whether Redis keeps no message. False while Redis does not answer.
    pub(crate) fn is_at_rest(&self) -> bool {
        // The order is that in which messages move.
        self.redis_cli(&["EXISTS", keys::INBOX]) == "0" && self.kept_in_redis() == Some(0)
    }

    /// Returns a lifetime counter in Redis; 0 while Redis does not answer.
    pub(crate) fn counted(&self, what: &str) -> usize {
        self.redis_cli(&["HGET", keys::COUNTS, what]).parse().unwrap_or(0)
    }

    /// Returns the number of messages that are out of the inbox and not settled; none while Redis
    /// does not answer.
    fn kept_in_redis(&self) -> Option<usize> {
        if self.redis.is_some() {
            return Some(self.redis_cli(&["--scan", "--pattern", keys::MESSAGES]).lines().count());
        }
        // The agents' user may not list keys. One command: all counters are of one moment.
        let counters = ["--json", "HMGET", keys::COUNTS, "submitted", "settled", "dropped"];
        let counts: [Option<String>; 3] = serde_json::from_str(&self.redis_cli(&counters)).ok()?;
        let [submitted, settled, dropped] =
            counts.map(|it| it.map_or(0, |it| it.parse::<usize>().unwrap()));
        Some(submitted - settled - dropped)
    }

    /// Returns the output of `optimus status --json`, which is read again as it was written.
    pub(crate) fn status(&self) -> Value {
        let output = self.command("optimus").args(["status", "--json"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let read = serde_json::from_str::<Value>(&text);
        let value = read.unwrap_or_else(|error| panic!("{error}: {text:?}"));
        let typed: status::Output = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&typed).unwrap(), value);
        value
    }

    /// Waits until the status meets a condition.
    pub(crate) fn until_status(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        until_some(LONG, what, || Some(self.status()).filter(&is_so))
            .unwrap_or_else(|error| panic!("{error}: {:#}", self.status()))
    }

    /// Runs `optimus` with these words. Returns whether it exits with 0, and all its output.
    pub(crate) fn optimus(&self, words: &[&str]) -> (bool, String) {
        let output =
            self.command("optimus").args(words).env("RUST_BACKTRACE", "1").output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        for (name, child) in &mut self.agents {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                let log = std::fs::read_to_string(self.postfix.path().join(format!("{name}.log")))
                    .unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!(
                    "--- end of {name}'s log:\n{}",
                    lines[lines.len().saturating_sub(60)..].join("\n")
                );
            }
        }
    }
}

/// Returns the errors in a log, except for a pickup-rs that started later than a lease lasts.
pub(crate) fn errors(log: &str) -> Vec<&str> {
    let is_of_start = |line: &&str| line.contains("pickup-rs stayed unreachable");
    log.lines().filter(|line| line.contains("ERROR") && !is_of_start(line)).collect()
}
