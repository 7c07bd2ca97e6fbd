//! Conversion of packets to bytes and back.

use std::time::Duration;

use bytes::{Buf, BufMut, TryGetError};
use thiserror::Error;

use super::{
    Ask, ClientBody, FRAGMENT_HEAD_BYTES, Fragment, Got, HEADER_BYTES, Header, MAX_ENDED, Ranges,
    Refusal, RequestPart, ServerBody, Terms, millis,
};
use crate::key::{Key, Seal, TAG_BYTES};
use crate::packet::ranges::MAX_RANGES;
use crate::{ClientGeneration, ClientId, Epoch, Identity, PacketNumber, Port, Sequence, Ticket};

const MAGIC: u16 = u16::from_be_bytes(*b"OR");
const VERSION: u8 = 1;

const HELLO: u8 = 1;
const REQUEST: u8 = 2;
const ASK: u8 = 3;
const CANCEL: u8 = 4;
const ENDED: u8 = 5;
const WELCOME: u8 = 16;
const REPLY: u8 = 17;
const WORKING: u8 = 18;
const GOT: u8 = 19;
const REFUSED: u8 = 20;

/// Padding, bytes, that makes a `Hello` as long as its longest answer. So nobody gains by having
/// the answer sent to a stranger. `CANCEL_PADDING` does so for `Cancel`.
const HELLO_PADDING: usize = 12;
const CANCEL_PADDING: usize = 8;

/// Reason for which a packet was not read. The sender isn't told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    /// The packet is of another protocol, version or direction, or too short.
    #[error("packet: not read: of another protocol")]
    Foreign,
    /// The hash is wrong: the packet is damaged, or was made with another key.
    #[error("packet: not read: wrong hash; give client and server the same key file")]
    Unauthentic,
    /// The hash is right and the content is malformed: another program has the key.
    #[error("packet: not read: malformed")]
    Malformed,
}

impl From<TryGetError> for PacketError {
    fn from(_: TryGetError) -> Self {
        Self::Malformed
    }
}

/// A packet that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened<B> {
    /// Header of the packet.
    pub header: Header,
    /// Time between the packet's arrival at the server and the answer; zero in questions.
    pub held: Duration,
    /// Content of the packet.
    pub body: B,
}

/// Writes a question into `packet`, which is cleared first.
pub fn seal_question(key: &Key, header: &Header, question: &ClientBody<'_>, packet: &mut Vec<u8>) {
    let data_bytes = match question {
        ClientBody::Request(request) => request.fragment.data.len(),
        ClientBody::Hello
        | ClientBody::Ask(_)
        | ClientBody::Cancel { .. }
        | ClientBody::Ended { .. } => 0,
    };
    seal(key.questions(), header, kind_of_question(question), data_bytes, packet, |packet| {
        write_question(question, packet);
    });
}

/// Writes an answer into `packet`, which is cleared first. `held` is the time for which the server
/// has had the answered packet.
pub fn seal_answer(
    key: &Key,
    header: &Header,
    held: Duration,
    answer: &ServerBody<'_>,
    packet: &mut Vec<u8>,
) {
    let data_bytes = match answer {
        ServerBody::Reply { fragment, .. } => fragment.data.len(),
        ServerBody::Welcome(_)
        | ServerBody::Working { .. }
        | ServerBody::Got(_)
        | ServerBody::Refused { .. } => 0,
    };
    seal(key.answers(), header, kind_of_answer(answer), data_bytes, packet, |packet| {
        packet.put_u32(u32::try_from(held.as_micros()).unwrap_or(u32::MAX));
        write_answer(answer, packet);
    });
}

/// Reads a client's packet.
///
/// # Errors
/// See [`PacketError`].
pub fn open_question<'a>(
    key: &Key,
    packet: &'a [u8],
) -> Result<Opened<ClientBody<'a>>, PacketError> {
    let (kind, header, mut body) = open(key.questions(), packet, &(HELLO..=ENDED))?;
    let body = read_question(kind, &mut body)?;
    Ok(Opened { header, held: Duration::ZERO, body })
}

/// Reads a server's packet.
///
/// # Errors
/// See [`PacketError`].
pub fn open_answer<'a>(key: &Key, packet: &'a [u8]) -> Result<Opened<ServerBody<'a>>, PacketError> {
    let (kind, header, mut body) = open(key.answers(), packet, &(WELCOME..=REFUSED))?;
    let held = Duration::from_micros(u64::from(body.try_get_u32()?));
    let body = read_answer(kind, &mut body)?;
    Ok(Opened { header, held, body })
}

fn seal(
    seal: Seal,
    header: &Header,
    kind: u8,
    data_bytes: usize,
    packet: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>),
) {
    packet.clear();
    // Without this, the growing packet would be copied several times.
    packet.reserve(HEADER_BYTES + FRAGMENT_HEAD_BYTES + data_bytes + TAG_BYTES);
    packet.put_u16(MAGIC);
    packet.put_u8(VERSION);
    packet.put_u8(kind);
    for number in [
        header.port.0,
        header.epoch.0,
        header.client.id.0,
        header.client.generation.0,
        header.ticket.issued_us,
        header.ticket.proof,
        header.number.0,
    ] {
        packet.put_u64(number);
    }
    body(packet);
    seal.close(packet);
}

/// Opens a packet, with cheap checks first: a foreign packet costs a comparison, a forged one its
/// hash.
fn open<'a>(
    seal: Seal,
    packet: &'a [u8],
    kinds: &std::ops::RangeInclusive<u8>,
) -> Result<(u8, Header, &'a [u8]), PacketError> {
    let [m0, m1, version, kind, ..] = *packet else { return Err(PacketError::Foreign) };
    if u16::from_be_bytes([m0, m1]) != MAGIC
        || version != VERSION
        || !kinds.contains(&kind)
        || packet.len() < HEADER_BYTES
    {
        return Err(PacketError::Foreign);
    }
    let content = seal.open(packet).ok_or(PacketError::Unauthentic)?;
    let mut rest = content.get(4..).ok_or(PacketError::Malformed)?;
    let header = read_header(&mut rest)?;
    Ok((kind, header, rest))
}

fn read_header(rest: &mut &[u8]) -> Result<Header, PacketError> {
    Ok(Header {
        port: Port(rest.try_get_u64()?),
        epoch: Epoch(rest.try_get_u64()?),
        client: Identity {
            id: ClientId(rest.try_get_u64()?),
            generation: ClientGeneration(rest.try_get_u64()?),
        },
        ticket: Ticket { issued_us: rest.try_get_u64()?, proof: rest.try_get_u64()? },
        number: PacketNumber(rest.try_get_u64()?),
    })
}

fn kind_of_question(question: &ClientBody<'_>) -> u8 {
    match question {
        ClientBody::Hello => HELLO,
        ClientBody::Request(_) => REQUEST,
        ClientBody::Ask(_) => ASK,
        ClientBody::Cancel { .. } => CANCEL,
        ClientBody::Ended { .. } => ENDED,
    }
}

fn write_question(question: &ClientBody<'_>, packet: &mut Vec<u8>) {
    match question {
        ClientBody::Hello => packet.put_bytes(0, HELLO_PADDING),
        ClientBody::Request(request) => write_request(request, packet),
        ClientBody::Ask(ask) => write_ask(ask, packet),
        ClientBody::Cancel { sequence, floor } => {
            packet.put_u64(sequence.0);
            packet.put_u64(floor.0);
            packet.put_bytes(0, CANCEL_PADDING);
        }
        ClientBody::Ended { floor, sequences } => write_ended(*floor, sequences, packet),
    }
}

fn write_request(request: &RequestPart<'_>, packet: &mut Vec<u8>) {
    packet.put_u64(request.sequence.0);
    packet.put_u64(request.floor.0);
    packet.put_u32(millis(request.patience));
    packet.put_u32(millis(request.limit));
    packet.put_u32(request.credit_bytes);
    packet.put_u32(request.datagram_bytes);
    packet.put_u8(u8::from(request.report));
    write_fragment(&request.fragment, packet);
}

fn write_ended(floor: Sequence, sequences: &[Sequence], packet: &mut Vec<u8>) {
    packet.put_u64(floor.0);
    for sequence in sequences {
        packet.put_u64(sequence.0);
    }
}

fn write_ask(ask: &Ask, packet: &mut Vec<u8>) {
    packet.put_u64(ask.sequence.0);
    packet.put_u64(ask.floor.0);
    packet.put_u32(millis(ask.patience));
    write_ranges(&ask.wanted, packet);
}

fn read_question<'a>(kind: u8, body: &mut &'a [u8]) -> Result<ClientBody<'a>, PacketError> {
    let question = match kind {
        HELLO => {
            skip(body, HELLO_PADDING)?;
            ClientBody::Hello
        }
        REQUEST => ClientBody::Request(read_request(body)?),
        ASK => ClientBody::Ask(read_ask(body)?),
        CANCEL => {
            let (sequence, floor) = (Sequence(body.try_get_u64()?), Sequence(body.try_get_u64()?));
            skip(body, CANCEL_PADDING)?;
            ClientBody::Cancel { sequence, floor }
        }
        ENDED => read_ended(body)?,
        _ => return Err(PacketError::Foreign),
    };
    ended(body).map(|()| question)
}

fn read_request<'a>(body: &mut &'a [u8]) -> Result<RequestPart<'a>, PacketError> {
    Ok(RequestPart {
        sequence: Sequence(body.try_get_u64()?),
        floor: Sequence(body.try_get_u64()?),
        patience: read_millis(body)?,
        limit: read_millis(body)?,
        credit_bytes: body.try_get_u32()?,
        datagram_bytes: body.try_get_u32()?,
        report: read_bool(body)?,
        fragment: read_fragment(body)?,
    })
}

fn read_ended(body: &mut &[u8]) -> Result<ClientBody<'static>, PacketError> {
    let floor = Sequence(body.try_get_u64()?);
    let mut sequences = Vec::new();
    while !body.is_empty() && sequences.len() < MAX_ENDED {
        sequences.push(Sequence(body.try_get_u64()?));
    }
    Ok(ClientBody::Ended { floor, sequences })
}

fn read_ask(body: &mut &[u8]) -> Result<Ask, PacketError> {
    Ok(Ask {
        sequence: Sequence(body.try_get_u64()?),
        floor: Sequence(body.try_get_u64()?),
        patience: read_millis(body)?,
        wanted: read_ranges(body)?,
    })
}

fn kind_of_answer(answer: &ServerBody<'_>) -> u8 {
    match answer {
        ServerBody::Welcome(_) => WELCOME,
        ServerBody::Reply { .. } => REPLY,
        ServerBody::Working { .. } => WORKING,
        ServerBody::Got(_) => GOT,
        ServerBody::Refused { .. } => REFUSED,
    }
}

fn write_answer(answer: &ServerBody<'_>, packet: &mut Vec<u8>) {
    match answer {
        ServerBody::Welcome(terms) => write_terms(terms, packet),
        ServerBody::Reply { sequence, fragment } => {
            packet.put_u64(sequence.0);
            write_fragment(fragment, packet);
        }
        ServerBody::Working { sequence } => packet.put_u64(sequence.0),
        ServerBody::Got(got) => {
            packet.put_u64(got.sequence.0);
            packet.put_u32(got.newest);
            packet.put_u32(got.next);
            write_ranges(&got.beyond, packet);
        }
        ServerBody::Refused { sequence, why, terms } => {
            packet.put_u64(sequence.0);
            packet.put_u8(refusal_code(*why));
            write_terms(terms, packet);
        }
    }
}

fn read_answer<'a>(kind: u8, body: &mut &'a [u8]) -> Result<ServerBody<'a>, PacketError> {
    let answer = match kind {
        WELCOME => ServerBody::Welcome(read_terms(body)?),
        REPLY => ServerBody::Reply {
            sequence: Sequence(body.try_get_u64()?),
            fragment: read_fragment(body)?,
        },
        WORKING => ServerBody::Working { sequence: Sequence(body.try_get_u64()?) },
        GOT => ServerBody::Got(read_got(body)?),
        REFUSED => ServerBody::Refused {
            sequence: Sequence(body.try_get_u64()?),
            why: refusal(body.try_get_u8()?)?,
            terms: read_terms(body)?,
        },
        _ => return Err(PacketError::Foreign),
    };
    ended(body).map(|()| answer)
}

fn read_got(body: &mut &[u8]) -> Result<Got, PacketError> {
    Ok(Got {
        sequence: Sequence(body.try_get_u64()?),
        newest: body.try_get_u32()?,
        next: body.try_get_u32()?,
        beyond: read_ranges(body)?,
    })
}

fn refusal_code(why: Refusal) -> u8 {
    match why {
        Refusal::Epoch => 1,
        Refusal::NoSession => 2,
        Refusal::Gone => 3,
        Refusal::Busy => 4,
        Refusal::TooLong => 5,
        Refusal::Cancelled => 6,
        Refusal::Abandoned => 7,
    }
}

fn refusal(code: u8) -> Result<Refusal, PacketError> {
    Ok(match code {
        1 => Refusal::Epoch,
        2 => Refusal::NoSession,
        3 => Refusal::Gone,
        4 => Refusal::Busy,
        5 => Refusal::TooLong,
        6 => Refusal::Cancelled,
        7 => Refusal::Abandoned,
        _ => return Err(PacketError::Malformed),
    })
}

fn write_terms(terms: &Terms, packet: &mut Vec<u8>) {
    packet.put_u32(millis(terms.idle));
    packet.put_u32(terms.window_bytes);
}

fn read_terms(body: &mut &[u8]) -> Result<Terms, PacketError> {
    Ok(Terms { idle: read_millis(body)?, window_bytes: body.try_get_u32()? })
}

fn write_fragment(fragment: &Fragment<'_>, packet: &mut Vec<u8>) {
    packet.put_u32(fragment.total_bytes);
    packet.put_u32(fragment.chunk_bytes);
    packet.put_u32(fragment.index);
    packet.put_slice(fragment.data);
}

/// Reads a fragment, which is always the last part of a packet.
fn read_fragment<'a>(body: &mut &'a [u8]) -> Result<Fragment<'a>, PacketError> {
    let (total_bytes, chunk_bytes, index) =
        (body.try_get_u32()?, body.try_get_u32()?, body.try_get_u32()?);
    let fragment = Fragment { total_bytes, chunk_bytes, index, data: std::mem::take(body) };
    fragment.is_sound().then_some(fragment).ok_or(PacketError::Malformed)
}

fn write_ranges(ranges: &Ranges, packet: &mut Vec<u8>) {
    packet.put_u8(u8::try_from(ranges.as_slice().len()).unwrap_or(u8::MAX));
    for range in ranges.as_slice() {
        packet.put_u32(range.start);
        packet.put_u32(range.end);
    }
}

fn read_ranges(body: &mut &[u8]) -> Result<Ranges, PacketError> {
    let count = usize::from(body.try_get_u8()?);
    let mut ranges = Ranges::default();
    let mut lowest = 0;
    for _ in 0..count.min(MAX_RANGES + 1) {
        let range = body.try_get_u32()?..body.try_get_u32()?;
        let sound = range.start >= lowest && range.start < range.end;
        lowest = range.end.saturating_add(1);
        if !sound || !ranges.push(range) {
            return Err(PacketError::Malformed);
        }
    }
    Ok(ranges)
}

fn read_millis(body: &mut &[u8]) -> Result<Duration, PacketError> {
    Ok(Duration::from_millis(u64::from(body.try_get_u32()?)))
}

fn read_bool(body: &mut &[u8]) -> Result<bool, PacketError> {
    match body.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(PacketError::Malformed),
    }
}

fn skip(body: &mut &[u8], bytes: usize) -> Result<(), PacketError> {
    *body = body.get(bytes..).ok_or(PacketError::Malformed)?;
    Ok(())
}

fn ended(body: &[u8]) -> Result<(), PacketError> {
    if body.is_empty() { Ok(()) } else { Err(PacketError::Malformed) }
}
