//! The machines' questions as calls of the spool, and its answers in the machines' terms.

use std::path::PathBuf;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, try_join_all};
use settings::failpoint;
use spool::{
    AgentKind, Arrived, CommitNumber, FencingToken, Left, Lost, LotNumber, NodeId, Refused,
    Registration, Spool, SpoolError, Supervised, Unfit, Unsent,
};
use std::time::Duration;

use super::Agent;
use super::outcomes::{
    tell_absents, tell_deferrals, tell_obeyed, tell_parks, tell_refusals, tell_settles,
    tell_uncommits,
};
use crate::lease::{LeaseAnswer, LeaseQuestion, Member};
use crate::mail::feeding::{FeedKey, OwnLot};
use crate::mail::report::{MailReport, Owned, Parking};
use crate::peer::Peer;
use crate::scheduler::Loss;
use crate::view::View;
use crate::{info, mail, scheduler};

/// The spool's client and the settings that the machines' questions need.
#[derive(Debug)]
pub struct SpoolExecutor {
    /// Client of the spool.
    pub spool: Spool,
    /// Term of a lease.
    pub term: Duration,
    /// Time for which a node must be away before its committed mail is sent again.
    pub node_loss_grace: Duration,
    /// Most messages that one of several nodes takes at once.
    pub window_shared: u32,
    /// Most messages in a lot.
    pub lot_size: u32,
    /// Address at which the agent answers rpc, as the directory has it.
    pub address: Option<String>,
    /// Configuration directory, where failpoints are looked for.
    pub config_directory: PathBuf,
}

/// Most ready lots in one view: more than one deal can assign.
const READY_LIMIT: u32 = 256;
/// Most lots of each lane in one look.
const LANE_LIMIT: u32 = 64;

impl SpoolExecutor {
    async fn lease(&self, question: LeaseQuestion) -> Result<LeaseAnswer, SpoolError> {
        match question {
            LeaseQuestion::Take { member, capacity, unfit, is_callable } => {
                let address = self.address.clone().filter(|_| is_callable);
                self.take(member, capacity, unfit, address).await
            }
            LeaseQuestion::Renew(Member { agent, generation, .. }) => {
                Ok(self.spool.renew(&agent, generation, self.term).await?.into())
            }
            LeaseQuestion::Leave(Member { agent, generation, .. }) => {
                Ok(match self.spool.leave(&agent, generation).await? {
                    Left::Left | Left::Already | Left::Superseded => LeaseAnswer::Left,
                })
            }
        }
    }

    async fn take(
        &self,
        member: Member,
        capacity: u32,
        unfit: Option<Unfit>,
        address: Option<String>,
    ) -> Result<LeaseAnswer, SpoolError> {
        let Member { agent, kind, generation, name } = member;
        let lease = self.term;
        let registration =
            Registration { agent, kind, generation, lease, name, capacity, address, unfit };
        Ok(self.spool.register(&registration).await?.into())
    }

    async fn see(&self) -> Result<View, SpoolError> {
        let (directory, overview) =
            tokio::try_join!(self.spool.directory(), self.spool.overview(READY_LIMIT))?;
        Ok(View::of(&directory, &overview, self.window_shared))
    }

    async fn watch(&self) -> Result<View, SpoolError> {
        self.spool.reap().await?;
        self.see().await
    }

    /// Assigns and cuts in one round trip. Redis keeps the order of commands that are sent
    /// together.
    async fn deal(&self, deal: info::Deal) -> Result<info::Dealt, SpoolError> {
        let assign = async {
            let answers = if deal.assign.is_empty() {
                Vec::new()
            } else {
                self.spool.assign(&deal.assign).await?
            };
            let is_there = |it: &&spool::Assigned| {
                matches!(it, spool::Assigned::Assigned(_) | spool::Assigned::Already(_))
            };
            Ok(answers.iter().filter(is_there).count())
        };
        let cut = |(lot, node): &(LotNumber, NodeId)| {
            let (spool, lot, node) = (&self.spool, *lot, node.clone());
            async move { spool.cut(lot, self.lot_size, Some(&node)).await }
        };
        let (assigned, cut) = tokio::try_join!(assign, try_join_all(deal.cut.iter().map(cut)))?;
        Ok(info::Dealt { assigned, cut })
    }

    /// Takes one slice of each lost node's mail: a Scheduler that took all of it at once would look
    /// after nobody meanwhile. The Scheduler looks again and asks for the rest.
    async fn rescue(&self, rescue: scheduler::Rescue) -> Result<scheduler::Rescued, SpoolError> {
        let mut rescued = scheduler::Rescued::default();
        for node in &rescue.reassign {
            rescued.lots += self.spool.reassign(node).await?;
        }
        for Loss { node, has_agent } in &rescue.lose {
            match self.spool.lose_slice(node, self.node_loss_grace, *has_agent).await? {
                (Lost::Lost(taken), _) => rescued.taken += taken,
                (Lost::Alive, _) => {
                    tracing::debug!(%node, "mail of a silent node not resent: the node lives");
                }
            }
        }
        Ok(rescued)
    }

    /// Reports in one round trip, with one fsync in Redis for all calls.
    async fn report(
        &self,
        token: &FencingToken,
        report: MailReport,
    ) -> Result<mail::MailAnswer, SpoolError> {
        let MailReport {
            commits,
            settles,
            uncommits,
            absents,
            mark,
            renames,
            obeyed,
            deferrals,
            refusals,
            parks,
        } = report;
        if !commits.is_empty() {
            failpoint::hit(&self.config_directory, "before-commit");
        }
        if !settles.is_empty() {
            failpoint::hit(&self.config_directory, "before-settle");
        }
        let (settled, obeyed_count, deferred) = (settles.len(), obeyed.len(), deferrals.len());
        tracing::debug!(
            committed = commits.len(),
            settled,
            obeyed = obeyed_count,
            deferred,
            refused = refusals.len(),
            "report to Redis sent"
        );
        let (has_commits, spool) = (!commits.is_empty(), &self.spool);
        let commits: Vec<_> = commits.into_iter().map(Into::into).collect();
        let placed = |(queue_id, id)| spool::Placed { queue_id, id };
        let settles: Vec<_> = settles.into_iter().map(placed).collect();
        let uncommits: Vec<_> = uncommits.into_iter().map(placed).collect();
        let absents: Vec<_> = absents.into_iter().map(placed).collect();
        let renames: Vec<_> = renames.into_iter().map(Into::into).collect();
        let obeyed: Vec<_> = obeyed
            .into_iter()
            .map(|(queue_id, id, act)| (spool::Placed { queue_id, id }, act))
            .collect();
        let deferrals: Vec<_> = deferrals
            .into_iter()
            .map(|(queue_id, id, rest)| spool::Deferral { queue_id, id, rest })
            .collect();
        let refuse = |(key, reason): &(FeedKey, String)| {
            let (&FeedKey { lot, epoch, id }, reason) = (key, reason.clone());
            async move { spool.refuse(token, id, (lot, epoch), &reason).await }
        };
        let park = |parking: &Parking| {
            let keys: Vec<_> = parking.keys.iter().map(|key| (*key).into()).collect();
            let to = parking.to.clone();
            async move { spool.park(token, &to, &keys).await }
        };
        // Renames come first: files are settled and deferred under their new names. Orders come
        // before the settlements that would end them. Commits come after settlements: a queue id
        // that comes again is free only after its first message's end.
        let (renamed, obeyings, settled, uncommitted, absent, committed, rests, refused, parked) =
            tokio::try_join!(
                spool.rename(token, &renames),
                spool.obey(token, &obeyed),
                spool.settle(token, &settles),
                spool.uncommit(token, Unsent::NeverReleased, &uncommits),
                spool.absent(token, mark, &absents),
                spool.commit_numbered(token, &commits),
                spool.defer(token, &deferrals),
                try_join_all(refusals.iter().map(refuse)),
                try_join_all(parks.iter().map(park)),
            )?;
        if has_commits {
            failpoint::hit(&self.config_directory, "after-commit");
        }
        let keys = refusals.iter().map(|(key, _)| *key).zip(&refused);
        let present = keys.filter(|(_, refused)| **refused == Refused::Present).map(|(key, _)| key);
        tell_obeyed(&obeyed, &obeyings);
        let has_unknown = tell_settles(&settles, &settled);
        tell_uncommits(&uncommits, &uncommitted);
        tell_absents(&absents, &absent);
        tell_deferrals(&deferrals, &rests);
        tell_refusals(refusals.iter().map(|(key, _)| key.id), &refused);
        let parked: Vec<_> = parked.into_iter().flatten().collect();
        tell_parks(parks.iter().flat_map(|it| &it.keys).map(|key| key.id), &parked);
        Ok(mail::MailAnswer::Reported {
            commits: committed.into_iter().map(Into::into).collect(),
            renames: renamed.into_iter().map(Into::into).collect(),
            present: present.collect(),
            has_unknown,
        })
    }
}

impl Agent for info::Info {
    fn ask(
        executor: Rc<SpoolExecutor>,
        question: info::InfoQuestion,
    ) -> LocalBoxFuture<'static, Result<info::InfoAnswer, SpoolError>> {
        async move {
            Ok(match question {
                info::InfoQuestion::Lease(question) => {
                    info::InfoAnswer::Lease(executor.lease(question).await?)
                }
                info::InfoQuestion::See => info::InfoAnswer::Seen(executor.see().await?),
                info::InfoQuestion::Deal(deal) => {
                    info::InfoAnswer::Dealt(executor.deal(deal).await?)
                }
            })
        }
        .boxed_local()
    }
}

impl Agent for scheduler::Scheduler {
    fn ask(
        executor: Rc<SpoolExecutor>,
        question: scheduler::SchedulerQuestion,
    ) -> LocalBoxFuture<'static, Result<scheduler::SchedulerAnswer, SpoolError>> {
        use scheduler::{SchedulerAnswer, SchedulerQuestion};
        async move {
            Ok(match question {
                SchedulerQuestion::Lease(question) => {
                    SchedulerAnswer::Lease(executor.lease(question).await?)
                }
                SchedulerQuestion::See => SchedulerAnswer::Seen(executor.watch().await?),
                SchedulerQuestion::Suspect(Peer { agent, start, taken, .. }) => {
                    let outcome = executor.spool.suspect(&agent, start, taken).await?;
                    SchedulerAnswer::Suspected(agent, outcome)
                }
                SchedulerQuestion::Supervise(changes) => {
                    let outcomes = executor.spool.supervise(&changes).await?;
                    let is_new = |it: &&Supervised| **it == Supervised::Supervised;
                    SchedulerAnswer::Supervised(outcomes.iter().filter(is_new).count())
                }
                SchedulerQuestion::Rescue(rescue) => {
                    SchedulerAnswer::Rescued(executor.rescue(rescue).await?)
                }
            })
        }
        .boxed_local()
    }
}

impl Agent for mail::Mail {
    fn ask(
        executor: Rc<SpoolExecutor>,
        question: mail::MailQuestion,
    ) -> LocalBoxFuture<'static, Result<mail::MailAnswer, SpoolError>> {
        async move {
            match executor.mail(question).await {
                Err(SpoolError::Superseded) => Ok(mail::MailAnswer::Superseded),
                answer => answer,
            }
        }
        .boxed_local()
    }
}

impl SpoolExecutor {
    async fn mail(&self, question: mail::MailQuestion) -> Result<mail::MailAnswer, SpoolError> {
        use mail::{MailAnswer, MailQuestion};
        Ok(match question {
            MailQuestion::Lease(question) => MailAnswer::Lease(self.lease(question).await?),
            MailQuestion::HandBack(token) => {
                self.spool.hand_back(&token).await.map(|_| MailAnswer::HandedBack)?
            }
            MailQuestion::Vouch(token) => self.vouch(&token).await?,
            MailQuestion::Inventory(token) => self.inventory(&token).await?,
            MailQuestion::Orders(token) => {
                MailAnswer::Orders(self.spool.orders_of(&token.node).await?)
            }
            MailQuestion::Fetch(token) => {
                let own = self.spool.fetch(&token).await?.into_iter();
                MailAnswer::Fetched(
                    own.map(|it| OwnLot { lot: it.lot, epoch: it.epoch, ids: it.ids }).collect(),
                )
            }
            MailQuestion::Report(token, report) => self.report(&token, report).await?,
            MailQuestion::Look(node) => self.look(&node).await?,
            MailQuestion::Pull(token, lots) => {
                self.spool.pull(&token, &lots).await.map(|_| MailAnswer::Pulled)?
            }
        })
    }

    /// Notes the time. The node's grace begins anew, as by any arrival.
    async fn vouch(&self, token: &FencingToken) -> Result<mail::MailAnswer, SpoolError> {
        Ok(match self.spool.arrive(token).await? {
            Arrived::Arrived | Arrived::Already => mail::MailAnswer::Vouched,
            Arrived::Superseded => mail::MailAnswer::Superseded,
        })
    }

    async fn look(&self, node: &NodeId) -> Result<mail::MailAnswer, SpoolError> {
        let (directory, lanes) =
            tokio::try_join!(self.spool.directory(), self.spool.lanes(LANE_LIMIT))?;
        let is_alone = directory.alive(AgentKind::Mail).len() <= 1;
        Ok(mail::MailAnswer::Looked {
            window: if is_alone { u32::MAX } else { self.window_shared },
            lanes,
            is_drained: directory.drained.contains_key(node),
        })
    }

    /// Takes the inventory. The arrival comes first: from then on only this agent changes what is
    /// committed to the node. Orders come last: each is for a message that was committed before.
    async fn inventory(&self, token: &FencingToken) -> Result<mail::MailAnswer, SpoolError> {
        if self.spool.arrive(token).await? == Arrived::Superseded {
            return Ok(mail::MailAnswer::Superseded);
        }
        let (placed, resting) = tokio::try_join!(
            self.spool.inventory_numbered(&token.node),
            self.spool.resting(&token.node)
        )?;
        let owned = |(it, number): (spool::Placed, CommitNumber)| {
            (it.queue_id, Owned { id: it.id, number })
        };
        let committed = placed.into_iter().map(owned).collect();
        let orders = self.spool.orders_of(&token.node).await?.into_iter();
        let stopped = orders.filter(|(_, act)| act.stops()).map(|(id, _)| id).collect();
        Ok(mail::MailAnswer::Inventory(mail::Inventory { committed, stopped, resting }))
    }
}
