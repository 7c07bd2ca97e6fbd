//! A stored message that has been checked and can be written for a queue id.

use std::ops::Range;

use handoff::refusal::TOO_LONG;
use postfix_wire::record::{Segment, put};
use postfix_wire::{Record, RecordError, RecordType, Records};
use queue::{Origin, PREFIX};
use spool::{Domain, MessageId};

use super::destinations::Destinations;
use super::fault::{self, Fault};
use super::headers::{HeaderScan, MissingId};
use super::received;

/// Settings of the site that shape a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// Value of `myhostname`, for the trace header.
    pub(crate) hostname: String,
    /// Value of `mail_name`, for the trace header.
    pub(crate) mail_name: String,
    /// Value of `content_filter`; empty if there is none.
    pub(crate) content_filter: String,
    /// Value of `line_length_limit`: most bytes of data in a record.
    pub(crate) line_limit_bytes: usize,
    /// Whether cleanup completes the headers of mail from elsewhere (`sendmail -G`).
    pub(crate) completes_remote_headers: bool,
}

/// A stored message, as read from Redis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) id: MessageId,
    pub(crate) uid: u32,
    /// Time of submission, in Unix seconds.
    pub(crate) arrival_s: i64,
    /// Host on which the message was submitted, for the Message-Id.
    pub(crate) host: &'a str,
    pub(crate) records: &'a [u8],
}

/// Reason for which a stored message can never be fed. Nothing was changed; the message must go to
/// the quarantine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    /// The stored bytes are not records.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// A record of a kind that Postfix does not expect in this segment.
    #[error("unexpected record type {kind:?} in the {segment:?} segment")]
    Unexpected { kind: RecordType, segment: Segment },
    /// A record with more data than `line_length_limit`.
    #[error("record {kind:?} of {bytes} bytes {TOO_LONG}")]
    TooLong { kind: RecordType, bytes: usize },
    /// The stream ends before its `E` record.
    #[error("no end record")]
    NoEnd,
    /// The envelope has no `S` record.
    #[error("no envelope sender")]
    NoSender,
}

/// A message that can be written for any queue id.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    stored: Stored<'a>,
    sender: &'a [u8],
    envelope: Vec<u8>,
    content: &'a [u8],
    /// Whether the content starts with white space, which would continue the header before it.
    indented: bool,
    missing_id: Option<MissingId>,
    extracted: Vec<u8>,
    fault: Option<Fault>,
    to: Vec<Domain>,
}

/// Parts of the record stream for cleanup, in this order.
#[derive(Debug)]
pub(crate) struct ForCleanup<'a> {
    /// Envelope, and the headers that pickup-rs adds.
    pub(crate) head: Vec<u8>,
    /// Content as it was stored.
    pub(crate) content: &'a [u8],
    /// Extracted segment and end record.
    pub(crate) tail: Vec<u8>,
}

impl<'a> Draft<'a> {
    /// Checks a message from its first record to its last.
    pub(crate) fn new(stored: Stored<'a>, site: &Site) -> Result<Self, Malformed> {
        let records = Records::new(stored.records);
        let mut reader = Reader { records, limit_bytes: site.line_limit_bytes };
        let envelope = Envelope::read(&mut reader, stored.arrival_s)?;
        let content = Content::read(&mut reader)?;
        let mut to = envelope.to;
        let extracted = read_extracted(&mut reader, &mut to)?;
        let sender = envelope.sender.ok_or(Malformed::NoSender)?;
        let completes = envelope.is_local || site.completes_remote_headers;
        let missing_id = content.missing_id().filter(|_| completes);
        let Content { range, indented, .. } = content;
        let content = &stored.records[range];
        Ok(Self {
            stored,
            sender,
            envelope: envelope.out,
            content,
            indented,
            missing_id,
            extracted,
            fault: envelope.fault,
            to: to.into_domains(),
        })
    }

    /// Returns the message's destinations, or the first of them if there are many.
    pub(crate) fn to(&self) -> &[Domain] {
        &self.to
    }

    /// Returns the submitter's fault for which stock cleanup rejects the message and stock pickup
    /// deletes it.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Returns the envelope sender as it was stored.
    pub(crate) fn sender(&self) -> &'a [u8] {
        self.sender
    }

    /// Returns the records for cleanup.
    pub(crate) fn write(&self, site: &Site, origin: &Origin) -> ForCleanup<'a> {
        let mut head = Vec::with_capacity(self.envelope.len() + 1024);
        origin.put(&mut head);
        if !site.content_filter.is_empty() {
            // In an envelope, the record type `L` carries the content filter.
            put(&mut head, RecordType::Cont, site.content_filter.as_bytes());
        }
        head.extend_from_slice(&self.envelope);
        put(&mut head, RecordType::Mesg, b"");
        self.put_headers(&mut head, site, origin);
        if self.indented {
            put(&mut head, RecordType::Norm, b"");
        }
        ForCleanup { head, content: self.content, tail: self.tail() }
    }

    fn put_headers(&self, out: &mut Vec<u8>, site: &Site, origin: &Origin) {
        let Stored { uid, arrival_s, id, host, .. } = self.stored;
        for line in
            received::lines(&site.hostname, &site.mail_name, uid, &origin.queue_id, arrival_s)
        {
            put(out, RecordType::Norm, line.as_bytes());
        }
        if let Some(missing) = self.missing_id {
            put(
                out,
                RecordType::Norm,
                format!("{}: <{id}@{host}>", missing.header_name()).as_bytes(),
            );
        }
    }

    fn tail(&self) -> Vec<u8> {
        let mut tail = Vec::with_capacity(self.extracted.len() + 4);
        put(&mut tail, RecordType::Xtra, b"");
        tail.extend_from_slice(&self.extracted);
        put(&mut tail, RecordType::End, b"");
        tail
    }
}

/// Reader of the records, segment after segment.
struct Reader<'a> {
    records: Records<'a>,
    limit_bytes: usize,
}

impl<'a> Reader<'a> {
    /// Returns the segment's next record, or `None` at its end.
    fn next(&mut self, segment: Segment) -> Result<Option<Record<'a>>, Malformed> {
        let record = self.records.next().ok_or(Malformed::NoEnd)??;
        let Record { kind, data } = record;
        if !segment.accepts(kind) {
            return Err(Malformed::Unexpected { kind, segment });
        }
        if data.len() > self.limit_bytes {
            return Err(Malformed::TooLong { kind, bytes: data.len() });
        }
        Ok((kind != segment.end()).then_some(record))
    }
}

struct Envelope<'a> {
    out: Vec<u8>,
    sender: Option<&'a [u8]>,
    has_time: bool,
    /// Whether the rewriting context is local; the last attribute of that name decides.
    is_local: bool,
    fault: Option<Fault>,
    to: Destinations,
}

impl<'a> Envelope<'a> {
    fn read(reader: &mut Reader<'a>, arrival_s: i64) -> Result<Self, Malformed> {
        let mut envelope = Self {
            out: Vec::new(),
            sender: None,
            has_time: false,
            is_local: true,
            fault: None,
            to: Destinations::default(),
        };
        while let Some(record) = reader.next(Segment::Envelope)? {
            envelope.copy(record, arrival_s);
        }
        Ok(envelope)
    }

    fn copy(&mut self, record: Record<'a>, arrival_s: i64) {
        self.fault = self.fault.or_else(|| fault::of(&record, self.sender.is_some()));
        match record.kind {
            // The site chooses the content filter and redirection, not the submitter.
            RecordType::Cont | RecordType::Rdr => return,
            RecordType::Attr if record.data.starts_with(PREFIX) => return,
            RecordType::Attr => self.see_attribute(record.data),
            RecordType::Time => self.has_time = true,
            RecordType::From => self.see_sender(record.data, arrival_s),
            RecordType::Rcpt => self.to.see(record.data),
            _ => {}
        }
        put(&mut self.out, record.kind, record.data);
    }

    /// Notes the rewriting context. `cleanup_envelope.c` takes `rewrite_context=local` and
    /// `=remote`, and refuses any other.
    fn see_attribute(&mut self, attribute: &[u8]) {
        match attribute {
            b"rewrite_context=local" => self.is_local = true,
            b"rewrite_context=remote" => self.is_local = false,
            _ => {}
        }
    }

    fn see_sender(&mut self, sender: &'a [u8], arrival_s: i64) {
        self.sender.get_or_insert(sender);
        if !self.has_time {
            put(&mut self.out, RecordType::Time, arrival_s.to_string().as_bytes());
        }
    }
}

struct Content {
    range: Range<usize>,
    indented: bool,
    headers: HeaderScan,
}

impl Content {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let start = reader.records.offset();
        let mut content =
            Self { range: start..start, indented: false, headers: HeaderScan::default() };
        let mut first = true;
        while let Some(record) = reader.next(Segment::Content)? {
            content.range.end = reader.records.offset();
            if record.kind != RecordType::Dtxt {
                content.indented |= first && matches!(record.data.first(), Some(b' ' | b'\t'));
                first = false;
                content.headers.see(&record);
            }
        }
        Ok(content)
    }

    fn missing_id(&self) -> Option<MissingId> {
        // The empty line before indented content ends the headers, so only headers of pickup-rs
        // remain.
        if self.indented { Some(MissingId::MessageId) } else { self.headers.missing_id() }
    }
}

fn read_extracted(reader: &mut Reader<'_>, to: &mut Destinations) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::new();
    while let Some(Record { kind, data }) = reader.next(Segment::Extracted)? {
        if kind == RecordType::Rcpt {
            to.see(data);
        }
        let dropped = match kind {
            RecordType::Cont | RecordType::Rdr | RecordType::Rrto | RecordType::Erto => true,
            RecordType::Attr => !is_dsn_attribute(data),
            _ => false,
        };
        if !dropped {
            put(&mut out, kind, data);
        }
    }
    Ok(out)
}

/// Returns whether an attribute stands for a record type (`rec_attr_map.c`). Only such attributes
/// are expected after the content.
fn is_dsn_attribute(data: &[u8]) -> bool {
    let name = data.split(|&byte| byte == b'=').next().unwrap_or_default();
    matches!(
        name.trim_ascii(),
        b"dsn_orig_rcpt" | b"notify_flags" | b"envelope_id" | b"ret_flags" | b"create_time"
    )
}

#[cfg(test)]
mod tests;
