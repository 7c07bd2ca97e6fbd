//! Composition of records from `sendmail`'s options, standard input and the caller.
//!
//! The order of the records is stock `sendmail`'s, byte for byte, because the records' readers have
//! never seen another order.
//!
//! First come notification wishes, rewriting context, full name, sender, encoding, report, VERP and
//! recipients. The content follows, and then recipients from headers.
//!
//! Every operand is read as a recipient header. Some mail readers pass comma-separated lists, and
//! some even `word word <address>`. An operand without an address becomes an empty recipient, and
//! Postfix sends a bounce.
//!
//! With `-bv` the submitted message is a probe, which Postfix routes and reports on without
//! delivering it.

use std::fmt::Display;
use std::io::BufRead;

use postfix_wire::record::RecordType;

use crate::address::addresses;
use crate::content::{ContentReader, ContentRules, LineEnd};
use crate::exit::{ExitCode, Failure};
use crate::filter::{Filter, FilterError};
use crate::headers::{HeaderLimits, RecipientHeaders};
use crate::options::{Invocation, Trace};

/// Envelope without the recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeHead {
    /// Sender's address, unquoted.
    pub sender: Vec<u8>,
    /// Full name of the sender, if there is one.
    pub full_name: Option<Vec<u8>>,
}

/// Rules for reading the content.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Rules for the content's lines.
    pub content: ContentRules,
    /// Value of `header_size_limit`, in bytes; for `-t`.
    pub header_limit: usize,
}

/// Pushes all records of the message into `filter`. Fails if the input can't be read, no recipient
/// is named, or the filter refuses a record.
pub fn compose(
    invocation: &Invocation,
    envelope: &EnvelopeHead,
    rules: Rules,
    input: impl BufRead,
    filter: &mut Filter<'_>,
) -> Result<(), Failure> {
    let mut composer = Composer { filter, notify: invocation.notify, recipients: 0, trouble: None };
    composer.envelope(invocation, envelope)?;
    composer.put(RecordType::Mesg, b"");
    let content = ContentReader::new(input, rules.content);
    let extracted = if invocation.trace == Some(Trace::Probe) {
        composer.probe(&envelope.sender, &invocation.recipients);
        Vec::new()
    } else if invocation.recipients_from_headers {
        composer.content_with_headers(content, rules)?
    } else {
        composer.content(content)?;
        Vec::new()
    };
    composer.put(RecordType::Xtra, b"");
    extracted.iter().for_each(|recipient| composer.recipient(recipient));
    if composer.recipients == 0 {
        return Err(Failure::usage(match invocation.recipients_from_headers {
            true => "No recipient addresses found in message header",
            false => {
                "Recipient addresses must be specified on the command line or via the -t option"
            }
        }));
    }
    composer.put(RecordType::End, b"");
    composer.trouble.map_or(Ok(()), Err)
}

struct Composer<'a, 'b> {
    filter: &'a mut Filter<'b>,
    /// Notification wish of `-N`, which is written for each recipient.
    notify: Option<u32>,
    recipients: usize,
    /// First failure of the filter. Later records are dropped.
    trouble: Option<Failure>,
}

impl Composer<'_, '_> {
    fn envelope(
        &mut self,
        invocation: &Invocation,
        envelope: &EnvelopeHead,
    ) -> Result<(), Failure> {
        if let Some(id) = &invocation.envelope_id {
            self.put(RecordType::Attr, &[b"envelope_id=", id.as_slice()].concat());
        }
        self.attribute("ret_flags", invocation.ret);
        self.attribute(
            "rewrite_context",
            Some(if invocation.is_from_elsewhere { "remote" } else { "local" }),
        );
        if let Some(full_name) = &envelope.full_name {
            self.put(RecordType::Full, full_name);
        }
        self.put(RecordType::From, &envelope.sender);
        if invocation.verp_delimiters.is_some() && envelope.sender.is_empty() {
            return Err(Failure::usage("-V option requires non-null sender address"));
        }
        self.attribute("encoding", invocation.encoding);
        self.attribute("trace_flags", invocation.trace.map(Trace::flags));
        if let Some(delimiters) = &invocation.verp_delimiters {
            self.put(RecordType::Verp, delimiters);
        }
        for operand in &invocation.recipients {
            let found = addresses(operand);
            found.iter().for_each(|recipient| self.recipient(recipient));
            if found.is_empty() {
                self.put(RecordType::Rcpt, b"");
                self.recipients += 1;
            }
        }
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(RecordType::Attr, format!("{name}={value}").as_bytes());
        }
    }

    /// Writes the records of a probe.
    fn probe(&mut self, sender: &[u8], recipients: &[Vec<u8>]) {
        if !sender.is_empty() {
            self.put(RecordType::Norm, &[b"From: ", sender].concat());
        }
        self.put(RecordType::Norm, b"Subject: probe");
        self.put(RecordType::Cont, b"To:");
        for (index, recipient) in recipients.iter().enumerate() {
            let comma: &[u8] = if index + 1 < recipients.len() { b"," } else { b"" };
            self.put(RecordType::Norm, &[b"\t", recipient.as_slice(), comma].concat());
        }
    }

    fn content(&mut self, mut content: ContentReader<impl BufRead>) -> Result<(), Failure> {
        let mut text = Vec::new();
        while let Some(line) = content.next_line(&mut text).map_err(|error| unreadable(&error))? {
            self.line(line, &text);
        }
        Ok(())
    }

    fn content_with_headers(
        &mut self,
        mut content: ContentReader<impl BufRead>,
        rules: Rules,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let unusable =
            |e| Failure::new(ExitCode::Data, format!("unable to extract recipients: {e}"));
        let limits = HeaderLimits { header: rules.header_limit, line: rules.content.line_limit };
        let mut headers = RecipientHeaders::new(limits);
        let mut text = Vec::new();
        while let Some(line) = content.next_line(&mut text).map_err(|error| unreadable(&error))? {
            headers.line(line, &text, &mut |line, text| self.line(line, text)).map_err(unusable)?;
        }
        headers.finish(&mut |line, text| self.line(line, text)).map_err(unusable)
    }

    fn line(&mut self, line: LineEnd, text: &[u8]) {
        self.put(if line == LineEnd::Whole { RecordType::Norm } else { RecordType::Cont }, text);
    }

    fn recipient(&mut self, address: &[u8]) {
        self.attribute("notify_flags", self.notify);
        self.put(RecordType::Rcpt, address);
        self.recipients += 1;
    }

    fn put(&mut self, kind: RecordType, data: &[u8]) {
        if self.trouble.is_some() {
            return;
        }
        // The filter keeps all attributes that this module makes, so no warning is lost.
        if let Err(error) = self.filter.record(kind, data, &mut drop) {
            self.trouble = Some(refused(kind, &error));
        }
    }
}

/// Names the user's own input in an error of the filter, which knows only records.
fn refused(kind: RecordType, error: &FilterError) -> Failure {
    let what = match kind {
        RecordType::Full => "sender's full name",
        RecordType::From => "sender address",
        RecordType::Rcpt => "recipient address",
        _ => "message",
    };
    Failure::new(ExitCode::Data, format!("{what}: not usable: {error}"))
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::new(ExitCode::Data, format!("error reading input: {error}"))
}
