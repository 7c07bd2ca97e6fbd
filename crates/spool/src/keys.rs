//! Names of keys and of the channel in Redis, for tests and tools that read Redis directly.
//!
//! The head of `optimus.lua` says what each key holds. The braces are Redis Cluster's hash tag.

use std::fmt::Display;

/// Prefix of all keys of shard 0, and the key with which each function is called.
pub const SHARD: &str = "optimus:{0}:";

/// Inbox: the list to which submission appends.
pub const INBOX: &str = "optimus:{0}:inbox";

/// Channel of notices.
pub const NOTICES: &str = "optimus:{0}:notices";

/// Lifetime counters by event name: a hash.
pub const COUNTS: &str = "optimus:{0}:counts";

/// Ids in quarantine: a sorted set.
pub const QUARANTINE: &str = "optimus:{0}:quarantine";

/// Number of the newest lot.
pub const LAST_LOT: &str = "optimus:{0}:lots:next";

/// Pattern of the keys of all messages.
pub const MESSAGES: &str = "optimus:{0}:m:*";

/// Pattern of the keys of all nodes' orders.
pub const ORDERS: &str = "optimus:{0}:node:*:orders";

/// Prefix of all keys of the directory, which all shards share.
pub const DIRECTORY: &str = "optimus:{dir}:";

/// Leases of all agents: a sorted set.
pub const LEASES: &str = "optimus:{dir}:leases";

/// Keys of earlier schemas that may hold mail, each with its name in this schema. No function reads
/// these keys.
pub const EARLIER: [(&str, &str); 3] = [
    ("optimus:{0}:corrupt", QUARANTINE),
    ("optimus:{0}:corrupt:why", "optimus:{0}:quarantine:why"),
    ("optimus:{0}:strange", "optimus:{0}:malformed"),
];

/// Returns the key of a message.
pub fn message(id: impl Display) -> String {
    format!("{SHARD}m:{id}")
}

/// Returns the key of the mail that a node has committed.
pub fn mail_of(node: impl Display) -> String {
    format!("{SHARD}node:{node}:mail")
}

/// Returns the key of what is known of a node, its Mail Agent and its pickup-rs.
pub fn agent_of(node: impl Display) -> String {
    format!("{SHARD}node:{node}:agent")
}

/// Returns the call of a function of the library, as words for `redis-cli`.
pub fn call<'a>(function: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["FCALL", function, "1", SHARD], arguments].concat()
}
