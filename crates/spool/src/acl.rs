//! The two Redis users of OPTIMUS, as lines of an ACL file or of `redis.conf`.
//!
//! - A *submitter* (`sendmail`, `postdrop`) may append to the inbox and publish the notice of it. A
//!   submitter can't read, change or remove a key: neither its own mail nor another program's data.
//! - An *agent* (the daemons, pickup-rs, the operator's command) may run what the client sends and
//!   what the functions call, on the keys of OPTIMUS. Redis checks the caller's rights for each
//!   command inside a function too, so the list has these commands as well.

use crate::keys::{INBOX, NOTICES, SHARD};

/// Commands that [`Spool`](crate::Spool) sends, PING and the notices' subscription included.
const SENT_BY_AGENTS: [&str; 17] = [
    "config|get",
    "fcall",
    "function|load",
    "get",
    "getrange",
    "hget",
    "hgetall",
    "hscan",
    "info",
    "llen",
    "ping",
    "publish",
    "rpush",
    "strlen",
    "subscribe",
    "zrange",
    "zscore",
];

/// Commands that `optimus.lua` calls and agents don't send themselves.
const CALLED_BY_FUNCTIONS: [&str; 28] = [
    "del",
    "exists",
    "expire",
    "hdel",
    "hexists",
    "hincrby",
    "hkeys",
    "hlen",
    "hmget",
    "hrandfield",
    "hset",
    "incr",
    "lindex",
    "lrange",
    "ltrim",
    "pexpire",
    "pttl",
    "sadd",
    "set",
    "smembers",
    "srem",
    "time",
    "unlink",
    "zadd",
    "zcard",
    "zcount",
    "zrem",
    "zremrangebyscore",
];

/// Proof that a connection belongs to the user.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Proof<'a> {
    /// No proof: anybody who can connect is this user.
    None,
    /// This password, which is one word.
    Password(&'a str),
}

impl std::fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password(_) => "Password",
        })
    }
}

/// Returns the ACL line for submitters.
pub fn submitter(user: &str, proof: Proof<'_>, database: u32) -> String {
    line(user, proof, database, &format!("%W~{INBOX}"), ["rpush", "publish"].into_iter())
}

/// Returns the ACL line for agents.
pub fn agent(user: &str, proof: Proof<'_>, database: u32) -> String {
    let keys = format!("~{SHARD}* ~{}*", crate::keys::DIRECTORY);
    line(user, proof, database, &keys, SENT_BY_AGENTS.into_iter().chain(CALLED_BY_FUNCTIONS))
}

/// The ACL line that closes Redis's default user to logins.
///
/// The default user keeps all its rights. Redis 7.0 replays the append-only file's transactions,
/// which hold all that functions did, with the default user's rights. Redis silently skips commands
/// that this user may not run (`createAOFClient` in `aof.c`, `execCommand` in `multi.c`). Without
/// these rights, mail would be lost at the next restart.
pub const NOBODY: &str = "user default off resetpass ~* &* +@all";

fn line<'a>(
    user: &str,
    proof: Proof<'_>,
    database: u32,
    keys: &str,
    commands: impl Iterator<Item = &'a str>,
) -> String {
    let proof = match proof {
        Proof::None => "nopass".to_owned(),
        Proof::Password(password) => format!("resetpass >{password}"),
    };
    // A user is in database 0 from the start, and needs no SELECT to stay there.
    let select = (database != 0).then_some("select");
    let commands: String = commands.chain(select).map(|command| format!(" +{command}")).collect();
    format!("user {user} on {proof} resetkeys resetchannels -@all {keys} &{NOTICES}{commands}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn agents_may_call_what_the_functions_call_and_no_more() {
        let source = include_str!("optimus.lua");
        let called: BTreeSet<String> = source
            .split("call('")
            .skip(1)
            .filter_map(|rest| rest.split('\'').next())
            .map(str::to_lowercase)
            .collect();
        let sent: BTreeSet<String> = SENT_BY_AGENTS.map(str::to_owned).into();
        let first_word = |command: &str| command.split('|').next().unwrap_or_default().to_owned();
        let listed: BTreeSet<String> = CALLED_BY_FUNCTIONS.map(first_word).into();
        assert_eq!(listed, called.difference(&sent).cloned().collect());
    }

    #[test]
    fn a_submitter_may_append_and_publish() {
        let line = submitter("submit", Proof::None, 0);
        let expected = "user submit on nopass resetkeys resetchannels -@all %W~optimus:{0}:inbox \
            &optimus:{0}:notices +rpush +publish";
        assert_eq!(line, expected);
        assert!(submitter("mail", Proof::Password("x"), 3).ends_with(" +publish +select"));
    }

    #[test]
    fn debug_does_not_show_the_proof_of_a_user() {
        assert!(!format!("{:?}", Proof::Password("secret")).contains("secret"));
    }
}
