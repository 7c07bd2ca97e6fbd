//! Settings of Redis that weaken a guarantee, each with its consequence and its remedy.
//!
//! Most of them weaken guarantee G1: `sendmail` exits 0 only when the message is durable. Redis
//! answers a write before or after the write is on disk, as `appendfsync` says. A setting that is
//! missing here was examined and weakens nothing; `docs/redis.md` has the whole table.
//!
//! Source: `redis.conf` of Redis 7.0, `aof.c` (`flushAppendOnlyFile`), `config.c`.

use std::fmt;

use redis::aio::MultiplexedConnection;
use tracing::{error, warn};

use super::vitals::{Vitals, vitals};
use crate::Address;

/// One way in which a server weakens a guarantee. Displayed as `subject: consequence; remedy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weakness {
    /// Severity.
    pub effect: Effect,
    /// The setting or the fact, with its value.
    pub subject: String,
    /// Consequence for mail.
    pub consequence: &'static str,
    /// Remedy for the operator.
    pub remedy: &'static str,
}

/// Effect of a weakness on mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Acknowledged mail may be lost.
    LosesMail,
    /// The server doesn't tell whether mail may be lost.
    Unknown,
    /// Mail may stop or go to the maildrop; none is lost.
    StopsMail,
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.subject, self.consequence, self.remedy)
    }
}

/// Least number of connections that a handful of agents and a burst of `sendmail` need.
const CLIENTS_LEAST: u64 = 256;
/// Least `timeout`, seconds. Agents are silent for up to 12: 10, and 2 until an answer comes.
const TIMEOUT_LEAST_S: u64 = 15;
/// Largest `timeout`, seconds. Under a longer one a user can gather too many stopped `sendmail`s.
const TIMEOUT_MOST_S: u64 = 120;
/// Least limit of a reply, bytes: several times the largest reply of a function.
const REPLY_LEAST: u64 = 64 << 20;
/// The default `proto-max-bulk-len`, bytes. A larger message goes to the maildrop.
const BULK_LEAST: u64 = 512 << 20;

impl Vitals {
    /// Returns each way in which this server weakens a guarantee, the worst first.
    pub fn weaknesses(&self) -> Vec<Weakness> {
        let mut found = [persistence(self), memory(self), replication(self), limits(self)].concat();
        found.sort_by_key(|it| it.effect);
        found
    }
}

/// Logs the weaknesses of a newly connected server for the operator. The daemon uses the server
/// nevertheless, so that mail in Redis gets out.
pub(super) async fn tell(server: &Address, live: &mut MultiplexedConnection) {
    match vitals(live).await {
        Ok(vitals) => vitals.weaknesses().iter().for_each(|it| match it.effect {
            Effect::LosesMail => error!(%server, weakness = %it, "weakness of Redis found"),
            Effect::Unknown => warn!(%server, weakness = %it, "weakness of Redis found"),
            // `optimus check` reports these; at each connection they would only be noise.
            Effect::StopsMail => (),
        }),
        Err(error) => warn!(%server, %error, "settings of Redis not read"),
    }
}

type Found = Vec<Weakness>;

fn note(
    found: &mut Found,
    is_so: bool,
    effect: Effect,
    subject: impl Into<String>,
    (consequence, remedy): (&'static str, &'static str),
) {
    if is_so {
        found.push(Weakness { effect, subject: subject.into(), consequence, remedy });
    }
}

fn persistence(vitals: &Vitals) -> Found {
    use Effect::{LosesMail, StopsMail, Unknown};
    let mut found = Found::new();
    let text = |name| vitals.setting(name);
    note(
        &mut found,
        vitals.fact("aof_enabled") != "1",
        LosesMail,
        "appendonly is not yes",
        ("acknowledged mail is lost when Redis ends", "set `appendonly yes`"),
    );
    match text("appendfsync") {
        None => note(
            &mut found,
            true,
            Unknown,
            "appendfsync can't be read",
            (
                "acknowledged mail may be lost",
                "see that `appendfsync` is `always`, or allow CONFIG GET",
            ),
        ),
        Some(value) => note(
            &mut found,
            value != "always",
            LosesMail,
            format!("appendfsync is {value}, not always"),
            (
                "acknowledged mail is lost when the machine dies, and also when the disk is full \
                    and only Redis dies",
                "set `appendfsync always`",
            ),
        ),
    }
    note(
        &mut found,
        text("no-appendfsync-on-rewrite") == Some("yes"),
        LosesMail,
        "no-appendfsync-on-rewrite is yes",
        (
            "mail acknowledged while the append-only file is rewritten is lost when the machine \
                dies",
            "set `no-appendfsync-on-rewrite no`",
        ),
    );
    note(
        &mut found,
        vitals.fact("aof_last_write_status") == "err",
        LosesMail,
        "the last write of the append-only file failed",
        ("Redis takes no more mail, and has not all mail on disk", "make room on Redis's disk"),
    );
    note(
        &mut found,
        vitals.fact("aof_last_bgrewrite_status") == "err",
        StopsMail,
        "the last rewrite of the append-only file failed",
        ("the file grows until its disk is full", "make room on that disk, and see Redis's log"),
    );
    note(
        &mut found,
        text("auto-aof-rewrite-percentage") == Some("0"),
        StopsMail,
        "auto-aof-rewrite-percentage is 0",
        (
            "the append-only file grows until its disk is full",
            "set `auto-aof-rewrite-percentage 100`",
        ),
    );
    note(
        &mut found,
        text("aof-load-truncated") == Some("no"),
        StopsMail,
        "aof-load-truncated is no",
        (
            "after a power failure Redis does not start until redis-check-aof has cut off a part \
                that was never acknowledged",
            "set `aof-load-truncated yes`",
        ),
    );
    note(
        &mut found,
        text("save").is_some_and(|it| !it.is_empty())
            && text("stop-writes-on-bgsave-error") == Some("yes"),
        StopsMail,
        "save is set, and stop-writes-on-bgsave-error is yes",
        (
            "a snapshot that fails stops all mail, though nothing needs snapshots beside the \
                append-only file",
            "set `save \"\"`",
        ),
    );
    found
}

fn memory(vitals: &Vitals) -> Found {
    let mut found = Found::new();
    let policy = vitals.fact("maxmemory_policy");
    note(
        &mut found,
        policy != "noeviction",
        Effect::LosesMail,
        format!("maxmemory-policy is {policy}, not noeviction"),
        ("mail is thrown away when memory is full", "set `maxmemory-policy noeviction`"),
    );
    note(
        &mut found,
        vitals.number("maxmemory") == 0,
        Effect::StopsMail,
        "maxmemory is 0",
        (
            "waiting mail fills the machine's memory until the kernel ends Redis, whose data may \
                then not fit again",
            "set `maxmemory` to half of the memory; above that, new mail goes to the maildrop",
        ),
    );
    note(
        &mut found,
        vitals.setting("maxmemory-clients").is_some_and(|it| it != "0"),
        Effect::StopsMail,
        "maxmemory-clients is set",
        (
            "connections of agents are closed when many messages are read",
            "set `maxmemory-clients 0`",
        ),
    );
    found
}

fn replication(vitals: &Vitals) -> Found {
    let mut found = Found::new();
    let is_replica = vitals.fact("role") == "slave";
    let is_writable = vitals.setting("replica-read-only") == Some("no");
    note(
        &mut found,
        is_replica && is_writable,
        Effect::LosesMail,
        "the server is a replica, and replica-read-only is no",
        (
            "mail written to the replica is lost at the next synchronization",
            "use the master, and set `replica-read-only yes`",
        ),
    );
    note(
        &mut found,
        is_replica && !is_writable,
        Effect::StopsMail,
        "the server is a replica",
        ("no mail can be written to a replica", "set redis.url to the master"),
    );
    note(
        &mut found,
        !is_replica
            && vitals.number("connected_slaves") > 0
            && vitals.setting("min-replicas-to-write") == Some("0"),
        Effect::LosesMail,
        "the server has replicas, and min-replicas-to-write is 0",
        (
            "mail that only the master has is lost when a replica is promoted",
            "set `min-replicas-to-write 1` and a `min-replicas-max-lag` of a few seconds",
        ),
    );
    found
}

fn limits(vitals: &Vitals) -> Found {
    let mut found = Found::new();
    let number = |name| vitals.setting(name).and_then(|it| it.parse::<u64>().ok());
    let below = |name, least| number(name).is_some_and(|it| it < least);
    let mut small = |name: &str, is_so: bool, words| {
        let value = vitals.setting(name).unwrap_or_default();
        note(&mut found, is_so, Effect::StopsMail, format!("{name} is {value}"), words);
    };
    small(
        "timeout",
        number("timeout").is_some_and(|it| (1..TIMEOUT_LEAST_S).contains(&it)),
        ("connections of agents are closed while they are in use", "set `timeout 20`"),
    );
    small(
        "timeout",
        number("timeout").is_some_and(|it| it == 0 || it > TIMEOUT_MOST_S),
        (
            "stopped sendmails keep their connections, and use up maxclients in the end",
            "set `timeout 20`",
        ),
    );
    small(
        "maxclients",
        below("maxclients", CLIENTS_LEAST),
        ("mail of a burst goes to the maildrop, or agents are kept out", "set `maxclients 10000`"),
    );
    small(
        "proto-max-bulk-len",
        below("proto-max-bulk-len", BULK_LEAST),
        ("larger messages go to the maildrop", "set `proto-max-bulk-len 512mb`"),
    );
    small(
        "client-query-buffer-limit",
        below("client-query-buffer-limit", BULK_LEAST),
        ("larger messages go to the maildrop", "set `client-query-buffer-limit 1gb`"),
    );
    small(
        "client-output-buffer-limit",
        vitals.setting("client-output-buffer-limit").is_some_and(cuts_replies),
        (
            "connections of agents are closed when they read much",
            "set `client-output-buffer-limit normal 0 0 0`",
        ),
    );
    found
}

/// Returns whether `normal HARD SOFT SECONDS`, in bytes, allows less than a large reply.
fn cuts_replies(limit: &str) -> bool {
    let mut words = limit.split_whitespace().skip_while(|word| *word != "normal").skip(1);
    let mut next = || words.next().and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    [next(), next()].into_iter().any(|bytes| bytes > 0 && bytes < REPLY_LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(info: &[(&str, &str)], settings: &[(&str, &str)]) -> Vec<Weakness> {
        let mut vitals = good();
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        vitals.info.extend(info.iter().map(own));
        vitals.settings.extend(settings.iter().map(own));
        vitals.weaknesses()
    }

    fn good() -> Vitals {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let info =
            [("aof_enabled", "1"), ("maxmemory_policy", "noeviction"), ("maxmemory", "1000")];
        let settings = [("appendfsync", "always"), ("timeout", "20"), ("maxclients", "10000")];
        Vitals { info: info.map(own).into(), settings: settings.map(own).into() }
    }

    /// Names and values.
    type Pairs = &'static [(&'static str, &'static str)];

    /// A row has facts, settings, the effect, and the beginning of the subject.
    #[test]
    fn each_bad_value_is_named_with_consequence_and_remedy() {
        use Effect::{LosesMail, StopsMail};
        let bad: [(Pairs, Pairs, Effect, &str); 21] = [
            (&[("aof_enabled", "0")], &[], LosesMail, "appendonly"),
            (&[], &[("appendfsync", "everysec")], LosesMail, "appendfsync is everysec"),
            (&[], &[("appendfsync", "no")], LosesMail, "appendfsync is no"),
            (&[], &[("no-appendfsync-on-rewrite", "yes")], LosesMail, "no-appendfsync-on-rewrite"),
            (&[("aof_last_write_status", "err")], &[], LosesMail, "the last write"),
            (&[("aof_last_bgrewrite_status", "err")], &[], StopsMail, "the last rewrite"),
            (
                &[],
                &[("auto-aof-rewrite-percentage", "0")],
                StopsMail,
                "auto-aof-rewrite-percentage",
            ),
            (&[], &[("aof-load-truncated", "no")], StopsMail, "aof-load-truncated"),
            (
                &[],
                &[("save", "3600 1"), ("stop-writes-on-bgsave-error", "yes")],
                StopsMail,
                "save is set",
            ),
            (
                &[("maxmemory_policy", "allkeys-lru")],
                &[],
                LosesMail,
                "maxmemory-policy is allkeys-lru",
            ),
            (&[("maxmemory", "0")], &[], StopsMail, "maxmemory is 0"),
            (&[], &[("maxmemory-clients", "1000")], StopsMail, "maxmemory-clients"),
            (
                &[("role", "slave")],
                &[("replica-read-only", "no")],
                LosesMail,
                "the server is a replica",
            ),
            (&[("role", "slave")], &[], StopsMail, "the server is a replica"),
            (
                &[("connected_slaves", "1")],
                &[("min-replicas-to-write", "0")],
                LosesMail,
                "the server has replicas",
            ),
            (&[], &[("timeout", "5")], StopsMail, "timeout is 5"),
            (&[], &[("timeout", "0")], StopsMail, "timeout is 0"),
            (&[], &[("timeout", "3600")], StopsMail, "timeout is 3600"),
            (&[], &[("maxclients", "10")], StopsMail, "maxclients is 10"),
            (&[], &[("proto-max-bulk-len", "1048576")], StopsMail, "proto-max-bulk-len"),
            (
                &[],
                &[("client-output-buffer-limit", "normal 1000 0 0 slave 0 0 0")],
                StopsMail,
                "client-output",
            ),
        ];
        for (info, settings, effect, subject) in bad {
            let found = told(info, settings);
            let [it] = &found[..] else { panic!("{subject}: {found:?}") };
            assert!(it.effect == effect && it.subject.starts_with(subject), "{it:?}");
            assert!(!it.consequence.is_empty() && !it.remedy.is_empty(), "{it:?}");
        }
    }

    #[test]
    fn a_durable_redis_has_no_weakness() {
        assert_eq!(told(&[], &[]), []);
        let defaults = [
            ("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60"),
            ("save", ""),
        ];
        assert_eq!(told(&[("role", "master")], &defaults), []);
    }

    #[test]
    fn everysec_loses_mail_also_when_only_redis_dies() {
        let found = told(&[], &[("appendfsync", "everysec")]);
        assert!(
            found[0].to_string().contains("when the disk is full and only Redis dies"),
            "{found:?}"
        );
    }

    #[test]
    fn the_worst_weakness_comes_first_and_an_unreadable_setting_is_named() {
        let mut vitals = good();
        vitals.settings.clear();
        vitals.info.insert("aof_enabled".to_owned(), "0".to_owned());
        vitals.info.insert("maxmemory".to_owned(), "0".to_owned());
        let effects: Vec<Effect> = vitals.weaknesses().iter().map(|it| it.effect).collect();
        assert_eq!(effects, [Effect::LosesMail, Effect::Unknown, Effect::StopsMail]);
    }
}
