//! Conversation with cleanup that keeps every byte of both sides.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postfix_wire::attr::{Attributes, decode, encode_one};
use postfix_wire::cleanup::PROTOCOL;
use postfix_wire::record::put;
use postfix_wire::{CleanupFlags, CleanupStatus, QueueId, RecordType};
use testbed::Postfix;

/// Limit of a wait, far above the time of any answer on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Bytes of both sides of a conversation, and its outcome.
pub(crate) struct Conversation {
    pub(crate) queue_id: QueueId,
    pub(crate) status: CleanupStatus,
    pub(crate) reason: String,
    pub(crate) greeting: Vec<u8>,
    pub(crate) request: Vec<u8>,
    pub(crate) verdict: Vec<u8>,
}

/// Feeds `records` to cleanup.
pub(crate) fn converse(
    postfix: &Postfix,
    flags: CleanupFlags,
    records: &[u8],
) -> Result<Conversation> {
    let mut stream = UnixStream::connect(postfix.queue_dir().join("public/cleanup"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let (attributes, greeting) = read_list(&mut stream)?;
    ensure!(attributes.require("protocol")? == PROTOCOL);
    let queue_id = attributes.require("queue_id")?.parse()?;
    let mut request = Vec::new();
    encode_one(&mut request, "flags", flags.bits());
    request.push(0);
    request.extend_from_slice(records);
    stream.write_all(&request)?;
    let (attributes, verdict) = read_list(&mut stream)?;
    Ok(Conversation {
        queue_id,
        status: CleanupStatus::from_bits(attributes.require_u32("status")?),
        reason: attributes.require("reason")?.to_owned(),
        greeting,
        request,
        verdict,
    })
}

fn read_list(stream: &mut UnixStream) -> Result<(Attributes, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some((attributes, length)) = decode(&bytes)? {
            ensure!(length == bytes.len(), "more than one list");
            return Ok((attributes, bytes));
        }
        let mut byte = [0];
        stream.read_exact(&mut byte).context("no answer from cleanup")?;
        bytes.push(byte[0]);
    }
}

/// Returns a message as pickup would feed it.
pub(crate) fn message(recipients: &[&str], lines: &[&[u8]]) -> Vec<u8> {
    let mut records = Vec::new();
    put(&mut records, RecordType::Time, b"1700000000 123456");
    put(&mut records, RecordType::Attr, b"rewrite_context=local");
    put(&mut records, RecordType::Attr, b"optimus_id=01HF7YAT00AAAAAAAAAAAAAAAA");
    put(&mut records, RecordType::From, b"sender@example.org");
    for recipient in recipients {
        put(&mut records, RecordType::Rcpt, recipient.as_bytes());
    }
    put(&mut records, RecordType::Mesg, b"");
    // Without this header, cleanup takes the client for a broken one.
    put(&mut records, RecordType::Norm, b"Received: by testbed");
    for line in lines {
        put(&mut records, RecordType::Norm, line);
    }
    put(&mut records, RecordType::Xtra, b"");
    put(&mut records, RecordType::End, b"");
    records
}
