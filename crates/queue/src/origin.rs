//! Origin of a queue file, written in the file itself, so that a crash needs no journal.
//!
//! pickup-rs writes named attributes at the very start of the envelope. Cleanup keeps attributes
//! that it doesn't know, and `postcat -e` shows them:
//!
//! | attribute | what |
//! |---|---|
//! | `optimus_node` | the node that the file was made for |
//! | `optimus_id` | the message id |
//! | `optimus_lot` | the lot and its epoch, as `7.1` |
//! | `optimus_handoff` | `hold` or `direct` |
//! | `optimus_to` | the message's destinations, as `example.org,example.net` |
//! | `optimus_queue_id` | the queue file's own name |
//!
//! `optimus_queue_id` exists because Postfix copies attributes. `postsuper -r` sends a message
//! through cleanup once more, and the new file carries the old attributes. So a file under another
//! name than its attributes say is not the file that Redis knows. Such a file must never be taken
//! for an undecided one.

use handoff::protocol::Handoff;
use postfix_wire::record::{Record, RecordError, put};
use postfix_wire::{QueueId, RecordType, Records};
use spool::{Domain, Epoch, LotNumber, MessageId, NodeId};

/// Prefix of all attributes of OPTIMUS. A submitted message loses attributes with this prefix.
pub const PREFIX: &[u8] = b"optimus_";

/// Number of bytes at the start of a queue file that are searched for the attributes, which come
/// right after cleanup's first record.
pub const READ_BYTES: usize = 1024;

/// Origin of a queue file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Node; `None` in files of an earlier version.
    pub node: Option<NodeId>,
    /// Message id.
    pub id: MessageId,
    /// Lot from which the message was fed.
    pub lot: LotNumber,
    /// Epoch of the lot at that time.
    pub epoch: Epoch,
    /// Hand-off by which the file was made.
    pub handoff: Handoff,
    /// Name that the file was made under.
    pub queue_id: QueueId,
    /// Destinations; empty in files of an earlier version.
    pub to: Vec<Domain>,
}

impl Origin {
    /// Appends the attributes as records.
    pub fn put(&self, out: &mut Vec<u8>) {
        let handoff = match self.handoff {
            Handoff::Hold => "hold",
            Handoff::Direct => "direct",
        };
        let mut attribute = |text: String| put(out, RecordType::Attr, text.as_bytes());
        // Node and destinations come first, because a reader stops at the last of the required
        // attributes.
        self.node.iter().for_each(|node| attribute(format!("optimus_node={node}")));
        if !self.to.is_empty() {
            let to: Vec<&str> = self.to.iter().map(Domain::as_str).collect();
            attribute(format!("optimus_to={}", to.join(",")));
        }
        attribute(format!("optimus_id={}", self.id));
        attribute(format!("optimus_lot={}.{}", self.lot, self.epoch));
        attribute(format!("optimus_handoff={handoff}"));
        attribute(format!("optimus_queue_id={}", self.queue_id));
    }
}

/// Owner of a queue file, by its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// OPTIMUS handed this message over.
    Ours(Origin),
    /// An envelope without any attribute of OPTIMUS.
    Foreign,
    /// A damaged file: no envelope as cleanup writes it, or an incomplete set of attributes.
    Unclear,
}

impl Whose {
    /// Finds the owner from the first [`READ_BYTES`] of a file, or from all bytes of a shorter one.
    pub fn find(start: &[u8]) -> Self {
        let mut found = Found::default();
        let mut records = Records::new(start);
        let sound = loop {
            match records.next() {
                Some(Ok(Record { kind: RecordType::Mesg, .. })) => break true,
                Some(Ok(Record { kind: RecordType::Attr, data })) => found.note(data),
                Some(Ok(_)) => {}
                Some(Err(RecordError::Truncated)) | None => break start.len() >= READ_BYTES,
                Some(Err(_)) => break false,
            }
            if let Some(origin) = found.complete() {
                return Self::Ours(origin);
            }
        };
        if sound && !found.any && is_begun_by_cleanup(start) {
            Self::Foreign
        } else {
            Self::Unclear
        }
    }
}

/// Returns whether the file begins with a size record, as every queue file does.
fn is_begun_by_cleanup(start: &[u8]) -> bool {
    matches!(Records::new(start).next(), Some(Ok(Record { kind: RecordType::Size, .. })))
}

/// Attributes found so far.
#[derive(Debug, Default)]
struct Found {
    /// Whether any attribute had the prefix of OPTIMUS, readable or not.
    any: bool,
    node: Option<NodeId>,
    id: Option<MessageId>,
    lot: Option<(LotNumber, Epoch)>,
    handoff: Option<Handoff>,
    queue_id: Option<QueueId>,
    to: Vec<Domain>,
}

impl Found {
    fn note(&mut self, attribute: &[u8]) {
        self.any |= attribute.starts_with(PREFIX);
        let text = std::str::from_utf8(attribute).ok();
        let Some((name, value)) = text.and_then(|text| text.split_once('=')) else { return };
        match name {
            "optimus_node" => self.node = value.parse().ok(),
            "optimus_to" => self.to = value.split(',').filter_map(|it| it.parse().ok()).collect(),
            "optimus_id" => self.id = value.parse().ok(),
            "optimus_lot" => self.lot = parse_lot(value),
            "optimus_handoff" => self.handoff = parse_handoff(value),
            "optimus_queue_id" => self.queue_id = value.parse().ok(),
            _ => {}
        }
    }

    fn complete(&self) -> Option<Origin> {
        let (lot, epoch) = self.lot?;
        Some(Origin {
            node: self.node.clone(),
            id: self.id?,
            lot,
            epoch,
            handoff: self.handoff?,
            queue_id: self.queue_id.clone()?,
            to: self.to.clone(),
        })
    }
}

fn parse_lot(value: &str) -> Option<(LotNumber, Epoch)> {
    let (lot, epoch) = value.split_once('.')?;
    Some((lot.parse().ok()?, epoch.parse().ok()?))
}

fn parse_handoff(value: &str) -> Option<Handoff> {
    match value {
        "hold" => Some(Handoff::Hold),
        "direct" => Some(Handoff::Direct),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Origin {
        Origin {
            node: Some("N".repeat(64).parse().unwrap()),
            id: MessageId::from_parts(1_700_000_000_000, 42),
            lot: LotNumber(u64::MAX),
            epoch: Epoch(u64::MAX),
            handoff: Handoff::Direct,
            queue_id: "4C1B21A0".parse().unwrap(),
            to: vec![Domain::of(format!("a@{}", "x".repeat(253)).as_bytes()), Domain::others()],
        }
    }

    #[test]
    fn an_origin_is_found_behind_cleanup_s_first_record() {
        let mut file = Vec::new();
        put(&mut file, RecordType::Size, &[b' '; 95]);
        sample().put(&mut file);
        put(&mut file, RecordType::Time, b"1 2");
        assert!(file.len() < READ_BYTES, "{}", file.len());
        assert_eq!(Whose::find(&file), Whose::Ours(sample()));
    }

    #[test]
    fn a_file_cut_within_a_later_record_is_read_up_to_there() {
        let mut file = Vec::new();
        sample().put(&mut file);
        put(&mut file, RecordType::Rcpt, &[b'x'; 2000]);
        assert_eq!(Whose::find(&file[..READ_BYTES]), Whose::Ours(sample()));
    }

    #[test]
    fn attributes_in_the_content_are_not_found() {
        let mut file = begun_by_cleanup();
        put(&mut file, RecordType::Mesg, b"");
        sample().put(&mut file);
        assert_eq!(Whose::find(&file), Whose::Foreign);
    }

    fn begun_by_cleanup() -> Vec<u8> {
        let mut file = Vec::new();
        put(&mut file, RecordType::Size, &[b' '; 95]);
        file
    }

    #[test]
    fn a_long_foreign_envelope_is_foreign() {
        let mut file = begun_by_cleanup();
        for _ in 0..100 {
            put(&mut file, RecordType::Rcpt, b"somebody@example.net");
        }
        assert_eq!(Whose::find(&file[..READ_BYTES]), Whose::Foreign);
    }

    #[test]
    fn a_damaged_file_is_unclear_and_not_foreign() {
        let mut file = begun_by_cleanup();
        let first = file.len();
        sample().put(&mut file);
        put(&mut file, RecordType::Mesg, b"");
        assert_eq!(Whose::find(b""), Whose::Unclear, "empty");
        assert_eq!(
            Whose::find(&[0; READ_BYTES]),
            Whose::Unclear,
            "zeros, as after a power failure"
        );
        assert_eq!(Whose::find(&[b'x'; READ_BYTES]), Whose::Unclear);
        assert_eq!(Whose::find(&file[..first]), Whose::Unclear, "cut off");
        assert_eq!(Whose::find(&file[..file.len() - 8]), Whose::Unclear, "cut off within ours");
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x80;
            assert_ne!(Whose::find(&damaged), Whose::Foreign, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes: Vec<u8>) {
            let _ = Whose::find(&bytes);
        }
    }
}
