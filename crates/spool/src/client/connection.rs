//! One shared connection that comes back.
//!
//! States: none, or one that worked when last used. Whoever finds none makes one, makes sure of the function library, and has
//! it logged when this Redis may lose mail, while the others wait for that. A failed attempt makes the next one wait, twice as long each time, so that
//! daemons that simply call again don't hammer a Redis that is down.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, Value, from_redis_value,
};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::{SpoolError, vitals};
use crate::library::{self, REVISION, SCHEMA};
use crate::{Address, Server};

const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Longer than the crate's half second: an fsync of a busy disk may take that. Shorter than half a lease of the default length.
const RESPONSE_LIMIT: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A call that finds its connection broken and then the library missing is tried for the third time.
const ATTEMPTS: u32 = 3;

/// What to do about a function library that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    /// Load ours, unless that in Redis is as new.
    Load,
    /// Nothing: this connection only looks.
    Leave,
}

/// Which function library Redis has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LibraryState {
    /// Ours.
    Ours,
    /// None.
    Missing,
    /// That of another version, whose functions may answer something else than we expect.
    Other {
        /// Its version.
        loaded: String,
        /// Ours.
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
    slot: Mutex<Slot>,
}

struct Slot {
    /// With the number of the connection, so that only the one who broke it is dropped.
    live: Option<(u64, MultiplexedConnection)>,
    made: u64,
    failed: Option<(Instant, SpoolError)>,
    pause: Duration,
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
    pub(super) fn new(server: Server, policy: Library) -> Self {
        let slot = Slot { live: None, made: 0, failed: None, pause: FIRST_PAUSE };
        Self { server, policy, slot: Mutex::new(slot) }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Runs a command that may be repeated, and repeats it where that helps at once.
    pub(super) async fn run<A: FromRedisValue>(&self, command: &Cmd) -> Result<A, SpoolError> {
        self.run_within(RESPONSE_LIMIT, command).await
    }

    /// The same, with a limit of its own for the answer.
    pub(super) async fn run_within<A: FromRedisValue>(
        &self,
        limit: Duration,
        command: &Cmd,
    ) -> Result<A, SpoolError> {
        let mut attempts_left = ATTEMPTS;
        loop {
            attempts_left -= 1;
            let (number, mut live) = self.live().await?;
            live.set_response_timeout(limit);
            let error = match command.query_async::<Value>(&mut live).await {
                Ok(value) => {
                    return from_redis_value(value).map_err(|error| SpoolError::Corrupt(error.to_string()));
                }
                Err(error) => error,
            };
            let again = match self.policy {
                Library::Load if is_missing_library(&error) => {
                    ensure_library(&mut live).await?;
                    true
                }
                Library::Leave if is_missing_library(&error) => return Err(SpoolError::NoLibrary),
                _ => self.forget_if_broken(number, &error).await && !error.is_timeout(),
            };
            if !again || attempts_left == 0 {
                return Err(error.into());
            }
        }
    }

    /// Which function library Redis has.
    pub(super) async fn library(&self) -> Result<LibraryState, SpoolError> {
        library_of(&mut self.live().await?.1).await
    }

    /// The connection, and its number.
    pub(super) async fn live(&self) -> Result<(u64, MultiplexedConnection), SpoolError> {
        let asked = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some(live) = &slot.live {
            return Ok(live.clone());
        }
        if let Some((when, error)) = &slot.failed {
            // Whoever held the lock before has just found out for us too.
            if *when >= asked {
                return Err(error.clone());
            }
            sleep_until(*when + slot.pause).await;
        }
        let outcome = self.connect().await;
        slot.note(&self.server, outcome)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, SpoolError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_LIMIT))
            .set_response_timeout(Some(RESPONSE_LIMIT));
        let client = client(&self.server)?;
        let mut live = client.get_multiplexed_async_connection_with_config(&config).await?;
        match self.policy {
            Library::Load => {
                ensure_library(&mut live).await?;
                vitals::tell(&self.server.address, &mut live).await;
            }
            Library::Leave => (),
        }
        Ok(live)
    }

    /// Drops a connection that won't answer any more. A timeout counts: the other machine may be gone without a word.
    async fn forget_if_broken(&self, number: u64, error: &RedisError) -> bool {
        let broken = error.is_io_error() || error.is_unrecoverable_error();
        let mut slot = self.slot.lock().await;
        if broken && slot.live.as_ref().is_some_and(|(live, _)| *live == number) {
            slot.live = None;
        }
        broken
    }
}

impl Slot {
    fn note(
        &mut self,
        server: &Server,
        outcome: Result<MultiplexedConnection, SpoolError>,
    ) -> Result<(u64, MultiplexedConnection), SpoolError> {
        match outcome {
            Ok(live) => {
                self.made += 1;
                (self.failed, self.pause) = (None, FIRST_PAUSE);
                info!(server = %server.address, connection = self.made, "connected to Redis");
                Ok(self.live.insert((self.made, live)).clone())
            }
            Err(error) => {
                warn!(server = %server.address, %error, "no connection to Redis");
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                self.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

/// The crate's form of a server.
pub(super) fn client(server: &Server) -> Result<Client, SpoolError> {
    let address = match &server.address {
        Address::Unix(path) => ConnectionAddr::Unix(path.clone()),
        Address::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
    };
    let mut login = RedisConnectionInfo::default().set_db(server.database.into()).set_skip_set_lib_name();
    if let Some(user) = &server.user {
        login = login.set_username(user);
    }
    if let Some(password) = password_of(server)? {
        login = login.set_password(password);
    }
    let info: ConnectionInfo = address.into_connection_info()?;
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    Ok(Client::open(info.set_redis_settings(login).set_tcp_settings(tcp))?)
}

fn password_of(server: &Server) -> Result<Option<String>, SpoolError> {
    let Some(path) = &server.password_file else { return Ok(server.password.clone()) };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().next().map(str::to_owned)),
        Err(error) => {
            let text = format!("password of user {:?}: {}: {error}", server.user, path.display());
            let is_to_come = error.kind() == std::io::ErrorKind::NotFound;
            Err(if is_to_come { SpoolError::Unavailable(text) } else { SpoolError::Refused(text) })
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

/// Ours, or one that is as good: of our schema, and no earlier.
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
    let _: String = command.arg("LOAD").arg("REPLACE").arg(library::library()).query_async(live).await?;
    info!(version = library::library_version(), "function library loaded into Redis");
    Ok(())
}
