//! The node attends: says in Redis what its disk proves.
//!
//! While files are released the mark rises, and Redis is told once a [`BEAT`]. Before an inventory
//! the node attends as well, after it was asked: so what the disk's absence of files proves is
//! known for the disk that is looked through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use spool::{CommitNumber, NodeId, Spool, SpoolError};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::mark::Mark;

/// How often the disk is synced and Redis told, while there is something to tell.
const BEAT: Duration = Duration::from_secs(1);

/// Asks the node to attend.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bell(Arc<Rings>);

#[derive(Debug, Default)]
struct Rings {
    count: AtomicU64,
    notify: Notify,
}

impl Bell {
    /// Rings. The node has attended after this once it tells of a ring that is as late.
    pub(crate) fn ring(&self) -> u64 {
        let ring = self.0.count.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.notify.notify_one();
        ring
    }

    fn rings(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }
}

/// What a node learns when it attends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attended {
    /// The last ring before it.
    pub(crate) ring: u64,
    /// The last commit before the disk was put back.
    pub(crate) floor: CommitNumber,
}

/// Attends for as long as this is awaited, and tells whenever it has.
pub(crate) async fn attend(node: NodeId, spool: Spool, mark: Arc<Mark>, bell: Bell, tell: impl Fn(Attended)) {
    let mut last = None;
    loop {
        let rings = bell.rings();
        if last != Some((rings, mark.get())) {
            match attend_once(&node, &spool, &mark).await {
                Ok((floor, told)) => {
                    last = Some((rings, told));
                    tell(Attended { ring: rings, floor });
                }
                Err(error) if error.is_retryable() => debug!("not attended: {error}"),
                Err(error) => warn!("{error}"),
            }
        }
        // The bell or the beat, whichever comes first.
        let _ = timeout(BEAT, async {
            match last {
                Some((rings, _)) if rings == bell.rings() => bell.0.notify.notified().await,
                _ => sleep(BEAT).await,
            }
        })
        .await;
    }
}

async fn attend_once(
    node: &NodeId,
    spool: &Spool,
    mark: &Arc<Mark>,
) -> Result<(CommitNumber, CommitNumber), SpoolError> {
    let disk = mark.clone();
    let synced = tokio::task::spawn_blocking(move || disk.sync()).await;
    let synced = synced.map_err(std::io::Error::other).and_then(|synced| synced);
    let synced = synced.map_err(|error| SpoolError::Unavailable(format!("the mark: sync: {error}")))?;
    Ok((spool.attend(node, synced).await?, synced))
}
