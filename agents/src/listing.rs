//! The queue in Redis, in the form of a Postfix listing.
//!
//! Mail that is committed to this host's own Postfix is left out, since Postfix lists such mail and
//! knows more about it.

use postfix_wire::main_cf::MainCf;
use postfix_wire::showq::{Charset, Entry, Recipient, address};
use settings::Places;
use spool::{Act, Envelope, Listed, Listing, MessagePlace, NodeId, Spool, SpoolError};

/// Postfix's name for the empty sender.
const EMPTY_SENDER: &str = "MAILER-DAEMON";

/// Entries of a listing, page by page.
#[derive(Debug)]
pub struct Entries {
    listing: Listing,
    own_node: Option<NodeId>,
    charset: Charset,
}

impl Entries {
    /// Starts a listing of all mail in this spool.
    pub fn of(spool: &Spool, main_cf: &MainCf, places: &Places) -> Self {
        let identity = places.identity().ok().flatten();
        // Postfix's own programs report a value that is neither yes nor no. The listing goes on.
        let is_utf8 = main_cf.get_bool("smtputf8_enable").unwrap_or(true);
        Self {
            listing: spool.listing(),
            own_node: identity.and_then(|it| it.parse().ok()),
            charset: if is_utf8 { Charset::Utf8 } else { Charset::Ascii },
        }
    }

    /// Returns the next page, which may be empty; `None` after the last.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Entry>>, SpoolError> {
        let Some(page) = self.listing.next_page().await? else { return Ok(None) };
        let is_elsewhere = |place: &MessagePlace| match place {
            MessagePlace::Committed(node, _) => Some(node) != self.own_node.as_ref(),
            MessagePlace::Inbox
            | MessagePlace::Ready(_)
            | MessagePlace::Assigned(..)
            | MessagePlace::Held
            | MessagePlace::Quarantine(_) => true,
        };
        // A message that was deleted in the inbox only waits for its removal.
        let is_here =
            |it: &Listed| it.place != MessagePlace::Inbox || it.order != Some(Act::Delete);
        let shown = page.into_iter().filter(|it| is_elsewhere(&it.place) && is_here(it));
        Ok(Some(shown.map(|listed| entry(listed, self.charset)).collect()))
    }
}

fn entry(Listed { id, place, order, envelope }: Listed, charset: Charset) -> Entry {
    let (queue, mut reason) = match place {
        MessagePlace::Inbox if order == Some(Act::Hold) => ("hold", String::new()),
        MessagePlace::Held => ("hold", String::new()),
        MessagePlace::Inbox => ("inbox", String::new()),
        MessagePlace::Ready(_) => ("ready", String::new()),
        MessagePlace::Assigned(..) => ("assigned", String::new()),
        MessagePlace::Committed(node, queue_id) => {
            let order = order.map_or_else(String::new, |order| format!("; {order} ordered"));
            ("committed", format!("with node {node} as {queue_id}{order}"))
        }
        MessagePlace::Quarantine(reason) => ("quarantine", format!("in quarantine: {reason}")),
    };
    let is_readable = envelope.is_some();
    let Envelope { arrival_ms, sender, recipients, bytes, .. } = envelope.unwrap_or_default();
    if !is_readable && reason.is_empty() {
        reason = "its envelope can't be read".to_owned();
    }
    let mut recipients: Vec<Recipient> = recipients
        .iter()
        .map(|raw| Recipient { address: address(raw, charset), reason: reason.clone() })
        .collect();
    if recipients.is_empty() && !reason.is_empty() {
        recipients.push(Recipient { address: "unknown".to_owned(), reason });
    }
    Entry {
        queue: queue.to_owned(),
        id: id.to_string(),
        arrival_s: i64::try_from(arrival_ms / 1000).unwrap_or(i64::MAX),
        bytes: bytes as u64,
        is_expired: false,
        sender: if sender.is_empty() { EMPTY_SENDER.to_owned() } else { address(&sender, charset) },
        recipients,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(place: MessagePlace, envelope: Option<Envelope>) -> Entry {
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        entry(Listed { id, place, order: None, envelope }, Charset::Utf8)
    }

    #[test]
    fn an_entry_says_where_a_message_is_and_why() {
        let envelope = Envelope {
            arrival_ms: 1_999,
            recipients: vec![b"a b@x".to_vec()],
            ..Envelope::default()
        };
        let entry = listed(
            MessagePlace::Committed("n".parse().unwrap(), "ABC123".parse().unwrap()),
            Some(envelope),
        );
        let reason = "with node n as ABC123".to_owned();
        assert_eq!(
            (entry.queue.as_str(), entry.sender.as_str(), entry.arrival_s),
            ("committed", "MAILER-DAEMON", 1)
        );
        assert_eq!(entry.recipients, [Recipient { address: "\"a b\"@x".to_owned(), reason }]);
    }

    #[test]
    fn a_message_that_can_not_be_read_is_listed_all_the_same() {
        assert_eq!(listed(MessagePlace::Inbox, None).recipients.len(), 1);
        let kept = listed(MessagePlace::Quarantine("checksum".to_owned()), None);
        assert_eq!(kept.recipients[0].reason, "in quarantine: checksum");
    }
}
