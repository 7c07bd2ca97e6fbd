//! Facts and settings of the server that decide how it keeps data, for `optimus check` and for the
//! log of a connecting daemon. [`super::weakness`] judges them.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use redis::cmd;

use super::{Spool, SpoolError};
use crate::keys;

/// Names of the settings that [`Vitals`] has.
const SETTINGS: &[&str] = &[
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "aof-load-truncated",
    "auto-aof-rewrite-percentage",
    "save",
    "stop-writes-on-bgsave-error",
    "min-replicas-to-write",
    "replica-read-only",
    "timeout",
    "maxclients",
    "maxmemory-clients",
    "proto-max-bulk-len",
    "client-query-buffer-limit",
    "client-output-buffer-limit",
    "dir",
];

/// Facts and settings of a Redis that keeps mail: its answers to `INFO` and `CONFIG GET`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Facts by name, such as `redis_version` -> `7.0.15`.
    pub info: BTreeMap<String, String>,
    /// Settings by name, such as `appendfsync` -> `always`; empty where `CONFIG GET` is forbidden.
    pub settings: BTreeMap<String, String>,
}

impl Vitals {
    /// Returns a fact; empty where the server doesn't name it.
    pub fn fact(&self, name: &str) -> &str {
        self.info.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Returns a fact that is a number; 0 where the server doesn't name it.
    pub fn number(&self, name: &str) -> u64 {
        self.fact(name).parse().unwrap_or_default()
    }

    /// Returns a setting; `None` where the server doesn't tell it.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }
}

impl Spool {
    /// Returns the number of servers to which calls have gone, one after another; 0 before the
    /// first connection. A server that was restarted or promoted counts as another one, since it
    /// may lack decisions of the server before.
    pub fn servers(&self) -> u64 {
        self.connection.histories()
    }

    /// Returns the server's facts and settings about keeping data. Changes nothing.
    pub async fn vitals(&self) -> Result<Vitals, SpoolError> {
        vitals(&mut self.connection.live().await?.wire).await
    }

    /// Returns the keys of earlier schemas that Redis has, each with its name in this schema.
    /// Changes nothing.
    pub async fn earlier_keys(&self) -> Result<Vec<(&'static str, &'static str)>, SpoolError> {
        let mut found = Vec::new();
        for (earlier, name) in keys::EARLIER {
            if self.connection.run(cmd("EXISTS").arg(earlier)).await? {
                found.push((earlier, name));
            }
        }
        Ok(found)
    }
}

pub(super) async fn vitals(live: &mut MultiplexedConnection) -> Result<Vitals, SpoolError> {
    Ok(Vitals { info: facts(live).await?, settings: settings(live).await? })
}

async fn facts(live: &mut MultiplexedConnection) -> Result<BTreeMap<String, String>, SpoolError> {
    let text: String = cmd("INFO").query_async(live).await?;
    let facts = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    Ok(facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Returns the names of this run of the server and of the history of its data.
pub(super) async fn history(live: &mut MultiplexedConnection) -> Result<String, SpoolError> {
    let facts = facts(live).await?;
    let fact = |name| facts.get(name).map(String::as_str).unwrap_or_default();
    Ok(format!("{} {}", fact("run_id"), fact("master_replid")))
}

/// Returns the settings that [`super::weakness`] reads; none if this user may not ask.
async fn settings(
    live: &mut MultiplexedConnection,
) -> Result<BTreeMap<String, String>, SpoolError> {
    let asked = cmd("CONFIG").arg("GET").arg(SETTINGS).query_async(live).await;
    match asked.map_err(SpoolError::from) {
        Err(SpoolError::Refused(_)) => Ok(BTreeMap::new()),
        answer => answer,
    }
}
