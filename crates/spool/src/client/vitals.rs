//! What the server itself says of how it keeps data, for whoever checks a configuration, and for the log of whoever connects.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::cmd;
use tracing::{error, warn};

use super::{Spool, SpoolError};
use crate::Address;

/// How a Redis keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vitals {
    /// Its version, as `7.0.15`.
    pub version: String,
    /// Whether it writes an append-only file.
    pub append_only: bool,
    /// `always`, `everysec` or `no`; unknown where `CONFIG GET` is forbidden.
    pub append_fsync: Option<String>,
    /// Whether its last write of that file worked.
    pub last_write_ok: bool,
    /// What it evicts when memory is full; `noeviction` is nothing.
    pub eviction: String,
    /// The memory it may use, bytes; 0 is all.
    pub max_memory_bytes: u64,
    /// The memory it uses, bytes.
    pub used_memory_bytes: u64,
}

impl Vitals {
    /// What of it loses mail that was acknowledged: each by the name of the setting, if it is one.
    pub fn dangers(&self) -> Vec<String> {
        let fsync = self.append_fsync.as_deref().filter(|it| *it != "always");
        let eviction = Some(&self.eviction).filter(|it| *it != "noeviction");
        let found = [
            (!self.append_only).then(|| "appendonly is not yes: mail is lost when it ends".to_owned()),
            fsync.map(|it| format!("appendfsync is {it}, not always: mail is lost when the machine dies")),
            (!self.last_write_ok).then(|| "its last write of the append-only file failed".to_owned()),
            eviction.map(|it| {
                format!("maxmemory-policy is {it}, not noeviction: mail is thrown away when memory is full")
            }),
        ];
        found.into_iter().flatten().collect()
    }

    /// What may be a danger, and can't be told.
    pub fn doubt(&self) -> Option<&'static str> {
        self.append_fsync.is_none().then_some("appendfsync can't be read; make sure that it is always")
    }
}

impl Spool {
    /// How the server keeps its data. Changes nothing.
    pub async fn vitals(&self) -> Result<Vitals, SpoolError> {
        vitals(&mut self.connection.live().await?.1).await
    }
}

async fn vitals(live: &mut MultiplexedConnection) -> Result<Vitals, SpoolError> {
    let text: String = cmd("INFO").query_async(live).await?;
    let facts: HashMap<&str, &str> =
        text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let fact = |name: &str| facts.get(name).copied().unwrap_or_default();
    let number = |name: &str| fact(name).parse().unwrap_or_default();
    Ok(Vitals {
        version: fact("redis_version").to_owned(),
        append_only: fact("aof_enabled") == "1",
        append_fsync: setting(live, "appendfsync").await?,
        last_write_ok: fact("aof_last_write_status") == "ok",
        eviction: fact("maxmemory_policy").to_owned(),
        max_memory_bytes: number("maxmemory"),
        used_memory_bytes: number("used_memory"),
    })
}

/// One setting of the server; `None` where we may not ask.
async fn setting(live: &mut MultiplexedConnection, name: &str) -> Result<Option<String>, SpoolError> {
    let asked = cmd("CONFIG").arg("GET").arg(name).query_async::<HashMap<String, String>>(live).await;
    match asked.map_err(SpoolError::from) {
        Ok(mut values) => Ok(values.remove(name)),
        Err(SpoolError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Into the log, what whoever has just connected should know. It is no reason not to work: the mail that is there has to get out.
pub(super) async fn tell(server: &Address, live: &mut MultiplexedConnection) {
    match vitals(live).await {
        Ok(vitals) => {
            vitals.dangers().iter().for_each(|danger| error!(%server, "Redis: {danger}"));
            vitals.doubt().iter().for_each(|doubt| warn!(%server, "Redis: {doubt}"));
        }
        Err(error) => warn!(%server, %error, "Redis doesn't say how it keeps mail"),
    }
}
