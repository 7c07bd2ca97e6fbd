//! What the server itself says of how it keeps data, for whoever checks a configuration.

use std::collections::HashMap;

use redis::{Cmd, cmd};

use super::{Spool, SpoolError};

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

impl Spool {
    /// How the server keeps its data. Changes nothing.
    pub async fn vitals(&self) -> Result<Vitals, SpoolError> {
        let text: String = self.connection.run(&cmd("INFO")).await?;
        let facts: HashMap<&str, &str> =
            text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let fact = |name: &str| facts.get(name).copied().unwrap_or_default();
        let number = |name: &str| fact(name).parse().unwrap_or_default();
        Ok(Vitals {
            version: fact("redis_version").to_owned(),
            append_only: fact("aof_enabled") == "1",
            append_fsync: self.setting("appendfsync").await?,
            last_write_ok: fact("aof_last_write_status") == "ok",
            eviction: fact("maxmemory_policy").to_owned(),
            max_memory_bytes: number("maxmemory"),
            used_memory_bytes: number("used_memory"),
        })
    }

    /// One setting of the server; `None` where we may not ask.
    async fn setting(&self, name: &str) -> Result<Option<String>, SpoolError> {
        let mut command: Cmd = cmd("CONFIG");
        match self.connection.run::<HashMap<String, String>>(command.arg("GET").arg(name)).await {
            Ok(mut values) => Ok(values.remove(name)),
            Err(SpoolError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
