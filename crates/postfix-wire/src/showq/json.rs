//! Printer of a listing as JSON, as of `postqueue -j`: one object per line.

use super::{Entry, Recipient};

/// Returns one message's line.
pub fn json_line(entry: &Entry) -> String {
    let recipients: Vec<String> = entry.recipients.iter().map(recipient).collect();
    format!(
        "{{\"queue_name\": {}, \"queue_id\": {}, \"arrival_time\": {}, \"message_size\": {}, \
         \"forced_expire\": {}, \"sender\": {}, \"recipients\": [{}]}}\n",
        string(&entry.queue),
        string(&entry.id),
        entry.arrival_s,
        entry.bytes,
        entry.is_expired,
        string(&entry.sender),
        recipients.join(", ")
    )
}

fn recipient(recipient: &Recipient) -> String {
    let address = string(&recipient.address);
    match recipient.reason.as_str() {
        "" => format!("{{\"address\": {address}}}"),
        reason => format!("{{\"address\": {address}, \"delay_reason\": {}}}", string(reason)),
    }
}

/// Returns a quoted string. An [`Entry`] from a listing has no control characters; one that this
/// program made may have some.
fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_ascii_control() => out += &format!("\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_an_object_whatever_the_entry_has() {
        let sender = "\"\\\u{1}\n\u{7f}é".to_owned();
        let line = json_line(&Entry { sender: sender.clone(), ..Entry::default() });
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (object["sender"].as_str(), line.matches('\n').count()),
            (Some(sender.as_str()), 1)
        );
    }
}
