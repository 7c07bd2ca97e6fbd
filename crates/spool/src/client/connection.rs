//! One shared connection, made again when it breaks.
//!
//! There is no connection, or one that worked when last used. A call that finds none makes one
//! (module `opening`), loads the function library, and logs settings by which this Redis may lose
//! mail. Other calls wait meanwhile. After a failed attempt the next attempt waits, twice as long
//! each time: daemons that simply call again must not flood a Redis that is down.
//!
//! ```text
//!        live ◀──── connect: resolve, master? ◀──── none ◀─┐
//!         │                     └──── failed, pause ───────┤
//!         └─ broken, refused by the server, demoted, frozen ┘
//! ```
//!
//! An error for the server's own reasons ends the connection: the server is a replica now, is
//! loading, full or busy, or has other rights. The name may lead to another server by now. A task
//! asks every [`WATCH`] whether the server still answers and is still the master: a daemon that is
//! idle or only reads would not notice the change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ConnectionAddr, FromRedisValue, RedisError, Value, from_redis_value};
use sansio::{Backoff, Throttle};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::error::Blame;
use super::identity::{Memory, meant_for};
use super::opening::{RECONNECT, RESPONSE_LIMIT, expect_master, open};
use super::{SpoolError, vitals, weakness};
use crate::Server;
use crate::library::{self, REVISION, SCHEMA};

/// Pause between two checks that an idle connection's server is still the master.
const WATCH: Duration = Duration::from_secs(2);
/// Time for which a lasting trouble is not logged again.
const QUIET: Duration = Duration::from_secs(60);
/// Attempts per call: the first may find the connection broken and the second the library missing.
const ATTEMPTS: u32 = 3;

/// Policy for a function library in Redis that differs from this program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    /// Loads this program's library, unless the one in Redis is as new.
    Load,
    /// Leaves the library alone: this connection only reads.
    Leave,
}

/// The function library that Redis has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LibraryState {
    /// Redis has this program's library.
    Ours,
    /// Redis has no library.
    Missing,
    /// Redis has the library of another version, whose functions may answer differently.
    Other {
        /// Version in Redis.
        loaded: String,
        /// Version of this program.
        ours: String,
    },
}

impl std::fmt::Display for LibraryState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ours => f.write_str("this OPTIMUS's"),
            Self::Missing => f.write_str("none"),
            Self::Other { loaded, ours } => write!(f, "another OPTIMUS's ({loaded}, here {ours})"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    server: Server,
    policy: Library,
    memory: Memory,
    slot: Mutex<Slot>,
    /// The error of the last attempt; `None` while there is a connection and before the first
    /// attempt.
    trouble: std::sync::Mutex<Option<SpoolError>>,
    /// Number of the live connection; 0 while there is none.
    current: watch::Sender<u64>,
    /// Whether the server has refused a call since the last success.
    refused: AtomicBool,
    histories: std::sync::Mutex<Histories>,
}

/// Count of the histories of data that this client has seen, one after another.
#[derive(Debug, Default)]
struct Histories {
    last: String,
    count: u64,
}

/// A connection that worked when last used.
#[derive(Clone)]
pub(super) struct Live {
    /// Number of the connection; a late error about an earlier connection must not end this one.
    pub(super) number: u64,
    pub(super) wire: MultiplexedConnection,
    /// Address of the server.
    pub(super) target: ConnectionAddr,
}

struct Slot {
    live: Option<Live>,
    made: u64,
    failed: Option<(Instant, SpoolError)>,
    backoff: Backoff,
    logged: Throttle<SpoolError>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("live", &self.live.is_some())
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(server: Server, policy: Library, memory: Memory) -> Self {
        let (backoff, logged) = (Backoff::new(RECONNECT), Throttle::new(QUIET));
        let slot = Slot { live: None, made: 0, failed: None, backoff, logged };
        let (current, refused) = (watch::Sender::new(0), AtomicBool::new(false));
        Self {
            server,
            policy,
            memory,
            slot: Mutex::new(slot),
            trouble: std::sync::Mutex::default(),
            current,
            refused,
            histories: std::sync::Mutex::default(),
        }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Runs a command that may be repeated; repeats it after an error that a new attempt may avoid.
    pub(super) async fn run<A: FromRedisValue>(
        self: &Arc<Self>,
        command: &Cmd,
    ) -> Result<A, SpoolError> {
        self.run_within(RESPONSE_LIMIT, command).await
    }

    /// Runs a command as [`Self::run`] does, with the given time limit for the answer.
    pub(super) async fn run_within<A: FromRedisValue>(
        self: &Arc<Self>,
        limit: Duration,
        command: &Cmd,
    ) -> Result<A, SpoolError> {
        let mut attempts_left = ATTEMPTS;
        loop {
            attempts_left -= 1;
            let mut live = self.live().await?;
            live.wire.set_response_timeout(limit);
            let named = meant_for(self.memory.spool(), command);
            let command = named.as_ref().unwrap_or(command);
            let error = match command.query_async::<Value>(&mut live.wire).await {
                Ok(value) => {
                    self.succeeded().await;
                    return from_redis_value(value)
                        .map_err(|error| SpoolError::Malformed(error.to_string()));
                }
                Err(error) => error,
            };
            let again = match self.policy {
                Library::Load if is_missing_library(&error) => {
                    ensure_library(&mut live.wire).await?;
                    true
                }
                Library::Leave if is_missing_library(&error) => return Err(SpoolError::NoLibrary),
                _ => self.failed(live.number, &error).await,
            };
            if !again || attempts_left == 0 {
                return Err(error.into());
            }
        }
    }

    async fn succeeded(&self) {
        if self.refused.swap(false, Ordering::Relaxed) {
            self.slot.lock().await.backoff.succeeded();
        }
    }

    /// Ends the connection if the call may succeed on another one. Returns whether to try the call
    /// again at once.
    async fn failed(&self, number: u64, error: &RedisError) -> bool {
        match Blame::of(error) {
            Blame::Call => false,
            // A timeout ends the connection too: the other machine may have died without closing
            // it.
            Blame::Connection => {
                self.end(number, &error.clone().into(), None).await;
                !error.is_timeout()
            }
            Blame::Server { may_be_another } => {
                self.refused.store(true, Ordering::Relaxed);
                self.end(number, &error.clone().into(), Some(Instant::now())).await;
                may_be_another
            }
        }
    }

    /// Returns the state of the function library in Redis.
    pub(super) async fn library(self: &Arc<Self>) -> Result<LibraryState, SpoolError> {
        library_of(&mut self.live().await?.wire).await
    }

    /// Returns the connection, or makes one.
    pub(super) async fn live(self: &Arc<Self>) -> Result<Live, SpoolError> {
        let asked = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some(live) = &slot.live {
            return Ok(live.clone());
        }
        if let Some((when, error)) = &slot.failed {
            // The lock's earlier holder has just failed to connect, and a second attempt would too.
            if *when >= asked {
                return Err(error.clone());
            }
            if let Some(until) = slot.backoff.until() {
                sleep_until(until.into()).await;
            }
        }
        match self.connect().await {
            Ok((wire, target)) => Ok(self.connected(&mut slot, wire, target)),
            Err(error) => {
                slot.pause_after(Instant::now(), &error);
                self.note_trouble(&mut slot, &error);
                Err(error)
            }
        }
    }

    fn connected(
        self: &Arc<Self>,
        slot: &mut Slot,
        wire: MultiplexedConnection,
        target: ConnectionAddr,
    ) -> Live {
        slot.made += 1;
        slot.failed = None;
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if !self.refused.load(Ordering::Relaxed) {
            slot.backoff.succeeded();
            slot.logged.forget();
            info!(
                server = %self.server.address,
                address = %target,
                connection = slot.made,
                "connected to Redis",
            );
        }
        let live = Live { number: slot.made, wire, target };
        self.current.send_replace(live.number);
        tokio::spawn(watch(Arc::downgrade(self), live.number));
        slot.live.insert(live).clone()
    }

    /// Returns the number of histories of data seen: a server that was restarted or promoted may
    /// lack writes of the server before.
    pub(super) fn histories(&self) -> u64 {
        self.histories.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    fn note_history(&self, history: String) {
        let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        if histories.last != history {
            histories.last = history;
            histories.count += 1;
        }
    }

    async fn connect(&self) -> Result<(MultiplexedConnection, ConnectionAddr), SpoolError> {
        let (mut wire, target) = open(&self.server).await?;
        match self.policy {
            Library::Load => {
                ensure_library(&mut wire).await?;
                self.memory.expect(&mut wire).await?;
                weakness::tell(&self.server.address, &mut wire).await;
                self.note_history(vitals::history(&mut wire).await?);
            }
            Library::Leave => (),
        }
        Ok((wire, target))
    }

    /// Ends the connection of this number, unless that connection has ended before. With
    /// `pause_from`, the next attempt to connect waits.
    async fn end(&self, number: u64, error: &SpoolError, pause_from: Option<Instant>) {
        let mut slot = self.slot.lock().await;
        if slot.live.as_ref().is_none_or(|live| live.number != number) {
            return;
        }
        slot.live = None;
        self.current.send_replace(0);
        self.note_trouble(&mut slot, error);
        if let Some(now) = pause_from {
            slot.pause_after(now, error);
        }
    }

    /// Checks that the server is still the master, and holds the same spool and functions that this
    /// program knows. A later version may have loaded its own, whose answers mean something else.
    async fn look(&self, live: &mut Live) -> Result<(), SpoolError> {
        expect_master(&mut live.wire, &live.target).await?;
        match self.policy {
            Library::Load => {
                ensure_library(&mut live.wire).await?;
                self.memory.expect(&mut live.wire).await
            }
            Library::Leave => Ok(()),
        }
    }

    /// Ends the connection of this number, because another connection to its server broke.
    pub(super) async fn broke(&self, number: u64) {
        self.end(number, &SpoolError::Unavailable("the connection was closed".to_owned()), None)
            .await;
    }

    /// Returns the error that keeps this client from connecting; `None` while it is connected.
    pub(super) fn trouble(&self) -> Option<SpoolError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_trouble(&self, slot: &mut Slot, error: &SpoolError) {
        slot.tell(&self.server, error);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
    }

    /// Makes a connection whenever there is none. Never returns.
    pub(super) async fn stay(self: &Arc<Self>) {
        loop {
            if let Ok(live) = self.live().await {
                self.ended(live.number).await;
            }
        }
    }

    /// Waits until the connection of this number has ended.
    pub(super) async fn ended(&self, number: u64) {
        // The sender is a field of `self`, so it can't be gone.
        let _ = self.current.subscribe().wait_for(|current| *current != number).await;
    }

    /// Returns the connection of this number, unless that connection has ended.
    async fn numbered(&self, number: u64) -> Option<Live> {
        self.slot.lock().await.live.clone().filter(|live| live.number == number)
    }
}

/// Ends a connection whose server no longer answers, is no longer the master, or holds another
/// spool.
async fn watch(connection: Weak<Connection>, number: u64) {
    loop {
        sleep(WATCH).await;
        let Some(connection) = connection.upgrade() else { return };
        let Some(mut live) = connection.numbered(number).await else { return };
        if let Err(error) = connection.look(&mut live).await {
            connection.end(number, &error, None).await;
            return;
        }
    }
}

impl Slot {
    fn pause_after(&mut self, now: Instant, error: &SpoolError) {
        self.backoff.failed(now.into_std());
        self.failed = Some((now, error.clone()));
    }

    /// Logs a failure to connect once, and again from time to time while it lasts.
    fn tell(&mut self, server: &Server, error: &SpoolError) {
        if self.logged.admits(Instant::now().into_std(), error) {
            warn!(server = %server.address, %error, "connection to Redis failed");
        }
    }
}

fn is_missing_library(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("Function not found"))
}

async fn library_of(live: &mut MultiplexedConnection) -> Result<LibraryState, SpoolError> {
    let ours = library::library_version();
    match redis::cmd("FCALL").arg("optimus_version").arg(0).query_async::<String>(live).await {
        Ok(loaded) if loaded == ours => Ok(LibraryState::Ours),
        Ok(loaded) => Ok(LibraryState::Other { loaded, ours }),
        Err(error) if is_missing_library(&error) => Ok(LibraryState::Missing),
        Err(error) => Err(error.into()),
    }
}

/// Loads this program's library, unless Redis has one of the same schema and at least its revision.
async fn ensure_library(live: &mut MultiplexedConnection) -> Result<(), SpoolError> {
    let (loaded, ours) = match library_of(live).await? {
        LibraryState::Ours => return Ok(()),
        LibraryState::Missing => return load_library(live).await,
        LibraryState::Other { loaded, ours } => (loaded, ours),
    };
    match library::rank(&loaded) {
        (schema, _) if schema > SCHEMA => Err(SpoolError::Newer { loaded, ours }),
        rank if rank < (SCHEMA, REVISION) => load_library(live).await,
        _ => Ok(()),
    }
}

async fn load_library(live: &mut MultiplexedConnection) -> Result<(), SpoolError> {
    let mut command = redis::cmd("FUNCTION");
    let _: String =
        command.arg("LOAD").arg("REPLACE").arg(library::library()).query_async(live).await?;
    info!(version = library::library_version(), "function library loaded into Redis");
    Ok(())
}
