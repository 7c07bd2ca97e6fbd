//! A model of one node's pickup-rs and Postfix: queue files, and replies on the hand-off socket.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use agents::mail::feeding::FeedKey;
use handoff::protocol::{
    FolderKind, Handoff, NewName, Ordered, Proof, QueuedFile, Reply, Request, Served,
};
use postfix_wire::QueueId;
use spool::{Act, CommitNumber, Domain, MessageId, NodeId, Unfit};

/// Domains that a message may go to.
pub(crate) const DESTINATIONS: u64 = 4;

/// Returns the destination of this number.
pub(crate) fn destination(n: u64) -> Domain {
    format!("d{n}").parse().expect("a domain")
}

/// Returns the one or two destinations of a message, which its id determines.
pub(crate) fn destinations(id: MessageId) -> Vec<Domain> {
    let bits = id.random_bits() as u64;
    let (one, other) = (bits % DESTINATIONS, bits / DESTINATIONS % (4 * DESTINATIONS));
    let mut all = vec![destination(one)];
    all.extend((other < DESTINATIONS && other != one).then(|| destination(other)));
    all
}

#[derive(Debug, Clone)]
struct QueueFile {
    key: FeedKey,
    place: FolderKind,
    /// Whether pickup-rs watches the file, and so will report its end.
    watched: bool,
    /// Whether its name differs from the one it was made under.
    has_another_name: bool,
}

/// End of a message at this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Delivered.
    Delivered,
    /// Consumed by content rules.
    Consumed,
    /// Deleted by an operator's order.
    Deleted,
}

#[derive(Debug)]
pub(crate) struct Postfix {
    pub node: NodeId,
    pub is_up: bool,
    /// Whether the host is gone for good, with its disk.
    pub is_lost: bool,
    /// Number of the last connection; replies to earlier connections are lost.
    pub connection: u64,
    pub is_connected: bool,
    fed: VecDeque<(FeedKey, Vec<Domain>)>,
    /// Whether all of the node but its Mail Agent is stopped, as by SIGSTOP, and the requests that
    /// wait meanwhile.
    is_frozen: bool,
    waiting: Vec<Request>,
    /// Whether cleanup can write no file.
    pub is_full: bool,
    /// Whether the queue manager is stopped.
    pub is_manager_frozen: bool,
    /// Cause that the Mail Agent was last told.
    told: Option<Unfit>,
    /// Destination that accepts no mail.
    pub stuck: Option<Domain>,
    /// Messages in cleanup processes, which outlive pickup-rs.
    in_cleanup: Vec<FeedKey>,
    pub cleanups: usize,
    pub handoff: Handoff,
    /// Whether messages are refused for a while now and then.
    pub may_refuse: bool,
    /// Percentage of scans that fail, and the number of scans that get no answer.
    pub failing_scans: u64,
    pub lost_scans: u64,
    scans: u64,
    files: BTreeMap<QueueId, QueueFile>,
    /// Mark on the node's disk.
    pub mark: CommitNumber,
    /// Whether an earlier state of the disk was put back.
    pub was_put_back: bool,
    /// Kept copy of the disk.
    kept: Option<(BTreeMap<QueueId, QueueFile>, CommitNumber)>,
    /// Floor by the last answer of Redis.
    pub floor: CommitNumber,
    next_queue_id: u64,
    /// Damaged messages, which pickup-rs refuses for good.
    pub damaged: BTreeSet<MessageId>,
    pub unwanted: BTreeSet<MessageId>,
    /// Ends of messages, in order.
    pub fates: Vec<(MessageId, Fate)>,
    /// Releases that the world has not checked yet.
    pub released: Vec<(QueueId, MessageId)>,
    pub all_released: Vec<MessageId>,
    /// Replies for the connected agent.
    pub replies: Vec<Reply>,
}

impl Postfix {
    pub(crate) fn new(node: NodeId, cleanups: usize) -> Self {
        Self {
            node,
            is_up: true,
            is_lost: false,
            connection: 0,
            is_connected: false,
            fed: VecDeque::new(),
            is_frozen: false,
            waiting: Vec::new(),
            is_full: false,
            is_manager_frozen: false,
            told: None,
            stuck: None,
            in_cleanup: Vec::new(),
            cleanups,
            handoff: Handoff::Hold,
            may_refuse: true,
            failing_scans: 0,
            lost_scans: 0,
            scans: 0,
            files: BTreeMap::new(),
            mark: CommitNumber(0),
            was_put_back: false,
            kept: None,
            floor: CommitNumber(0),
            next_queue_id: 0,
            damaged: BTreeSet::new(),
            unwanted: BTreeSet::new(),
            fates: Vec::new(),
            released: Vec::new(),
            all_released: Vec::new(),
            replies: Vec::new(),
        }
    }

    pub(crate) fn connect(&mut self) -> bool {
        if self.is_up {
            self.disconnect();
            self.connection += 1;
            self.is_connected = true;
        }
        self.is_up
    }

    /// Ends the connection, and forgets messages that no cleanup has yet.
    pub(crate) fn disconnect(&mut self) {
        self.is_connected = false;
        self.fed.clear();
        self.waiting.clear();
        self.replies.clear();
    }

    pub(crate) fn kill_pickup(&mut self) {
        self.is_up = false;
        self.disconnect();
        self.files.values_mut().for_each(|file| file.watched = false);
    }

    pub(crate) fn freeze(&mut self) {
        self.is_frozen = true;
    }

    /// Lets the node go on. All that waited happens now.
    pub(crate) fn thaw(&mut self) {
        self.is_frozen = false;
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().for_each(|request| self.request(request));
    }

    /// Returns the cause that probes find.
    fn unfit(&self) -> Option<Unfit> {
        let has_mail = self.files.values().any(|file| file.place == FolderKind::Queued);
        match () {
            () if self.is_full => Some(Unfit::Room),
            () if self.is_manager_frozen && has_mail => Some(Unfit::Manager),
            () => None,
        }
    }

    /// Tells the Mail Agent of another cause.
    fn tell_cause(&mut self) {
        if self.is_connected && self.unfit() != self.told {
            self.request(Request::Ping);
        }
    }

    /// Keeps a copy of the disk.
    pub(crate) fn keep(&mut self) {
        self.kept = Some((self.files.clone(), self.mark));
    }

    pub(crate) fn put_back(&mut self) {
        if let Some((files, mark)) = self.kept.clone() {
            (self.files, self.mark) = (files, mark);
            self.was_put_back = true;
            self.files.values_mut().for_each(|file| file.watched = false);
            self.in_cleanup.clear();
        }
    }

    pub(crate) fn request(&mut self, request: Request) {
        if self.is_frozen {
            return self.waiting.push(request);
        }
        match request {
            Request::Ping => self.pong(),
            Request::Feed { lot, epoch, ids, full } => {
                self.fed
                    .extend(ids.into_iter().map(|id| (FeedKey { lot, epoch, id }, full.clone())));
            }
            Request::Release { queue_ids, mark } => {
                self.mark = self.mark.max(mark);
                self.release(queue_ids);
            }
            Request::Discard { queue_ids } => {
                queue_ids.iter().for_each(|it| {
                    if self.files.get(it).is_some_and(|file| file.place == FolderKind::Prepared) {
                        self.files.remove(it);
                    }
                });
                self.say(Reply::Discarded { queue_ids });
            }
            Request::Operate { act, messages } => self.operate(act, messages),
            Request::Inventory => self.inventory(),
            Request::NewNode { .. } => unreachable!("only operators ask for that"),
        }
    }

    fn pong(&mut self) {
        self.told = self.unfit();
        self.say(Reply::Pong {
            node: self.node.to_string(),
            handoff: self.handoff,
            cleanups: self.cleanups,
            spool: None,
            trouble: None,
            waits: None,
            pause: None,
            unfit: self.told,
            served: Served::Here,
        });
    }

    fn release(&mut self, queue_ids: Vec<QueueId>) {
        for queue_id in &queue_ids {
            if let Some(file) =
                self.files.get_mut(queue_id).filter(|file| file.place == FolderKind::Prepared)
            {
                file.place = FolderKind::Queued;
                file.watched = true;
                self.released.push((queue_id.clone(), file.key.id));
                self.all_released.push(file.key.id);
            }
        }
        self.say(Reply::Released { queue_ids });
    }

    fn operate(&mut self, act: Act, messages: Vec<Ordered>) {
        let (mut done, mut absent, mut renamed) = (Vec::new(), Vec::new(), Vec::new());
        let mut released = Vec::new();
        for Ordered { queue_id, id } in messages {
            match self.files.get(&queue_id).filter(|it| it.key.id == id).map(|it| it.place) {
                None => absent.push(queue_id),
                Some(FolderKind::Prepared) => {
                    self.say(Reply::Error { reason: "not released yet".to_owned() });
                }
                Some(FolderKind::OnHold) if act == Act::Release => {
                    let now = self.release_from_hold(&queue_id);
                    renamed.push(NewName { was: queue_id, now: now.clone() });
                    released.push(now.clone());
                    done.push(now);
                }
                Some(_) => {
                    self.operate_one(act, &queue_id, id);
                    done.push(queue_id);
                }
            }
        }
        self.say(Reply::Operated { act, done, absent, renamed });
        for queue_id in released {
            self.say(Reply::Deferred { queue_id, next_attempt_s: 1 });
        }
    }

    fn new_queue_id(&mut self) -> QueueId {
        self.next_queue_id += 1;
        format!("{:X}", 0x1000_0000_0000 + self.next_queue_id).parse().expect("a queue id")
    }

    /// Moves a file from hold to deferred under a new name, since the queue manager may remember
    /// the old one.
    fn release_from_hold(&mut self, queue_id: &QueueId) -> QueueId {
        let now = self.new_queue_id();
        let file = self.files.remove(queue_id).expect("it is there");
        let file = QueueFile { place: FolderKind::Deferred, has_another_name: true, ..file };
        self.files.insert(now.clone(), file);
        now
    }

    /// Carries out an act on a file that is not prepared. Stock pickup delivers requeued mail at
    /// once.
    fn operate_one(&mut self, act: Act, queue_id: &QueueId, id: MessageId) {
        let fate = if act == Act::Delete { Fate::Deleted } else { Fate::Delivered };
        match act {
            Act::Delete | Act::Requeue => {
                self.files.remove(queue_id);
                self.fates.push((id, fate));
                self.say(Reply::Settled { queue_id: queue_id.clone() });
            }
            Act::Hold => {
                self.files.get_mut(queue_id).expect("it is there").place = FolderKind::OnHold;
                self.say(Reply::OnHold { queue_id: queue_id.clone() });
            }
            // A release changes no file outside of hold.
            Act::Release => (),
        }
    }

    fn inventory(&mut self) {
        self.scans += 1;
        if self.lost_scans > 0 {
            self.lost_scans -= 1;
            return;
        }
        // The count of scans decides, in place of random numbers; 37 spreads the failures.
        if self.scans * 37 % 100 < self.failing_scans {
            return self.say(Reply::Error { reason: "the queue can't be read".to_owned() });
        }
        let (mut listed, mut renamed) = (Vec::new(), Vec::new());
        for (queue_id, file) in &mut self.files {
            let FeedKey { lot, epoch, id } = file.key;
            let next_attempt_s = (file.place == FolderKind::Deferred).then_some(1);
            let list = if file.has_another_name { &mut renamed } else { &mut listed };
            list.push(QueuedFile {
                id,
                lot,
                epoch,
                queue_id: queue_id.clone(),
                place: file.place,
                next_attempt_s,
                to: destinations(id),
            });
            file.watched |= file.place != FolderKind::Prepared;
        }
        // The list comes in two replies, as a long one does.
        let rest = listed.split_off(listed.len() / 2);
        let proof = Proof { mark: self.mark, floor: self.floor };
        for (files, proof, complete) in [(listed, Proof::default(), false), (rest, proof, true)] {
            let (renamed, unreadable) = (std::mem::take(&mut renamed), Vec::new());
            self.say(Reply::Inventory { files, renamed, unreadable, proof, complete });
        }
    }

    fn say(&mut self, reply: Reply) {
        if self.is_connected {
            self.replies.push(reply);
        }
    }

    /// Takes one step: pickup-rs feeds a message to cleanup, or a cleanup process ends one.
    pub(crate) fn step(&mut self, choice: u64, can_read: bool) {
        if self.is_lost || self.is_frozen {
            return;
        }
        self.tell_cause();
        if self.is_up && can_read && self.in_cleanup.len() < self.cleanups {
            if let Some((key, full)) = self.fed.pop_front() {
                return self.take_up(key, &full);
            }
        }
        if !self.in_cleanup.is_empty() {
            let key = self.in_cleanup.remove(choice as usize % self.in_cleanup.len());
            self.finish(key, choice);
        }
    }

    fn take_up(&mut self, key: FeedKey, full: &[Domain]) {
        let to = destinations(key.id);
        if !self.damaged.contains(&key.id) && to.iter().all(|it| full.contains(it)) {
            let FeedKey { lot, epoch, id } = key;
            self.say(Reply::Full { id, lot, epoch, to });
        } else {
            self.in_cleanup.push(key);
        }
    }

    fn finish(&mut self, key: FeedKey, choice: u64) {
        let FeedKey { lot, epoch, id } = key;
        let again = self.may_refuse && choice % 16 == 0;
        let again = again || self.is_full;
        if self.damaged.contains(&id) || again {
            let reason = if again { "disk full" } else { "checksum" }.to_owned();
            return self.say(Reply::Refused { id, lot, epoch, reason, retry: again });
        }
        let queue_id = self.new_queue_id();
        if self.unwanted.contains(&id) {
            self.fates.push((id, Fate::Consumed));
            return self.say(Reply::Consumed { id, lot, epoch, queue_id });
        }
        let to = destinations(id);
        let (place, reply) = match self.handoff {
            Handoff::Hold => (
                FolderKind::Prepared,
                Reply::Held { id, lot, epoch, queue_id: queue_id.clone(), to },
            ),
            Handoff::Direct => (
                FolderKind::Queued,
                Reply::Stored { id, lot, epoch, queue_id: queue_id.clone(), to },
            ),
        };
        let watched = self.handoff == Handoff::Direct && self.is_connected;
        self.files.insert(queue_id, QueueFile { key, place, watched, has_another_name: false });
        self.say(reply);
    }

    /// Has the queue manager deliver or defer one of its files.
    pub(crate) fn manage(&mut self, choice: u64) {
        if self.is_lost || self.is_frozen || self.is_manager_frozen {
            return;
        }
        let queued: Vec<QueueId> = self
            .files
            .iter()
            .filter(|(_, it)| !matches!(it.place, FolderKind::Prepared | FolderKind::OnHold))
            .map(|(queue_id, _)| queue_id.clone())
            .collect();
        let Some(queue_id) = queued.get(choice as usize % queued.len().max(1)) else { return };
        let Some(file) = self.files.get_mut(queue_id) else { return };
        let watched = file.watched && self.is_up;
        if self.stuck.as_ref().is_some_and(|it| destinations(file.key.id).contains(it)) {
            return;
        }
        if choice % 5 == 0 && file.place == FolderKind::Queued {
            file.place = FolderKind::Deferred;
            if watched {
                self.say(Reply::Deferred { queue_id: queue_id.clone(), next_attempt_s: 1 });
            }
            return;
        }
        let id = file.key.id;
        self.files.remove(queue_id);
        self.fates.push((id, Fate::Delivered));
        if watched {
            self.say(Reply::Settled { queue_id: queue_id.clone() });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.is_lost || (self.files.is_empty() && self.in_cleanup.is_empty())
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "{} up={} connected={} {:?} {:?}",
            self.node, self.is_up, self.is_connected, self.files, self.in_cleanup
        )
    }
}
