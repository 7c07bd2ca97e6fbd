//! The bus over Redis's publish/subscribe.

use std::time::Duration;

use spool::{AgentId, Publication, Publications, Spool};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{Heard, Notice, NoticeBus, NoticeError};

/// A bus over Redis's publish/subscribe, where submitters, `cut` and `assign` publish, too.
pub struct RedisNotices {
    feed: Publications,
    spool: Spool,
    everyone: AgentId,
    telling: JoinSet<()>,
}

/// Longest time for which an ending agent waits until its last notices are sent.
const LAST_NOTICES: Duration = Duration::from_secs(1);

impl RedisNotices {
    /// Makes a bus over this Redis. Must be used in a `LocalSet`.
    pub fn new(spool: Spool) -> Self {
        let everyone =
            "everyone".parse().unwrap_or_else(|_| unreachable!("a plain word is a name"));
        Self { feed: spool.publications(), spool, everyone, telling: JoinSet::new() }
    }
}

impl NoticeBus for RedisNotices {
    async fn next(&mut self) -> Heard {
        loop {
            match heard(self.feed.next().await) {
                Ok(heard) => return heard,
                Err(error) => tracing::debug!(%error, "notice not understood"),
            }
        }
    }

    fn tell(&mut self, notice: &Notice) {
        while self.telling.try_join_next().is_some() {}
        let (spool, text) = (self.spool.clone(), notice.to_string());
        let to = match notice {
            Notice::Fetch(node) => node.clone().into(),
            Notice::Inbox
            | Notice::Cut(_)
            | Notice::Ready(_)
            | Notice::Assigned(..)
            | Notice::Ordered(_)
            | Notice::Credit(_)
            | Notice::Born(..)
            | Notice::Left(..) => self.everyone.clone(),
        };
        self.telling.spawn_local(async move {
            if let Err(error) = spool.tell(&to, &text).await {
                tracing::debug!(%error, notice = text, "notice not sent");
            }
        });
    }

    async fn finish(&mut self) {
        let all = async { while self.telling.join_next().await.is_some() {} };
        let _ = timeout(LAST_NOTICES, all).await;
    }
}

/// Returns the input that a publication stands for. Agents publish their notices as text.
fn heard(publication: Publication) -> Result<Heard, NoticeError> {
    Ok(Heard::Notice(match publication {
        Publication::Resubscribed => return Ok(Heard::Listening),
        Publication::Inbox => Notice::Inbox,
        Publication::Cut(lot) => Notice::Cut(lot),
        Publication::Ready(lot) => Notice::Ready(lot),
        Publication::Assigned(node, lot) => Notice::Assigned(node, lot),
        Publication::Ordered(node) => Notice::Ordered(node),
        Publication::Told(_, text) => text.parse()?,
    }))
}
