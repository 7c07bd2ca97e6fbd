//! Comparison of a node's disk with the commits that Redis has for the node.
//!
//! | on disk | committed here in Redis | not |
//! |---|---|---|
//! | prepared | release | commit, and see |
//! | prepared, and ordered to be deleted or held | take the commit back, discard | commit, and see |
//! | with the queue manager | track | commit, and see; if refused, the message may be sent twice |
//! | nothing, and its release was never asked for | take the commit back | feed again |
//! | nothing, otherwise | say that it is absent | feed again, if it was prepared |
//! | a file that can't be read | leave alone | leave alone |
//! | a file by another name | note its name, if the file of the old name is not there | leave alone |
//! | a file back under its first name | the same | commit, and see |

use std::collections::{BTreeMap, BTreeSet};

use handoff::protocol::{FolderKind, QueuedFile};
use postfix_wire::QueueId;
use spool::{MessageId, Rest};

use super::feeding::FeedKey;
use super::report::{HandoffOutcome, Owned, Rename};

/// Results of a comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Committed files that are still prepared.
    pub(super) release: Vec<QueueId>,
    /// Committed files that are still prepared and must not be sent.
    pub(super) withdraw: Vec<(QueueId, MessageId)>,
    /// Committed files that are still here: to release, or with the queue manager.
    pub(super) track: Vec<(QueueId, MessageId)>,
    /// Files that rest in Postfix's deferred or hold queue.
    pub(super) rest: Vec<(QueueId, Rest)>,
    /// Files that Redis has not decided about.
    pub(super) undecided: Vec<(QueueId, FeedKey, HandoffOutcome)>,
    /// Committed files that are here by another name, with the old and the new name.
    pub(super) renamed: Vec<Rename>,
    /// Committed files that are gone.
    pub(super) gone: Vec<(QueueId, MessageId)>,
    /// Names of all files that are here.
    pub(super) names: BTreeSet<QueueId>,
}

/// Compares files on disk with commits. `committed` must have been read before `files` and
/// `renamed`. `is_stopped` tells which files must not be released.
pub(super) fn compare(
    files: &[QueuedFile],
    renamed: &[QueuedFile],
    committed: &BTreeMap<QueueId, Owned>,
    is_stopped: impl Fn(&QueuedFile) -> bool,
) -> Findings {
    let mut findings = Findings::default();
    let all = files.iter().chain(renamed);
    let mut here: BTreeSet<(&QueueId, MessageId)> =
        all.map(|file| (&file.queue_id, file.id)).collect();
    let by_id: BTreeMap<MessageId, &QueueId> =
        committed.iter().map(|(name, it)| (it.id, name)).collect();
    for file in files {
        let was = by_id.get(&file.id).filter(|was| may_have_been(file, was));
        match was.filter(|was| is_committed_as(was, file, &mut here)) {
            Some(was) => findings.ours(file, was, is_stopped(file)),
            None => findings.undecided.push((file.queue_id.clone(), key_of(file), how(file.place))),
        }
        findings.note(file);
    }
    for file in renamed {
        let was = by_id.get(&file.id);
        if let Some(was) = was.filter(|was| is_committed_as(was, file, &mut here)) {
            findings.ours(file, was, false);
            findings.note(file);
        }
    }
    let gone = committed.iter().filter(|(queue_id, owned)| !here.contains(&(*queue_id, owned.id)));
    findings.gone = gone.map(|(queue_id, owned)| (queue_id.clone(), owned.id)).collect();
    findings
}

/// Whether a file under its first name may be the one that is committed as `was`: a release gave
/// that name, and a power failure or an earlier state of the disk has undone it. A name has the
/// file's inode. A prepared file with another one is another file of the message, and may be too
/// many; a file that Postfix has is sent in any case.
fn may_have_been(file: &QueuedFile, was: &QueueId) -> bool {
    file.place != FolderKind::Prepared || file.queue_id.inode() == was.inode()
}

/// Whether this is the file that is committed as `was`. Otherwise the file of that name is there,
/// or another copy was found before.
fn is_committed_as<'a>(
    was: &'a QueueId,
    file: &QueuedFile,
    here: &mut BTreeSet<(&'a QueueId, MessageId)>,
) -> bool {
    *was == file.queue_id || here.insert((was, file.id))
}

impl Findings {
    /// Notes a file that is committed as `was`.
    fn ours(&mut self, file: &QueuedFile, was: &QueueId, is_stopped: bool) {
        let placed = (file.queue_id.clone(), file.id);
        if *was != file.queue_id {
            let (was, now) = (was.clone(), file.queue_id.clone());
            self.renamed.push(Rename { id: file.id, was, now });
        }
        match file.place {
            FolderKind::Prepared if is_stopped => return self.withdraw.push(placed),
            FolderKind::Prepared => self.release.push(file.queue_id.clone()),
            FolderKind::Queued | FolderKind::Deferred | FolderKind::OnHold => (),
        }
        self.track.push(placed);
    }

    fn note(&mut self, file: &QueuedFile) {
        self.names.insert(file.queue_id.clone());
        self.rest.extend(rest(file).map(|rest| (file.queue_id.clone(), rest)));
    }
}

pub(super) fn key_of(file: &QueuedFile) -> FeedKey {
    FeedKey { lot: file.lot, epoch: file.epoch, id: file.id }
}

pub(super) fn how(place: FolderKind) -> HandoffOutcome {
    match place {
        FolderKind::Prepared => HandoffOutcome::Held,
        FolderKind::Queued | FolderKind::Deferred | FolderKind::OnHold => HandoffOutcome::Stored,
    }
}

pub(super) fn rest(file: &QueuedFile) -> Option<Rest> {
    match file.place {
        FolderKind::Deferred => file.next_attempt_s.map(|next_s| Rest::Until(next_s * 1_000)),
        FolderKind::OnHold => Some(Rest::OnHold),
        FolderKind::Prepared | FolderKind::Queued => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{file, id, owned, queue_id};
    use super::*;

    #[test]
    fn each_case_of_the_table() {
        let files = [
            file(1, FolderKind::Prepared),
            file(2, FolderKind::Queued),
            file(3, FolderKind::Deferred),
            file(4, FolderKind::Prepared),
            file(5, FolderKind::Queued),
            file(7, FolderKind::OnHold),
            file(8, FolderKind::Prepared),
        ];
        let committed = [1, 2, 3, 6, 7, 8].map(|n| (queue_id(n), owned(n))).into_iter().collect();
        // Files that the queue manager has can't be withdrawn.
        let found = compare(&files, &[], &committed, |it| [2, 4, 8].map(id).contains(&it.id));
        assert_eq!(found.release, [queue_id(1)]);
        assert_eq!(found.withdraw, [(queue_id(8), id(8))]);
        assert_eq!(found.track, [1, 2, 3, 7].map(|n| (queue_id(n), id(n))));
        assert_eq!(found.rest, [(queue_id(3), Rest::Until(7_000)), (queue_id(7), Rest::OnHold)]);
        let undecided: Vec<_> =
            found.undecided.iter().map(|(queue_id, _, how)| (queue_id.clone(), *how)).collect();
        assert_eq!(
            undecided,
            [(queue_id(4), HandoffOutcome::Held), (queue_id(5), HandoffOutcome::Stored)]
        );
        assert_eq!(found.gone, [(queue_id(6), id(6))]);
    }

    #[test]
    fn a_queue_id_given_again_is_another_file() {
        let committed = BTreeMap::from([(queue_id(1), owned(9))]);
        let found = compare(&[file(1, FolderKind::Prepared)], &[], &committed, |_| false);
        assert_eq!((found.undecided.len(), found.gone), (1, vec![(queue_id(1), id(9))]));
    }

    #[test]
    fn a_file_by_another_name_is_the_committed_one_only_where_that_is_not_there() {
        let by_name =
            |n, name| QueuedFile { queue_id: queue_id(name), ..file(n, FolderKind::Deferred) };
        let committed = [1, 2, 3].map(|n| (queue_id(n), owned(n))).into_iter().collect();
        let files = [file(1, FolderKind::Queued)];
        let renamed = [by_name(1, 11), by_name(2, 12), by_name(2, 22), by_name(4, 14)];
        let found = compare(&files, &renamed, &committed, |_| false);
        assert_eq!(found.renamed, [Rename { id: id(2), was: queue_id(2), now: queue_id(12) }]);
        assert_eq!(found.track, [(queue_id(1), id(1)), (queue_id(12), id(2))]);
        assert_eq!(found.gone, [(queue_id(3), id(3))]);
        assert_eq!(found.undecided, [], "a copy is Postfix's alone");
        let noted = BTreeMap::from([(queue_id(12), owned(2))]);
        let found = compare(&[], &renamed[1..2], &noted, |_| false);
        assert_eq!((found.track, found.gone), (vec![(queue_id(12), id(2))], vec![]));
    }

    /// Checks the names after a power failure, which may undo renames that Redis has noted.
    #[test]
    fn a_file_whose_rename_is_undone_is_the_committed_one() {
        let committed = [11, 12, 3, 14].map(|n| (queue_id(n), owned(n % 10))).into_iter().collect();
        let files = [
            file(1, FolderKind::OnHold),
            file(2, FolderKind::Queued),
            file(4, FolderKind::Deferred),
        ];
        let renamed = [QueuedFile { queue_id: queue_id(12), ..file(2, FolderKind::Deferred) }];
        let found = compare(&files, &renamed, &committed, |_| false);
        let undone = |n, name| Rename { id: id(n), was: queue_id(name), now: queue_id(n) };
        assert_eq!(found.renamed, [undone(1, 11), undone(4, 14)]);
        assert_eq!(found.track, [(1, 1), (4, 4), (12, 2)].map(|(n, it)| (queue_id(n), id(it))));
        assert_eq!(
            found.rest,
            [(1, Rest::OnHold), (4, Rest::Until(7_000)), (12, Rest::Until(7_000))]
                .map(|(n, rest)| (queue_id(n), rest))
        );
        assert_eq!(found.gone, [(queue_id(3), id(3))]);
        let undecided: Vec<_> = found.undecided.iter().map(|(name, ..)| name.clone()).collect();
        assert_eq!(undecided, [queue_id(2)], "a copy, as the file by the noted name is there");
    }

    /// Checks a release and a rename that are both undone, and another file of the message.
    #[test]
    fn a_prepared_file_is_the_committed_one_by_its_inode() {
        let now: QueueId = "4C1B300001".parse().unwrap();
        let committed = BTreeMap::from([(now.clone(), owned(1))]);
        let found = compare(&[file(1, FolderKind::Prepared)], &[], &committed, |_| false);
        let rename = Rename { id: id(1), was: now.clone(), now: queue_id(1) };
        assert_eq!(
            (found.renamed, found.release, found.gone),
            (vec![rename], vec![queue_id(1)], vec![])
        );
        let other = QueuedFile { queue_id: queue_id(2), ..file(1, FolderKind::Prepared) };
        let found = compare(&[other], &[], &committed, |_| false);
        assert_eq!((found.undecided.len(), found.release), (1, vec![]));
        assert_eq!(found.gone, [(now, id(1))]);
    }
}
