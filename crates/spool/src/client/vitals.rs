//! What the server itself says of how it keeps data, for an operator who checks a configuration,
//! and for the log of a daemon that connects. [`super::weakness`] judges it.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use redis::cmd;
use tracing::{error, warn};

use super::weakness::{self, Effect, Weakness};
use super::{Spool, SpoolError};
use crate::Address;

/// How a Redis keeps its data: its answers to `INFO` and `CONFIG GET`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Facts by name, as `redis_version` -> `7.0.15`.
    pub info: BTreeMap<String, String>,
    /// Settings by name, as `appendfsync` -> `always`. Empty where `CONFIG GET` is forbidden.
    pub settings: BTreeMap<String, String>,
}

impl Vitals {
    /// A fact; empty where the server does not name it.
    pub fn fact(&self, name: &str) -> &str {
        self.info.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A fact that is a number; 0 where the server does not name it.
    pub fn number(&self, name: &str) -> u64 {
        self.fact(name).parse().unwrap_or_default()
    }

    /// A setting; `None` where the server does not tell it.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Each way in which this server weakens a guarantee, the worst first.
    pub fn weaknesses(&self) -> Vec<Weakness> {
        weakness::of(self)
    }
}

impl Spool {
    /// How the server keeps its data. Changes nothing.
    pub async fn vitals(&self) -> Result<Vitals, SpoolError> {
        vitals(&mut self.connection.live().await?.wire).await
    }
}

async fn vitals(live: &mut MultiplexedConnection) -> Result<Vitals, SpoolError> {
    let text: String = cmd("INFO").query_async(live).await?;
    let facts = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    let info = facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(Vitals { info, settings: settings(live).await? })
}

/// The settings that [`weakness`] looks at; none where we may not ask.
async fn settings(
    live: &mut MultiplexedConnection,
) -> Result<BTreeMap<String, String>, SpoolError> {
    let asked = cmd("CONFIG").arg("GET").arg(weakness::SETTINGS).query_async(live).await;
    match asked.map_err(SpoolError::from) {
        Err(SpoolError::Refused(_)) => Ok(BTreeMap::new()),
        answer => answer,
    }
}

/// Logs what an operator must know of a server that was just connected to. The daemon works on all
/// the same: the mail that is there has to get out.
pub(super) async fn tell(server: &Address, live: &mut MultiplexedConnection) {
    match vitals(live).await {
        Ok(vitals) => vitals.weaknesses().iter().for_each(|it| match it.effect {
            Effect::LosesMail => error!(%server, "Redis: {it}"),
            Effect::Unknown => warn!(%server, "Redis: {it}"),
            // `optimus check` tells it; it is no news at each connection.
            Effect::StopsMail => (),
        }),
        Err(error) => warn!(%server, %error, "Redis doesn't say how it keeps mail"),
    }
}
