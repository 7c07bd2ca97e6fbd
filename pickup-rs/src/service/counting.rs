//! Inventories and rescans: a thread scans the queue, and the service compares the result with its
//! tracker.
//!
//! The service goes on during a scan, so the result is old when it arrives. So the service notes
//! changes since the start of the scan. A deleted file is not listed, and a moved file is looked
//! for again. A request for an inventory during a scan waits for the next scan.

use std::collections::{HashMap, HashSet};
use std::io;

use handoff::protocol::{
    FolderKind, Handoff, INVENTORY_FILES_PER_LINE, NewName, Proof, QueuedFile, Reply,
};
use postfix_wire::{QueueId, QueueName};
use queue::scan::{self, Ours, Scan};
use queue::{Folder, Origin, Whereabouts};
use spool::Act;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{Service, ServiceEvent};
use crate::node::Standing;
use crate::session::SessionId;
use crate::tracker::{FileEvent, FileState};
use crate::watch::Change;

/// State of the scans.
#[derive(Debug, Default)]
pub(super) struct Counting {
    running: Option<Running>,
    /// Connections that wait for the next scan, which begins when this one ends.
    again: Option<Vec<SessionId>>,
    /// Connections that wait for the node to attend, each with its ring.
    waiting: Vec<(u64, SessionId)>,
    /// Files that are not of OPTIMUS, as of the last scan.
    foreign: HashSet<QueueId>,
    /// Files whose owner is unclear, each with the folder in which it was found. The log names each
    /// of these files once, and each file in `corrupt/`.
    unreadable: HashMap<QueueId, Option<Folder>>,
    corrupt: HashSet<QueueId>,
}

/// A scan under way.
#[derive(Debug, Default)]
struct Running {
    sessions: Vec<SessionId>,
    deleted: HashSet<QueueId>,
    moved: HashSet<QueueId>,
    /// Whether a file has got another name meanwhile.
    must_begin_again: bool,
}

impl Running {
    /// Whether a moved file is in no list of the scan and was not deleted.
    fn missed(&self, id: &QueueId, scan: &Scan) -> bool {
        let is_listed = scan.ours.contains_key(id)
            || scan.renamed.contains_key(id)
            || scan.foreign.contains(id)
            || scan.unreadable.contains_key(id);
        !is_listed && !self.deleted.contains(id)
    }
}

impl Counting {
    /// Notes a change that a scan under way may have missed.
    pub(super) fn note(&mut self, change: &Change) {
        let Some(running) = &mut self.running else { return };
        match change {
            Change::Deleted(_, id) => _ = running.deleted.insert(id.clone()),
            Change::Moved(id) => _ = running.moved.insert(id.clone()),
            // The kernel may have dropped a change of names.
            Change::Overflow => running.must_begin_again = true,
            Change::NewDirectory => {}
        }
    }

    /// Notes that a file was discarded, which the kernel doesn't report.
    pub(super) fn discarded(&mut self, id: &QueueId) {
        self.running.iter_mut().for_each(|it| _ = it.deleted.insert(id.clone()));
    }

    /// Notes that a file has got another name: a scan under way may have met neither name.
    pub(super) fn begin_again(&mut self) {
        self.running.iter_mut().for_each(|it| it.must_begin_again = true);
    }

    /// Removes a file that was deleted. Returns whether its owner was unclear.
    pub(super) fn was_unreadable(&mut self, id: &QueueId) -> bool {
        self.unreadable.remove(id).is_some()
    }

    /// Removes a connection that has ended.
    pub(super) fn forget(&mut self, session: SessionId) {
        let running = self.running.as_mut().map(|running| &mut running.sessions);
        self.waiting.retain(|(_, it)| *it != session);
        running
            .into_iter()
            .chain(&mut self.again)
            .for_each(|sessions| sessions.retain(|it| *it != session));
    }
}

impl Service {
    /// Scans for a connection's inventory, once Redis knows the mark of this disk.
    pub(super) fn count_once_attended(&mut self, session: SessionId) {
        self.counting.waiting.push((self.attendance.ring(), session));
    }

    /// Takes the latest standing, unless it has lapsed since.
    pub(super) fn look_at_standing(&mut self) {
        let latest = self.attendance.standing();
        if !latest.is_lapsed() {
            self.attended(latest);
        }
    }

    /// Whether the standing with which the present event began still holds.
    pub(super) fn is_still_here(&self) -> bool {
        let latest = self.attendance.standing();
        self.standing.is_here() && latest.continues(&self.standing) && !latest.is_lapsed()
    }

    /// Takes a new standing of this queue directory. Disconnects Mail Agents that began with
    /// another standing, so that they begin anew.
    pub(super) fn attended(&mut self, standing: Standing) {
        let before = std::mem::replace(&mut self.standing, standing);
        self.unserved_since = match (&self.standing, &before) {
            (Standing::Here { .. }, _) => None,
            // Redis has not said since `asked` that the node is served here.
            (Standing::Unknown, Standing::Here { asked, .. }) => Some(*asked),
            _ => self.unserved_since.or_else(|| Some(Instant::now())),
        };
        if let Some(why) = self.standing.refusal(&self.node).filter(|_| self.standing != before) {
            error!("{why}");
        }
        if let Some(why) = self.standing.waits(&self.node).filter(|_| self.standing != before) {
            info!("{why}");
        }
        if !self.standing.continues(&before) {
            let agents = self.sessions.iter().filter(|(_, session)| session.is_agent);
            agents.map(|(id, _)| *id).collect::<Vec<_>>().into_iter().for_each(|id| self.left(id));
        }
        let Standing::Here { ring, .. } = self.standing else { return };
        let waiting = std::mem::take(&mut self.counting.waiting);
        let (due, waiting): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(asked, _)| *asked <= ring);
        self.counting.waiting = waiting;
        if !due.is_empty() {
            self.count(due.into_iter().map(|(_, session)| session).collect());
        }
    }

    /// Scans to correct the tracker, if a Mail Agent is connected.
    pub(super) fn rescan(&mut self) {
        if self.sessions.values().any(|session| session.is_agent) {
            self.count(Vec::new());
        }
    }

    fn count(&mut self, sessions: Vec<SessionId>) {
        if self.counting.running.is_some() {
            return self.counting.again.get_or_insert_default().extend(sessions);
        }
        self.counting.running = Some(Running { sessions, ..Running::default() });
        let (queue, node, events, foreign) = (
            self.queue.clone(),
            self.node.clone(),
            self.events.clone(),
            self.counting.foreign.clone(),
        );
        tokio::task::spawn_blocking(move || {
            // A failure to send means that the service has ended.
            let _ = events.send(ServiceEvent::Counted(scan::take(&queue, &node, &foreign)));
        });
    }

    pub(super) fn counted(&mut self, scan: io::Result<Scan>) {
        self.catch_up();
        if let Ok(scan) = &scan
            && self.may_have_missed_a_rename(scan)
        {
            self.counting.begin_again();
        }
        debug_assert!(self.counting.running.is_some(), "a scan that ends was running");
        let running = self.counting.running.take().unwrap_or_default();
        if running.must_begin_again {
            return self.count(running.sessions);
        }
        match scan {
            Ok(scan) => self.compare(scan, &running),
            Err(error) => {
                let reason = format!("queue: not scanned: {error}; see to the disk");
                warn!("{reason}");
                running
                    .sessions
                    .iter()
                    .for_each(|it| self.say(*it, Reply::Error { reason: reason.clone() }));
            }
        }
        if let Some(sessions) = self.counting.again.take() {
            self.count(sessions);
        }
    }

    /// Whether a file may have changed its name during the scan, which then met neither name.
    /// Operators' commands release files from hold under other names.
    fn may_have_missed_a_rename(&mut self, scan: &Scan) -> bool {
        let Some(running) = &self.counting.running else {
            debug_assert!(false, "a scan that ends was running");
            return false;
        };
        let is_nowhere = |id: &&QueueId| {
            running.missed(id, scan) && matches!(self.queue.find_anywhere(id), Ok(None))
        };
        let missed: Vec<QueueId> = running.moved.iter().filter(is_nowhere).cloned().collect();
        if missed.is_empty() {
            return false;
        }
        // The missed files may have been deleted since.
        self.catch_up();
        let Some(running) = &self.counting.running else {
            debug_assert!(false, "a scan runs until its end is taken");
            return false;
        };
        missed.iter().any(|id| running.missed(id, scan))
    }

    fn compare(&mut self, scan: Scan, running: &Running) {
        let Scan { mut ours, mut renamed, foreign, mut unreadable } = scan;
        self.counting.foreign = foreign;
        unreadable.retain(|id, _| !running.deleted.contains(id));
        self.note_unreadable(&unreadable);
        renamed.retain(|id, _| !running.deleted.contains(id));
        self.tell_renamed(&renamed);
        self.settle_missing(&ours, &renamed, &unreadable);
        self.counting.corrupt.retain(|id| matches!(self.queue.find_corrupt(id), Ok(Some(_))));
        for (id, _) in
            ours.iter().filter(|(_, file)| file.whereabouts.folder == QueueName::Corrupt.into())
        {
            self.remark_corrupt(id);
        }
        ours.retain(|id, _| !running.deleted.contains(id) && !self.is_feeding(id));
        let strays = self.take_in(&mut ours, running);
        self.take_in(&mut renamed, running);
        for session in &running.sessions {
            self.list(*session, &ours, &renamed, unreadable.keys());
        }
        for id in strays {
            self.announce(&ours[&id], &running.sessions);
        }
    }

    fn is_feeding(&self, id: &QueueId) -> bool {
        matches!(self.tracker.state(id), Some(FileState::Feeding { .. }))
    }

    /// Logs once that a file's owner is unclear, and reports such files that are gone.
    fn note_unreadable(&mut self, unreadable: &HashMap<QueueId, io::Error>) {
        for (id, error) in
            unreadable.iter().filter(|(id, _)| !self.counting.unreadable.contains_key(*id))
        {
            warn!("{id}: can't be read: {error}; message not settled");
        }
        let found = |id: &QueueId| self.queue.find_anywhere(id).ok().flatten().map(|it| it.folder);
        let now = unreadable.keys().map(|id| (id.clone(), found(id))).collect();
        let before = std::mem::replace(&mut self.counting.unreadable, now);
        for (id, folder) in before.into_iter().filter(|(id, _)| !unreadable.contains_key(id)) {
            if self.tracker.state(&id).is_none()
                && matches!(self.queue.find_anywhere(&id), Ok(None))
            {
                self.unreadable_is_gone(id, folder);
            }
        }
    }

    /// Reports a vanished file of unclear owner. A file that Postfix had is settled; a prepared
    /// file was never sent.
    fn unreadable_is_gone(&mut self, id: QueueId, last: Option<Folder>) {
        match last {
            Some(Folder::Queue(_)) => self.tell(Some(FileEvent::Settled(id))),
            Some(Folder::Prepared) => {
                self.tell_agents(&Reply::Vanished { queue_ids: vec![id] }, &[]);
            }
            None => warn!("{id}: gone from an unknown folder; not settled"),
        }
    }

    /// Logs once that Postfix won't deliver a file. Postfix itself logs nothing that would tell the
    /// operator.
    pub(super) fn remark_corrupt(&mut self, id: &QueueId) {
        if self.counting.corrupt.insert(id.clone()) {
            warn!("{id}: in corrupt, so never sent; not settled until the file is deleted");
        }
    }

    /// Settles files that the queue manager had and that a search by name finds nowhere. Follows a
    /// file that has another name now.
    fn settle_missing(
        &mut self,
        ours: &HashMap<QueueId, Ours>,
        renamed: &HashMap<QueueId, Ours>,
        unreadable: &HashMap<QueueId, io::Error>,
    ) {
        let is_unseen = |id: &&QueueId| !ours.contains_key(*id) && !renamed.contains_key(*id);
        let unseen: Vec<QueueId> =
            self.tracker.with_queue_manager().filter(is_unseen).cloned().collect();
        let names = by_inode(renamed.keys().chain(unreadable.keys()));
        for id in unseen {
            match self.queue.find_anywhere(&id) {
                Ok(None) => match id.inode().and_then(|inode| names.get(&inode)) {
                    Some(now) => self.goes_on_as(id, (*now).clone()),
                    None => self.settle_unseen(&id),
                },
                // The file is too damaged to be known as one of OPTIMUS.
                Ok(Some(Whereabouts { folder: Folder::Queue(QueueName::Corrupt), .. })) => {
                    self.remark_corrupt(&id);
                }
                Ok(Some(_)) => {}
                Err(error) => {
                    warn!("{id}: not found out where the file is: {error}; see to the disk");
                }
            }
        }
    }

    fn settle_unseen(&mut self, id: &QueueId) {
        info!("{id}: settled: left the queue unseen, or by another way than delivery");
        let event = self.tracker.gone(id);
        self.tell(event);
    }

    /// Follows a file that another process has renamed, as an operator's release does without a
    /// Mail Agent. The Mail Agents compare message ids too, because Postfix uses inodes again.
    fn goes_on_as(&mut self, was: QueueId, now: QueueId) {
        info!("{was}: renamed to {now} by another process");
        self.tracker.renamed(&was, &now);
        let (done, absent, renamed) = (Vec::new(), Vec::new(), vec![NewName { was, now }]);
        self.tell_agents(&Reply::Operated { act: Act::Release, done, absent, renamed }, &[]);
    }

    /// Logs once each file whose name differs from the queue id in its attributes.
    fn tell_renamed(&self, renamed: &HashMap<QueueId, Ours>) {
        for (id, file) in renamed.iter().filter(|(id, _)| self.tracker.state(id).is_none()) {
            let Origin { id: message, queue_id, .. } = &file.origin;
            let folder = file.whereabouts.folder;
            info!(
                "{id}: a copy of {queue_id} in {folder}, requeued, renamed or restored; holds \
                    {message}"
            );
        }
    }

    /// Puts the scanned files into the tracker, and returns those that were new to it.
    fn take_in(&mut self, ours: &mut HashMap<QueueId, Ours>, running: &Running) -> Vec<QueueId> {
        let mut strays = Vec::new();
        for (id, file) in ours.iter_mut() {
            match self.tracker.state(id) {
                None => {
                    strays.push(id.clone());
                    self.tracker.adopt(id, &file.whereabouts);
                }
                Some(_) if self.tracker.agrees(id, &file.whereabouts) => {}
                // The administrator moved the file. Undecided files don't move otherwise.
                Some(FileState::Prepared) => self.correct_prepared(id),
                Some(_) => self.look_again(id),
            }
            if running.moved.contains(id)
                && let Ok(Some(whereabouts)) = self.queue.find(id)
            {
                file.whereabouts = whereabouts;
                self.tracker.adopt(id, &whereabouts);
            }
        }
        strays
    }

    fn correct_prepared(&mut self, id: &QueueId) {
        if let Ok(Some(whereabouts)) = self.queue.find(id)
            && whereabouts.place() != FolderKind::Prepared
        {
            self.tracker.queued(id);
            self.look_again(id);
        }
    }

    fn list<'a>(
        &mut self,
        session: SessionId,
        files: &HashMap<QueueId, Ours>,
        renamed: &HashMap<QueueId, Ours>,
        unreadable: impl Iterator<Item = &'a QueueId>,
    ) {
        let unreadable: Vec<QueueId> = unreadable.cloned().collect();
        let proof = Proof::default();
        for names in unreadable.chunks(INVENTORY_FILES_PER_LINE) {
            let (files, renamed, unreadable) = (Vec::new(), Vec::new(), names.to_vec());
            self.say(
                session,
                Reply::Inventory { files, renamed, unreadable, proof, complete: false },
            );
        }
        for files in lines_of(files) {
            let (renamed, unreadable) = (Vec::new(), Vec::new());
            self.say(
                session,
                Reply::Inventory { files, renamed, unreadable, proof, complete: false },
            );
        }
        for renamed in lines_of(renamed) {
            let (files, unreadable) = (Vec::new(), Vec::new());
            self.say(
                session,
                Reply::Inventory { files, renamed, unreadable, proof, complete: false },
            );
        }
        let (files, renamed, unreadable, proof) =
            (Vec::new(), Vec::new(), Vec::new(), self.proof());
        self.say(session, Reply::Inventory { files, renamed, unreadable, proof, complete: true });
    }

    /// Returns the proof by which an unlisted file counts as delivered. Empty unless the node is
    /// served here.
    fn proof(&self) -> Proof {
        match self.standing {
            Standing::Here { floor, .. } => Proof { mark: self.attendance.mark().get(), floor },
            _ => Proof::default(),
        }
    }

    /// Reports a new file of OPTIMUS, which a cleanup process finished after its pickup-rs died.
    fn announce(&mut self, file: &Ours, but: &[SessionId]) {
        let origin = &file.origin;
        let Origin { id, lot, epoch, queue_id, to, .. } = origin.clone();
        let reply = match (file.place(), origin.handoff) {
            (FolderKind::Prepared, _) => {
                Reply::Held { id, lot, epoch, queue_id: queue_id.clone(), to }
            }
            (_, Handoff::Direct) => {
                Reply::Stored { id, lot, epoch, queue_id: queue_id.clone(), to }
            }
            (FolderKind::Queued | FolderKind::Deferred | FolderKind::OnHold, Handoff::Hold) => {
                return;
            }
        };
        if self.sessions.iter().any(|(id, session)| session.is_agent && !but.contains(id)) {
            info!("{queue_id}: message {id} found in the queue");
            self.tell_agents(&reply, but);
        }
    }
}

/// Returns the names, keyed by the inode in each name.
fn by_inode<'a>(names: impl Iterator<Item = &'a QueueId>) -> HashMap<u64, &'a QueueId> {
    names.filter_map(|name| Some((name.inode()?, name))).collect()
}

fn lines_of(files: &HashMap<QueueId, Ours>) -> Vec<Vec<QueuedFile>> {
    let files: Vec<QueuedFile> =
        files.iter().map(|(queue_id, file)| queued_file(queue_id, file)).collect();
    files.chunks(INVENTORY_FILES_PER_LINE).map(<[_]>::to_vec).collect()
}

fn queued_file(queue_id: &QueueId, file: &Ours) -> QueuedFile {
    let place = file.place();
    let origin = file.origin.clone();
    QueuedFile {
        id: origin.id,
        lot: origin.lot,
        epoch: origin.epoch,
        queue_id: queue_id.clone(),
        place,
        next_attempt_s: (place == FolderKind::Deferred).then_some(file.whereabouts.mtime_s),
        to: origin.to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postfix_wire::QueueName;

    #[test]
    fn a_name_that_a_scan_met_nowhere_is_missed_unless_its_file_was_deleted() {
        let [was, now]: [QueueId; 2] = ["4C1B21A0", "4C1B31A0"].map(|it| it.parse().unwrap());
        assert_eq!(by_inode([&now].into_iter()).get(&was.inode().unwrap()), Some(&&now));
        let mut counting = Counting { running: Some(Running::default()), ..Counting::default() };
        counting.note(&Change::Moved(was.clone()));
        let (mut scan, missed) = (Scan::default(), |counting: &Counting, scan: &Scan| {
            counting.running.as_ref().unwrap().missed(&was, scan)
        });
        assert!(missed(&counting, &scan));
        scan.foreign.insert(was.clone());
        assert!(!missed(&counting, &scan));
        counting.note(&Change::Deleted(QueueName::Active, was.clone()));
        assert!(!missed(&counting, &Scan::default()));
        counting.note(&Change::NewDirectory);
        assert!(!counting.running.as_ref().unwrap().must_begin_again);
        counting.note(&Change::Overflow);
        assert!(counting.running.unwrap().must_begin_again, "names may have changed unseen");
    }
}
