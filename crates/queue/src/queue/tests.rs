//! Finding, preparing, releasing and discarding one file.

use super::*;
use crate::operating::{OnHold, Operation};
use crate::testing::{self, id, plain, sample};
use handoff::protocol::FolderKind;
use spool::Act;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_release_marks_and_moves_once() {
    let sample = plain();
    sample.write(Folder::Prepared, 0o700, "4C1B21A0");
    assert_eq!(sample.queue.release(&id()).unwrap(), Release::Moved);
    assert_eq!(sample.mode(QueueName::Incoming), 0o701);
    assert_eq!(sample.queue.release(&id()).unwrap(), Release::AlreadyOut);
    assert!(sample.queue.look(Folder::Prepared, &id()).unwrap().is_none());
}

#[test]
fn a_marked_file_that_is_still_prepared_is_released() {
    let sample = plain();
    sample.write(Folder::Prepared, 0o701, "4C1B21A0");
    assert_eq!(sample.queue.release(&id()).unwrap(), Release::Moved);
}

#[test]
fn a_hashed_incoming_queue_gets_its_subdirectory() {
    let sample = sample(QueueLayout::new([QueueName::Incoming, QueueName::Hold], 2));
    sample.write(QueueName::Hold, 0o700, "4C1B21A0");
    assert!(sample.queue.prepare(&id()).unwrap());
    assert_eq!(sample.queue.release(&id()).unwrap(), Release::Moved);
    assert!(sample.queue.directory(QueueName::Incoming).join("4/C/4C1B21A0").exists());
}

#[test]
fn a_file_that_the_administrator_holds_stays() {
    let sample = plain();
    sample.write(QueueName::Hold, 0o701, "4C1B21A0");
    assert_eq!(sample.queue.release(&id()).unwrap(), Release::AlreadyOut);
    assert_eq!(sample.queue.discard(&id()).unwrap(), Discard::Gone);
    assert!(matches!(sample.queue.examine_prepared(&id()).unwrap(), Examined::Ours(..)));
    let whereabouts = sample.queue.find(&id()).unwrap().unwrap();
    assert_eq!(
        (whereabouts.folder, whereabouts.place()),
        (QueueName::Hold.into(), FolderKind::OnHold)
    );
}

#[test]
fn only_an_undecided_file_of_ours_is_discarded() {
    let sample = plain();
    assert_eq!(sample.queue.discard(&id()).unwrap(), Discard::Gone);
    sample.write(Folder::Prepared, 0o700, "4C1B21A1");
    assert_eq!(sample.queue.discard(&id()).unwrap(), Discard::NotOurs);
    sample.write(Folder::Prepared, 0o700, "4C1B21A0");
    assert_eq!(sample.queue.discard(&id()).unwrap(), Discard::Gone);
    assert_eq!(sample.queue.find(&id()).unwrap(), None);
}

fn operate(sample: &testing::Sample, act: Act) -> Operation {
    sample.queue.operate(act, &id(), message()).unwrap()
}

#[test]
fn an_operator_s_act_moves_the_file_as_postsuper_does() {
    for (act, from, to) in [
        (Act::Hold, QueueName::Incoming, QueueName::Hold),
        (Act::Hold, QueueName::Active, QueueName::Hold),
        (Act::Hold, QueueName::Deferred, QueueName::Hold),
        (Act::Requeue, QueueName::Deferred, QueueName::Maildrop),
        (Act::Requeue, QueueName::Hold, QueueName::Maildrop),
    ] {
        let sample = plain();
        sample.write(from, 0o701, "4C1B21A0");
        assert_eq!(operate(&sample, act), Operation::Done, "{act} {from}");
        assert_eq!(sample.mode(to), 0o701, "{act} {from}");
        assert!(sample.queue.look(from, &id()).unwrap().is_none());
    }
    let sample = plain();
    sample.write(QueueName::Hold, 0o701, "4C1B21A0");
    assert_eq!(operate(&sample, Act::Hold), Operation::AsItWas);
}

#[test]
fn names_are_synced_in_every_queue_that_an_act_moves_a_file_from_or_to() {
    for queue in [QueueName::Hold, QueueName::Deferred, QueueName::Active, QueueName::Incoming] {
        let sample = plain();
        sample.queue.sync_names([&id()]).unwrap();
        let folder = sample.queue.directory(queue);
        fs::remove_dir_all(&folder).unwrap();
        sample.queue.sync_names([&id()]).unwrap();
        std::os::unix::fs::symlink(&folder, &folder).unwrap();
        assert!(sample.queue.sync_names([&id()]).is_err(), "{queue}");
    }
}

/// The queue manager may still have a message of the old name in its memory.
#[test]
fn a_file_released_from_hold_has_another_name_with_its_own_inode() {
    let time = std::time::Duration::from_micros(1_700_000_000_123_456);
    for id in [QueueId::short(time, 420), QueueId::long(time, 420)] {
        let sample = plain();
        sample.write_named(id.as_str(), "node", QueueName::Hold);
        let log = |id: &QueueId| sample.queue.path(QueueName::Bounce, id);
        fs::create_dir_all(log(&id).parent().unwrap()).unwrap();
        fs::write(log(&id), "why").unwrap();
        let operated = sample.queue.operate(Act::Release, &id, message()).unwrap();
        let Operation::Renamed(now) = operated else { panic!("{operated:?}") };
        assert!(now != id && now.is_long() == id.is_long(), "{now}");
        let file = fs::metadata(sample.queue.path(QueueName::Deferred, &now)).unwrap();
        assert_eq!(now.inode(), Some(file.ino()), "or Postfix renames the file when it starts");
        assert!(sample.queue.find_anywhere(&id).unwrap().is_none());
        assert!(log(&now).exists() && !log(&id).exists());
        // A further release finds the file under the new name.
        assert_eq!(sample.queue.operate(Act::Hold, &now, message()).unwrap(), Operation::Done);
        let again = sample.queue.operate(Act::Release, &now, message()).unwrap();
        assert!(matches!(again, Operation::Renamed(ref it) if *it != now), "{again:?}");
    }
}

#[test]
fn without_a_mail_agent_only_released_mail_of_optimus_leaves_hold() {
    let sample = plain();
    let release = || sample.queue.release_ours(&id(), None).unwrap();
    sample.write(QueueName::Hold, 0o701, "4C1B21A0");
    assert!(matches!(release(), OnHold::Released(_)));
    assert_eq!(release(), OnHold::Absent);
    sample.write(QueueName::Hold, 0o700, "4C1B21A0");
    assert_eq!(release(), OnHold::Others, "undecided");
    sample.write_foreign(QueueName::Hold);
    assert_eq!(release(), OnHold::Others, "not of OPTIMUS");
}

/// A file that was handed over directly is never marked as released.
#[test]
fn mail_handed_over_directly_leaves_hold_by_another_name_if_it_is_known_to_be_committed() {
    let sample = plain();
    sample.write(QueueName::Hold, 0o700, "4C1B21A0");
    sample.hand_over_directly(QueueName::Hold);
    assert_eq!(sample.queue.release_ours(&id(), None).unwrap(), OnHold::Unknown);
    let mut committed = BTreeSet::new();
    assert_eq!(sample.queue.release_ours(&id(), Some(&committed)).unwrap(), OnHold::Others);
    assert!(sample.queue.path(QueueName::Hold, &id()).exists());
    committed.insert(message());
    let released = sample.queue.release_ours(&id(), Some(&committed)).unwrap();
    assert!(matches!(&released, OnHold::Released(now) if *now != id()), "{released:?}");
}

#[test]
fn a_release_that_is_cut_short_leaves_the_logs_with_the_file() {
    let sample = plain();
    sample.write(QueueName::Hold, 0o701, "4C1B21A0");
    let bounce = sample.queue.directory(QueueName::Bounce);
    fs::write(bounce.join("4C1B21A0"), "why").unwrap();
    let deferred = sample.queue.directory(QueueName::Deferred);
    fs::remove_dir_all(&deferred).unwrap();
    std::os::unix::fs::symlink("/nowhere", deferred).unwrap();
    assert!(sample.queue.operate(Act::Release, &id(), message()).is_err());
    assert!(sample.queue.path(QueueName::Hold, &id()).exists());
    let logs: Vec<_> = fs::read_dir(bounce).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(logs, ["4C1B21A0"]);
}

#[test]
fn deleting_a_message_deletes_its_logs() {
    for queue in [QueueName::Hold, QueueName::Incoming, QueueName::Active, QueueName::Deferred] {
        let sample = plain();
        sample.write(queue, 0o701, "4C1B21A0");
        let log = sample.queue.directory(QueueName::Defer).join("4C1B21A0");
        fs::write(&log, "why").unwrap();
        assert_eq!(operate(&sample, Act::Delete), Operation::Done);
        assert_eq!(operate(&sample, Act::Delete), Operation::Absent);
        assert!(!log.exists());
    }
}

#[test]
fn an_order_touches_neither_another_message_nor_undecided_mail() {
    let sample = plain();
    sample.write(Folder::Prepared, 0o700, "4C1B21A0");
    assert_eq!(operate(&sample, Act::Delete), Operation::Prepared);
    let sample = plain();
    sample.write(QueueName::Active, 0o701, "4C1B21A0");
    let other = "01ARZ3NDEKTSV4RRFFQ69G5FAW".parse().unwrap();
    let operated = sample.queue.operate(Act::Delete, &id(), other).unwrap();
    assert_eq!(operated, Operation::Absent);
    sample.write_foreign(QueueName::Active);
    assert_eq!(operate(&sample, Act::Delete), Operation::Absent);
    assert!(sample.queue.path(QueueName::Active, &id()).exists());
}

fn message() -> MessageId {
    "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}

#[test]
fn a_file_that_postsuper_moved_from_hold_is_fetched_back() {
    for queue in [QueueName::Hold, QueueName::Maildrop, QueueName::Incoming, QueueName::Deferred] {
        let sample = plain();
        sample.write(queue, 0o700, "4C1B21A0");
        assert_eq!(
            sample.queue.retrieve(&id(), MessageId::new().unwrap()).unwrap(),
            match queue {
                QueueName::Maildrop => Preparation::Gone,
                _ => Preparation::Out,
            }
        );
        assert_eq!(
            sample.queue.retrieve(&id(), message()).unwrap(),
            Preparation::Prepared,
            "{queue}"
        );
        assert_eq!(
            sample.queue.retrieve(&id(), message()).unwrap(),
            Preparation::Prepared,
            "again"
        );
    }
    assert_eq!(plain().queue.retrieve(&id(), message()).unwrap(), Preparation::Gone);
}

#[test]
fn a_file_that_the_queue_manager_has_tried_is_not_fetched_back() {
    let sample = plain();
    sample.write(QueueName::Deferred, 0o700, "4C1B21A0");
    let file = open(&sample.queue.path(QueueName::Deferred, &id())).unwrap();
    file.set_modified(SystemTime::now() + std::time::Duration::from_secs(300)).unwrap();
    assert_eq!(sample.queue.retrieve(&id(), message()).unwrap(), Preparation::Out);
    let sample = plain();
    sample.write(QueueName::Active, 0o700, "4C1B21A0");
    assert_eq!(sample.queue.retrieve(&id(), message()).unwrap(), Preparation::Out);
}

#[test]
fn a_queue_id_that_postfix_used_again_names_another_file() {
    let sample = plain();
    sample.write_foreign(QueueName::Active);
    assert_eq!(sample.queue.release(&id()).unwrap(), Release::Gone);
}

#[test]
fn a_file_is_found_wherever_it_is_once_it_is_finished() {
    for folder in ON_ITS_WAY {
        let sample = plain();
        if matches!(folder, Folder::Queue(QueueName::Hold | QueueName::Incoming)) {
            sample.write(folder, 0o600, "4C1B21A0");
            assert_eq!(sample.queue.find(&id()).unwrap(), None, "{folder}, unfinished");
        }
        sample.write(folder, 0o700, "4C1B21A0");
        assert_eq!(sample.queue.find(&id()).unwrap().unwrap().folder, folder);
        assert!(matches!(sample.queue.examine(&id()).unwrap(), Examined::Ours(..)));
    }
}

#[test]
fn a_sweep_removes_only_the_file_of_a_dead_cleanup() {
    let (this, another) =
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(), MessageId::new().unwrap());
    for (queue, mode) in
        [(QueueName::Incoming, 0o600), (QueueName::Hold, 0o600), (QueueName::Hold, 0o700)]
    {
        let sample = plain();
        sample.write(queue, mode, "4C1B21A0");
        sample.queue.sweep(&id(), another).unwrap();
        assert!(sample.queue.path(queue, &id()).exists(), "{queue} {mode:o}: another message's");
        sample.queue.sweep(&id(), this).unwrap();
        assert!(!sample.queue.path(queue, &id()).exists(), "{queue} {mode:o}");
    }
    let sample = plain();
    let path = sample.queue.path(QueueName::Hold, &id());
    fs::write(&path, "somebody else's").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    sample.queue.sweep(&id(), this).unwrap();
    assert!(path.exists());
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    sample.queue.sweep(&id(), this).unwrap();
    assert!(!path.exists(), "nothing was written yet");
}

/// Cleanup died while it wrote the file, and `postsuper` moved the unfinished file.
#[test]
fn an_unfinished_file_that_postsuper_moved_is_neither_fetched_back_nor_released_but_swept() {
    for queue in [QueueName::Deferred, QueueName::Maildrop] {
        let sample = plain();
        sample.write(queue, 0o600, "4C1B21A0");
        assert_ne!(
            sample.queue.retrieve(&id(), message()).unwrap(),
            Preparation::Prepared,
            "{queue}"
        );
        sample.queue.sweep(&id(), MessageId::new().unwrap()).unwrap();
        assert!(sample.queue.path(queue, &id()).exists(), "{queue}: another message's");
        sample.queue.sweep(&id(), message()).unwrap();
        assert!(!sample.queue.path(queue, &id()).exists(), "{queue}");
    }
    let sample = plain();
    sample.write(Folder::Prepared, 0o600, "4C1B21A0");
    assert!(sample.queue.release(&id()).is_err());
    assert!(sample.queue.path(Folder::Prepared, &id()).exists());
}

#[test]
fn a_finished_file_in_another_queue_is_not_swept() {
    let sample = plain();
    sample.write(QueueName::Deferred, 0o700, "4C1B21A0");
    sample.queue.sweep(&id(), message()).unwrap();
    assert!(sample.queue.path(QueueName::Deferred, &id()).exists());
}

#[test]
fn a_corrupt_file_is_not_on_its_way_and_not_gone() {
    let sample = plain();
    sample.write(QueueName::Active, 0o400, "4C1B21A0");
    assert_eq!(sample.queue.find(&id()).unwrap().unwrap().folder, QueueName::Active.into());
    let corrupt = sample.queue.path(QueueName::Corrupt, &id());
    fs::rename(sample.queue.path(QueueName::Active, &id()), &corrupt).unwrap();
    assert_eq!(sample.queue.find(&id()).unwrap(), None);
    let whereabouts = sample.queue.find_anywhere(&id()).unwrap().unwrap();
    assert_eq!(
        (whereabouts.folder, whereabouts.place()),
        (QueueName::Corrupt.into(), FolderKind::Queued)
    );
    assert!(matches!(sample.queue.examine(&id()).unwrap(), Examined::Ours(..)));
    assert_eq!(sample.mode(QueueName::Corrupt), 0o400);
}

#[test]
fn a_release_without_a_file_finds_it_gone() {
    assert_eq!(plain().queue.release(&id()).unwrap(), Release::Gone);
}

#[test]
fn a_link_is_not_followed() {
    let sample = plain();
    std::os::unix::fs::symlink("/etc/passwd", sample.queue.path(Folder::Prepared, &id())).unwrap();
    assert!(sample.queue.release(&id()).is_err());
    assert_eq!(sample.queue.find(&id()).unwrap(), None);
}

#[test]
fn a_file_whose_mode_is_unknown_is_not_gone() {
    for queue in folders() {
        for mode in [0o000, 0o200, 0o500] {
            let sample = plain();
            sample.write(queue, mode, "4C1B21A0");
            let whereabouts = sample.queue.find_anywhere(&id()).unwrap();
            assert_eq!(whereabouts.map(|it| it.folder), Some(queue), "{mode:o}");
        }
    }
}

#[test]
fn a_damaged_file_is_not_foreign() {
    for queue in QUEUES {
        let sample = plain();
        sample.write(queue, 0o700, "4C1B21A0");
        let path = sample.queue.path(queue, &id());
        let length = fs::metadata(&path).unwrap().len();
        fs::write(&path, vec![0; usize::try_from(length).unwrap()]).unwrap();
        assert_eq!(sample.queue.examine(&id()).unwrap(), Examined::Unclear, "{queue}");
        sample.write_foreign(queue);
        let expected =
            if queue == QueueName::Corrupt { Examined::Unclear } else { Examined::Foreign };
        assert_eq!(sample.queue.examine(&id()).unwrap(), expected, "{queue}");
    }
}
