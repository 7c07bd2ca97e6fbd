//! Messages in their submitted form.

use postfix_wire::RecordType;
use postfix_wire::record::put;

/// A message as `sendmail` would submit it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<Vec<u8>>,
}

impl Message {
    pub(crate) fn new(test_id: &str) -> Self {
        Self {
            sender: "me@example.org".to_owned(),
            recipients: vec!["you@example.net".to_owned()],
            headers: vec![format!("X-Test-Id: {test_id}"), "Subject: test".to_owned()],
            body: vec![b"Hello".to_vec()],
        }
    }

    pub(crate) fn header(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    pub(crate) fn body(mut self, lines: Vec<Vec<u8>>) -> Self {
        self.body = lines;
        self
    }

    pub(crate) fn to(mut self, recipients: impl IntoIterator<Item = String>) -> Self {
        self.recipients = recipients.into_iter().collect();
        self
    }

    pub(crate) fn records(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        put(
            &mut out,
            RecordType::Time,
            format!("{} {}", now.as_secs(), now.subsec_micros()).as_bytes(),
        );
        put(&mut out, RecordType::Attr, b"rewrite_context=local");
        put(&mut out, RecordType::From, self.sender.as_bytes());
        self.recipients.iter().for_each(|rcpt| put(&mut out, RecordType::Rcpt, rcpt.as_bytes()));
        put(&mut out, RecordType::Mesg, b"");
        self.headers.iter().for_each(|header| put(&mut out, RecordType::Norm, header.as_bytes()));
        put(&mut out, RecordType::Norm, b"");
        self.body.iter().for_each(|line| put(&mut out, RecordType::Norm, line));
        put(&mut out, RecordType::Xtra, b"");
        put(&mut out, RecordType::End, b"");
        out
    }
}
