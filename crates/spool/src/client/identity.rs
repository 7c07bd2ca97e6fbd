//! Identity of the spool that a process serves.
//!
//! The spool has an identity, a ULID that the first client stores in Redis. A process learns the
//! identity at its first connection, and remembers it in a file of its Postfix instance. From then
//! on each call names the spool, and Redis refuses a call for another spool. So the first call
//! notices a Redis that was emptied, swapped or replaced. Such a Redis decides nothing: everything
//! waits until the right Redis is back or the operator accepts the new one.
//!
//! | the file | Redis | |
//! |---|---|---|
//! | nothing | nothing | a new identity is made, in Redis first |
//! | nothing | a spool | Redis's spool is remembered |
//! | a spool | the same | served |
//! | a spool | another, or none | [`SpoolError::OtherSpool`] until either changes |
//!
//! A Redis restored from an older copy is the same spool at an earlier time. The file also has the
//! highest lot number that was seen. A spool whose number is lower has lost the changes since. The
//! loss is logged and counted (`rewound`), and the number is raised, so that no lot number is given
//! out twice.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use durable::TextFile;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, cmd};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::SpoolError;
use crate::keys::SHARD;
use crate::{LotNumber, SpoolId};

const MODE: u32 = 0o640;
/// Time for which a higher lot number may wait to be written to the file.
const LOT_PAUSE: Duration = Duration::from_secs(10);

/// A spool, and the highest lot number seen in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    spool: SpoolId,
    lot: LotNumber,
}

impl Known {
    fn write(self, file: &Path) -> io::Result<()> {
        TextFile::at(file, MODE).replace(&format!("{} {}", self.spool, self.lot))
    }
}

/// Memory of a process about its spool.
#[derive(Debug)]
pub(super) struct Memory {
    file: Option<PathBuf>,
    state: Mutex<IdentityState>,
    /// Held while the file is written.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct IdentityState {
    known: Option<Known>,
    /// Content of the file, and the time of its writing.
    written: Option<(Known, Instant)>,
    has_warned: bool,
}

impl Memory {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { file, state: Mutex::default(), writing: tokio::sync::Mutex::default() }
    }

    /// Returns the spool that calls are meant for; `None` before the first connection.
    pub(super) fn spool(&self) -> Option<SpoolId> {
        self.locked().known.map(|known| known.spool)
    }

    /// Checks that the server holds the remembered spool; if none is remembered, remembers the
    /// server's spool.
    pub(super) async fn expect(&self, wire: &mut MultiplexedConnection) -> Result<(), SpoolError> {
        let known = self.recall()?;
        let (own, lot, missing) = identify(wire, known).await?;
        let spool = match (known, own) {
            (Some(known), Some(own)) if known.spool == own => {
                tell_rewound(own, missing);
                own
            }
            (None, Some(own)) => {
                info!(spool = %own, "identity of the spool remembered");
                own
            }
            (Some(known), found) => return Err(self.other(known.spool, found)),
            (None, None) => {
                return Err(SpoolError::Malformed("the spool has no identity".to_owned()));
            }
        };
        self.note(Known { spool, lot }).await;
        Ok(())
    }

    /// Notes a lot number that was seen in the spool. Between two connections only these numbers
    /// show the spool's progress.
    pub(super) fn saw(&self, lot: LotNumber) {
        if let Some(known) = &mut self.locked().known {
            known.lot = known.lot.max(lot);
        }
    }

    fn other(&self, expected: SpoolId, found: Option<SpoolId>) -> SpoolError {
        let file = self.file.as_ref().map_or_else(String::new, |file| file.display().to_string());
        SpoolError::OtherSpool { expected, found, file }
    }

    /// Returns the known spool, from the file first: `optimus accept-spool` writes another spool to
    /// the file.
    fn recall(&self) -> Result<Option<Known>, SpoolError> {
        let mut state = self.locked();
        if let Some(known) = self.file.as_deref().map_or(Ok(None), read)? {
            let lot = state
                .known
                .filter(|it| it.spool == known.spool)
                .map_or(known.lot, |it| it.lot.max(known.lot));
            state.known = Some(Known { lot, ..known });
        }
        Ok(state.known)
    }

    /// Remembers a spool. The file is synced by another thread: a disk may take a second, in which
    /// an agent must answer probes.
    async fn note(&self, known: Known) {
        self.locked().known = Some(known);
        let Some(file) = self.file.clone() else { return };
        // The later one of two writers is right.
        let _one = self.writing.lock().await;
        let is_known = self.spool() == Some(known.spool);
        if !is_known || self.is_written(known) {
            return;
        }
        let write = spawn_blocking(move || known.write(&file)).await;
        let mut state = self.locked();
        match write.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => state.written = Some((known, Instant::now())),
            // The first pickup-rs makes the folder.
            Err(error) if error.kind() == ErrorKind::NotFound => (),
            Err(error) if !state.has_warned => {
                state.has_warned = true;
                let file = self.file.as_deref().unwrap_or(Path::new(""));
                warn!(file = %file.display(), %error, "identity of the spool not written");
            }
            Err(_) => (),
        }
    }

    fn is_written(&self, known: Known) -> bool {
        self.locked().written.as_ref().is_some_and(|(it, when)| {
            it.spool == known.spool && (it.lot == known.lot || when.elapsed() < LOT_PAUSE)
        })
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, IdentityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell_rewound(spool: SpoolId, missing: u64) {
    if missing > 0 {
        error!(
            %spool, lots = missing,
            "Redis was found in an earlier state of this spool: mail submitted since may be lost, \
                mail sent since may be sent twice; see \"Which Redis\" in docs/architecture.md"
        );
    }
}

/// Returns the spool's identity, its last lot number, and the number of lots by which that was
/// below the known one. A spool without an identity gets one if none is known.
async fn identify(
    wire: &mut MultiplexedConnection,
    known: Option<Known>,
) -> Result<(Option<SpoolId>, LotNumber, u64), SpoolError> {
    let random = |error: getrandom::Error| SpoolError::of_random_numbers(error);
    let candidate =
        if known.is_none() { SpoolId::new().map_err(random)?.to_string() } else { String::new() };
    let expected = known.map_or_else(String::new, |known| known.spool.to_string());
    let mut command = cmd("FCALL");
    command.arg("optimus_identify").arg(1).arg(SHARD).arg("");
    command.arg(expected).arg(candidate).arg(known.map_or(LotNumber(0), |known| known.lot));
    let (own, lot, missing): (String, LotNumber, u64) = command.query_async(wire).await?;
    let own =
        if own.is_empty() { None } else { Some(own.parse().map_err(|error| malformed(&error))?) };
    Ok((own, lot, missing))
}

fn malformed(error: &crate::IdError) -> SpoolError {
    SpoolError::Malformed(error.to_string())
}

/// Returns the call with the spool as its second key, so that Redis refuses the call if it holds
/// another spool.
pub(super) fn meant_for(spool: Option<SpoolId>, command: &Cmd) -> Option<Cmd> {
    let spool = spool?;
    let words: Vec<&[u8]> = command
        .args_iter()
        .map(|word| match word {
            redis::Arg::Simple(word) => word,
            _ => b"",
        })
        .collect();
    let [b"FCALL", name, b"1", prefix, rest @ ..] = &words[..] else { return None };
    if *prefix != SHARD.as_bytes() {
        return None;
    }
    let mut named = cmd("FCALL");
    named.arg(*name).arg(2).arg(*prefix).arg(format!("{SHARD}spool:{spool}")).arg(rest);
    Some(named)
}

/// Returns the spool that this file remembers, if there is one.
pub fn remembered(file: &Path) -> Result<Option<SpoolId>, SpoolError> {
    Ok(read(file)?.map(|known| known.spool))
}

fn read(file: &Path) -> Result<Option<Known>, SpoolError> {
    let remedy = "let mail_owner read the file";
    let failed = |error: io::Error| SpoolError::of_file(file, "can't be read", &error, remedy);
    let Some(text) = TextFile::at(file, MODE).read().map_err(failed)? else { return Ok(None) };
    let (spool, lot) = text.split_once(' ').unwrap_or((&text, "0"));
    let wrong = |error| {
        SpoolError::Host(format!(
            "{}: not understood: {error}; run `optimus accept-spool` to make the file anew",
            file.display()
        ))
    };
    Ok(Some(Known { spool: spool.parse().map_err(wrong)?, lot: lot.parse().map_err(wrong)? }))
}

impl super::Spool {
    /// Makes `file` remember the spool in this Redis, in place of any other. A Redis without a
    /// spool gets one. The processes of the instance read the file again by themselves.
    pub async fn accept(&self, file: &Path) -> Result<SpoolId, SpoolError> {
        let mut live = self.connection.live().await?;
        let (own, lot, _) = identify(&mut live.wire, None).await?;
        let spool =
            own.ok_or_else(|| SpoolError::Malformed("the spool has no identity".to_owned()))?;
        let remedy = "see to the folder and its disk, and run the command again";
        let failed =
            |error: io::Error| SpoolError::of_file(file, "can't be written", &error, remedy);
        Known { spool, lot }.write(file).map_err(failed)?;
        Ok(spool)
    }

    /// Returns the identity of the spool in this Redis, if there is one. Changes nothing.
    pub async fn identity(&self) -> Result<Option<SpoolId>, SpoolError> {
        self.connection.run(cmd("GET").arg(format!("{SHARD}spool"))).await
    }

    /// Returns the spool that this client serves; `None` before the first connection.
    pub fn served(&self) -> Option<SpoolId> {
        self.connection.memory().spool()
    }
}
