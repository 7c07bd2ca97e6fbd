//! Open requests, and the times when their limits pass.
//!
//! Most requests are replied to long before their limit. So limits are kept in a heap from which
//! nothing is removed early. It is swept when most of it belongs to ended requests. Most limits are
//! equally long, so adding one is a push at the heap's end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::Time;
use crate::server::RequestId;

/// Number of ended requests' limits that may stay in the heap, beyond one for each open request.
const STALE: usize = 64;

/// State of a request that the server and the service share.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Ends when no reply is awaited any more.
    pub(super) token: CancellationToken,
    /// Whether dropping the request means nothing.
    settled: AtomicBool,
}

impl Life {
    pub(super) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }
}

#[derive(Debug, Default)]
pub(super) struct Open {
    lives: HashMap<RequestId, Arc<Life>>,
    limits: BinaryHeap<Reverse<(Time, RequestId)>>,
}

impl Open {
    pub(super) fn is_empty(&self) -> bool {
        self.lives.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.lives.len()
    }

    pub(super) fn ids(&self) -> Vec<RequestId> {
        self.lives.keys().copied().collect()
    }

    pub(super) fn insert(&mut self, id: RequestId, limit: Time) -> Arc<Life> {
        let life = Arc::<Life>::default();
        self.lives.insert(id, life.clone());
        self.limits.push(Reverse((limit, id)));
        life
    }

    /// Removes a request that has ended.
    pub(super) fn remove(&mut self, id: RequestId) -> Option<Arc<Life>> {
        let life = self.lives.remove(&id)?;
        if self.limits.len() > 2 * self.lives.len() + STALE {
            self.limits.retain(|Reverse((_, id))| self.lives.contains_key(id));
        }
        Some(life)
    }

    /// Removes a limit that has passed, and returns its request, which stays open though no caller
    /// waits for it.
    pub(super) fn pop(&mut self, now: Time) -> Option<Arc<Life>> {
        while let Some(Reverse((limit, id))) = self.limits.peek() {
            let life = self.lives.get(id);
            if life.is_some() && *limit > now {
                return None;
            }
            let life = life.cloned();
            self.limits.pop();
            if life.is_some() {
                return life;
            }
        }
        None
    }

    /// Returns the time when the next limit passes, or has passed for a request that has ended.
    pub(super) fn next(&self) -> Option<Time> {
        self.limits.peek().map(|Reverse((limit, _))| *limit)
    }
}
