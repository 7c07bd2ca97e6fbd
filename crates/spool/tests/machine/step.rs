//! Steps of a run: a call with all its arguments, on the model or on Redis.

use std::time::Duration;

use spool::model::Model;
use spool::{
    Act, AgentId, Commit, CommitNumber, Deferral, Domain, Epoch, FencingToken, Generation,
    LotNumber, MessageId, MessagePlace, NodeId, Placed, Registration, Rename, SpoolError, Start,
    Supervision, Tenured,
};

/// One call.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Submit(MessageId),
    SubmitMalformed,
    Disown(MessageId),
    Cut(LotNumber, u32, Option<NodeId>),
    Tidy,
    Assign(Vec<(LotNumber, NodeId)>),
    Pull(FencingToken, Vec<LotNumber>),
    Commit(FencingToken, Vec<Commit>),
    Park(FencingToken, Domain, Vec<Tenured>),
    Settle(FencingToken, Vec<Placed>),
    Uncommit(FencingToken, Vec<Placed>),
    Attend(NodeId, CommitNumber),
    Absent(FencingToken, CommitNumber, Vec<Placed>),
    Rename(FencingToken, Vec<Rename>),
    Defer(FencingToken, Vec<Deferral>),
    Refuse(FencingToken, MessageId, (LotNumber, Epoch), String),
    Obey(FencingToken, Vec<(Placed, Act)>),
    Operate(Act, Vec<(MessageId, MessagePlace)>),
    Retry(Vec<MessageId>),
    Drop(Vec<MessageId>),
    Reassign(NodeId),
    HandBack(FencingToken),
    Arrive(FencingToken),
    /// Whether the node's Mail Agent lives comes last.
    Lose(NodeId, Duration, bool),
    Register(Registration),
    Renew(AgentId, Generation, Duration),
    Leave(AgentId, Generation),
    Drain(NodeId),
    Undrain(NodeId),
    Suspect(AgentId, Start, u64),
    Supervise(Vec<Supervision>),
    Reap,
    /// The function library is lost; clients load it again.
    FlushFunctions,
}

impl Step {
    /// Returns whether a repetition changes nothing. A second submission adds a copy, and a second
    /// cut may make the lot that the first could not make.
    pub(crate) fn is_repeatable(&self, answer: &str) -> bool {
        let adds = matches!(self, Self::Submit(_) | Self::SubmitMalformed);
        !adds && !answer.starts_with("Nothing")
    }

    /// Carries the step out on the model. Returns the answer as text.
    pub(crate) fn on_model(&self, model: &mut Model) -> String {
        self.tried_on_model(model).unwrap_or_else(|error| format!("{error:?}"))
    }

    fn tried_on_model(&self, model: &mut Model) -> Result<String, SpoolError> {
        Ok(match self {
            Self::Submit(id) => {
                model.submit(*id);
                String::new()
            }
            Self::SubmitMalformed => {
                model.submit_malformed();
                String::new()
            }
            Self::FlushFunctions => String::new(),
            Self::Disown(id) => text(&model.disown(*id)),
            Self::Cut(lot, size, node) => text(&model.cut(*lot, *size, node.as_ref())),
            Self::Tidy => text(&model.tidy()),
            Self::Assign(lots) => text(&model.assign(lots)),
            Self::Pull(token, lots) => text(&model.pull(token, lots)?),
            Self::Commit(token, list) => text(&model.commit_numbered(token, list)?),
            Self::Park(token, to, list) => text(&model.park(token, to, list)?),
            Self::Settle(token, list) => text(&model.settle(token, list)?),
            Self::Uncommit(token, list) => text(&model.uncommit(token, list)?),
            Self::Attend(node, mark) => text(&model.attend(node, *mark)),
            Self::Absent(token, mark, list) => text(&model.absent(token, *mark, list)?),
            Self::Rename(token, list) => text(&model.rename(token, list)?),
            Self::Defer(token, list) => text(&model.defer(token, list)?),
            Self::Refuse(token, id, tenure, why) => text(&model.refuse(token, *id, *tenure, why)?),
            Self::Obey(token, list) => text(&model.obey(token, list)?),
            Self::Operate(act, list) => text(&model.operate(*act, list)),
            Self::Retry(ids) => text(&model.retry_quarantined(ids)),
            Self::Drop(ids) => text(&model.drop_quarantined(ids)),
            Self::Reassign(node) => text(&model.reassign(node)),
            Self::HandBack(token) => text(&model.hand_back(token)?),
            Self::Arrive(token) => text(&model.arrive(token)),
            Self::Lose(node, grace, has_agent) => text(&model.lose(node, *grace, *has_agent)),
            Self::Register(registration) => text(&model.register(registration)),
            Self::Renew(agent, generation, term) => text(&model.renew(agent, *generation, *term)),
            Self::Leave(agent, generation) => text(&model.leave(agent, *generation)),
            Self::Suspect(agent, start, taken) => text(&model.suspect(agent, *start, *taken)),
            Self::Supervise(changes) => text(&model.supervise(changes)),
            Self::Drain(node) => text(&model.drain(node)),
            Self::Undrain(node) => text(&model.undrain(node)),
            Self::Reap => text(&model.reap()),
        })
    }
}

pub(crate) fn text(answer: &impl std::fmt::Debug) -> String {
    format!("{answer:?}")
}
