//! Consequences for a file when Redis has decided about its commit.

use postfix_wire::QueueId;
use spool::MessageId;

use super::super::feeding::FeedKey;
use super::super::report::{Commit, Committed, HandoffOutcome};
use super::{End, Ledger, Undecided};

/// Consequence of a decision about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The file moves to the queue manager.
    Release(QueueId),
    /// The file is deleted.
    Discard(QueueId),
    /// A comparison must find out first what became of the earlier file of this name.
    Compare,
    /// No file changes.
    Nothing,
}

impl Ledger {
    /// Takes the decision of Redis about this file, and returns its consequence.
    pub(crate) fn decided(&mut self, commit: Commit, outcome: Committed) -> Verdict {
        if let Committed::Ours(number) | Committed::Ordered(number) = outcome {
            self.numbers.heard(number);
        }
        if !self.is_open(&commit) {
            return Verdict::Nothing;
        }
        if outcome == Committed::Occupied {
            tracing::warn!(queue_id = %commit.queue_id, id = %commit.key.id, "queue id \
                belonged to another message; comparison due");
            self.occupied.push(commit);
            return Verdict::Compare;
        }
        let file = match commit.how {
            HandoffOutcome::Consumed => None,
            HandoffOutcome::Held | HandoffOutcome::Stored => {
                self.undecided.remove(&commit.queue_id)
            }
        };
        let is_with_postfix =
            file.as_ref().is_some_and(|it| it.how == HandoffOutcome::Stored && it.end.is_none());
        if outcome.is_refusal() && is_with_postfix {
            self.foreign.insert(commit.queue_id.clone(), commit.key.id);
        }
        match outcome {
            Committed::Ours(_) => self.committed(commit, file.as_ref()),
            Committed::Ordered(_) => self.ordered(commit, file.as_ref()),
            Committed::Fenced | Committed::Settled => not_ours(commit, outcome),
            Committed::Occupied => unreachable!("set aside above"),
            Committed::Unknown => {
                let Commit { queue_id, key, .. } = commit;
                tracing::error!(%queue_id, id = %key.id, "queue file left alone: message \
                    unknown to Redis");
                Verdict::Nothing
            }
        }
    }

    /// Takes a commit to this node. `file` is the file as the ledger knew it, if there is one.
    fn committed(&mut self, commit: Commit, file: Option<&Undecided>) -> Verdict {
        let Commit { key, queue_id, how } = commit;
        let Some(&Undecided { end: None, rest, .. }) = file else {
            match how {
                _ if file.is_some_and(|file| file.end == Some(End::Unproven)) => {
                    self.waiting.absents.push((queue_id, key.id));
                }
                HandoffOutcome::Held => self.waiting.uncommits.push((queue_id, key.id)),
                HandoffOutcome::Stored | HandoffOutcome::Consumed => {
                    self.waiting.settles.push((queue_id, key.id));
                }
            }
            return Verdict::Nothing;
        };
        if let Some(rest) = rest {
            self.waiting.deferrals.push((queue_id.clone(), key.id, rest));
        }
        self.tracked.insert(queue_id.clone(), key.id);
        self.check(&queue_id, key.id);
        match how {
            HandoffOutcome::Held => Verdict::Release(queue_id),
            HandoffOutcome::Stored | HandoffOutcome::Consumed => Verdict::Nothing,
        }
    }

    /// Whether Redis has refused to commit this file, which the queue manager has.
    pub(crate) fn is_foreign(
        &self,
        queue_id: &QueueId,
        id: MessageId,
        how: HandoffOutcome,
    ) -> bool {
        how == HandoffOutcome::Stored && self.foreign.get(queue_id) == Some(&id)
    }

    /// Takes a commit of a message with an operator's order. A file that the queue manager has
    /// can't be withdrawn.
    fn ordered(&mut self, commit: Commit, file: Option<&Undecided>) -> Verdict {
        if commit.how == HandoffOutcome::Held && file.is_some_and(|it| it.end.is_none()) {
            _ = self.withdraw(commit.queue_id, commit.key.id);
            return Verdict::Nothing;
        }
        self.committed(commit, file)
    }
}

fn not_ours(commit: Commit, outcome: Committed) -> Verdict {
    let Commit { key: FeedKey { id, lot, epoch }, queue_id, how } = commit;
    match how {
        HandoffOutcome::Held => {
            tracing::info!(%queue_id, %id, %lot, %epoch, ?outcome, "prepared file discarded");
            Verdict::Discard(queue_id)
        }
        HandoffOutcome::Stored | HandoffOutcome::Consumed => {
            tracing::warn!(
                %queue_id, %id, %lot, %epoch, commit = ?outcome, handoff = ?how,
                "commit refused after the hand-off; message may be sent twice"
            );
            Verdict::Nothing
        }
    }
}
