//! Open requests, and the times when their limits pass.
//!
//! Most requests are replied to long before their limit. So the limits are in a heap from which
//! none is removed early. The heap is swept when most of its limits belong to ended requests. Most
//! limits are equally long, so adding one is a push at the heap's end.

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
pub(super) struct OpenRequest {
    /// Token that is cancelled when no caller awaits the reply any more.
    pub(super) token: CancellationToken,
    /// Whether the request has ended or was detached, so that dropping it abandons nothing.
    settled: AtomicBool,
}

impl OpenRequest {
    pub(super) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }
}

#[derive(Debug, Default)]
pub(super) struct OpenRequests {
    requests: HashMap<RequestId, Arc<OpenRequest>>,
    limits: BinaryHeap<Reverse<(Time, RequestId)>>,
}

impl OpenRequests {
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn ids(&self) -> Vec<RequestId> {
        self.requests.keys().copied().collect()
    }

    pub(super) fn insert(&mut self, id: RequestId, limit: Time) -> Arc<OpenRequest> {
        let request = Arc::<OpenRequest>::default();
        self.requests.insert(id, request.clone());
        self.limits.push(Reverse((limit, id)));
        request
    }

    /// Removes a request that has ended.
    pub(super) fn remove(&mut self, id: RequestId) -> Option<Arc<OpenRequest>> {
        let request = self.requests.remove(&id)?;
        if self.limits.len() > 2 * self.requests.len() + STALE {
            self.limits.retain(|Reverse((_, id))| self.requests.contains_key(id));
        }
        Some(request)
    }

    /// Removes a limit that has passed, and returns its request, which stays open though no caller
    /// waits for it.
    pub(super) fn pop(&mut self, now: Time) -> Option<Arc<OpenRequest>> {
        while let Some(Reverse((limit, id))) = self.limits.peek() {
            let request = self.requests.get(id);
            if request.is_some() && *limit > now {
                return None;
            }
            let request = request.cloned();
            self.limits.pop();
            if request.is_some() {
                return request;
            }
        }
        None
    }

    /// Returns the time of the next limit, which may belong to an ended request.
    pub(super) fn next(&self) -> Option<Time> {
        self.limits.peek().map(|Reverse((limit, _))| *limit)
    }
}
