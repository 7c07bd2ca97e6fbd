//! The choice of a log's lines that are about a message.
//!
//! A line that names the message's id is about it. When that line also names a queue id, that is
//! the message's file, and lines that name the file count from then on. They count until Postfix
//! removes the file: short queue ids are used again. When a queue id was asked for, all lines with
//! it count.

use std::collections::BTreeSet;

use postfix_wire::QueueId;
use spool::{Listed, MessageId, MessagePlace, NodeId};

/// Last word that Postfix logs of a queue file.
const REMOVED: &str = "removed";

/// A message, and what has been learned of it.
#[derive(Debug)]
pub(super) struct About {
    name: String,
    /// This host's node, which has the file that was asked for.
    node: Option<NodeId>,
    asked: Option<String>,
    id: Option<MessageId>,
    files: BTreeSet<String>,
}

impl About {
    /// Takes the message with this id, or the one in the queue file of this name on this host,
    /// whose node is `node`. `None`: the name is neither.
    pub(super) fn of(name: &str, node: Option<NodeId>) -> Option<Self> {
        let id = name.parse().ok();
        let asked = name.parse::<QueueId>().ok().filter(|_| id.is_none()).map(|it| it.to_string());
        let is_one = id.is_some() || asked.is_some();
        let files = asked.iter().cloned().collect();
        is_one.then(|| Self { name: name.to_owned(), node, asked, id, files })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn id(&self) -> Option<MessageId> {
        self.id
    }

    /// Returns the time before which no log has a line about the message, in Unix seconds; 0 where
    /// that isn't known.
    pub(super) fn since_s(&self) -> u64 {
        let of_file = || self.name.parse::<QueueId>().ok()?.time().map(|time| time.as_secs());
        self.id.map(|id| id.unix_ms() / 1000).or_else(of_file).unwrap_or_default()
    }

    /// Whether an entry of a listing is this message.
    pub(super) fn is(&self, id: MessageId, place: &MessagePlace) -> bool {
        let has_file = || match place {
            MessagePlace::Committed(node, queue_id) => {
                self.node.as_ref() == Some(node) && self.files.contains(queue_id.as_str())
            }
            _ => false,
        };
        self.id.map_or_else(has_file, |it| it == id)
    }

    /// Learns from an entry of Redis.
    pub(super) fn learn(&mut self, listed: &Listed) {
        self.id = Some(listed.id);
        if let MessagePlace::Committed(_, queue_id) = &listed.place {
            self.files.insert(queue_id.to_string());
        }
    }

    /// Whether a line is about the message. Learns from it which queue files the message has.
    pub(super) fn tells(&mut self, line: &str) -> bool {
        let names_id = self.id.is_some_and(|id| words(line).any(|it| it == id.to_string()));
        let of_file = file_of(line);
        let names_file = of_file.is_some_and(|file| self.files.contains(file))
            || words(line).any(|word| self.files.contains(word));
        if self.asked.is_some() && names_file {
            self.id = field(line, "id=").and_then(|id| id.parse().ok()).or(self.id);
        }
        if names_id {
            let named = [of_file, field(line, "queue_id=")];
            let named = named.into_iter().flatten().filter(|it| it.parse::<QueueId>().is_ok());
            self.files.extend(named.map(str::to_owned));
        }
        if let Some(file) = of_file.filter(|_| line.ends_with(REMOVED))
            && self.asked.as_deref() != Some(file)
        {
            self.files.remove(file);
        }
        names_id || names_file
    }
}

/// Returns the queue file of one of Postfix's lines: `... postfix/pickup[123]: 4C1B21A0: ...`.
fn file_of(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("]: ")?;
    let (file, _) = rest.split_once(": ")?;
    file.parse::<QueueId>().is_ok().then_some(file)
}

/// Returns the value of a field, as in `queue_id=4C1B21A0`.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split([' ', ',']).find_map(|word| word.strip_prefix(key))
}

/// Returns the runs of letters and digits in a line.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|it: char| !it.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    const LOG: [&str; 8] = [
        "Nov 30 12:09:12 host postfix/qmgr[7]: 4C1B21A0: removed",
        "Nov 30 12:09:12 host postfix/pickup[7]: 4C1B21A0: uid=0 from=<a> \
            id=01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "Nov 30 12:09:12 host postfix/cleanup[7]: 4C1B21A0: message-id=<x@y>",
        "Nov 30 12:09:12 host postfix/cleanup[7]: 4C1B21A1: message-id=<y@y>",
        "2026-11-30T12:09:31Z INFO agents: sent again queue_id=5C1B21A0 \
            id=01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "Nov 30 12:09:13 host postfix/qmgr[7]: 4C1B21A0: removed",
        "Nov 30 12:09:14 host postfix/pickup[7]: 4C1B21A0: uid=0 from=<b> \
            id=01ARZ3NDEKTSV4RRFFQ69G5FAW",
        "Nov 30 12:09:14 host postfix/qmgr[7]: 5C1B21A0: removed",
    ];

    fn told(name: &str) -> Vec<usize> {
        let mut about = About::of(name, None).unwrap();
        (0..LOG.len()).filter(|&line| about.tells(LOG[line])).collect()
    }

    #[test]
    fn lines_of_a_message_s_file_count_until_the_file_is_removed() {
        assert_eq!(told(ID), [1, 2, 4, 5, 7]);
    }

    #[test]
    fn a_queue_id_leads_to_every_message_that_had_it() {
        assert_eq!(told("4C1B21A0"), [0, 1, 2, 4, 5, 6, 7]);
        let mut about = About::of("4C1B21A0", None).unwrap();
        LOG[..6].iter().for_each(|line| _ = about.tells(line));
        assert_eq!(about.id().unwrap().to_string(), ID);
    }

    #[test]
    fn a_queue_id_is_one_of_this_host() {
        let [ours, other] = ["OURS", "OTHER"].map(|name| name.parse::<NodeId>().unwrap());
        let about = About::of("4C1B21A0", Some(ours.clone())).unwrap();
        let is = |node| {
            about.is(
                ID.parse().unwrap(),
                &MessagePlace::Committed(node, "4C1B21A0".parse().unwrap()),
            )
        };
        assert!(is(ours) && !is(other));
    }

    #[test]
    fn an_id_within_another_word_is_another_one() {
        let mut about = About::of(ID, None).unwrap();
        assert!(!about.tells(&format!("x{ID}")) && !about.tells(&format!("{ID}9 and no more")));
        assert!(about.tells(&format!("<{ID}@host>")));
    }

    #[test]
    fn a_name_that_is_no_id_is_refused() {
        assert!(About::of("no such", None).is_none() && About::of("", None).is_none());
    }
}
