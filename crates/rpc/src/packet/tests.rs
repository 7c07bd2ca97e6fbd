use proptest::prelude::*;

use super::*;
use crate::{ClientGeneration, ClientId, Key, Sequence};

fn key() -> Key {
    Key::from_secret(b"shared")
}

fn header() -> Header {
    Header {
        port: Port(1),
        epoch: Epoch(2),
        client: Identity { id: ClientId(3), generation: ClientGeneration(4) },
        ticket: Ticket { issued_us: 5, proof: 6 },
        number: PacketNumber(7),
    }
}

const TERMS: Terms = Terms { idle: Duration::from_secs(60), window_bytes: 65_536 };

fn fragment(data: &[u8]) -> Fragment<'_> {
    Fragment { total_bytes: u32::try_from(data.len()).unwrap(), chunk_bytes: 1_024, index: 0, data }
}

fn request(data: &[u8]) -> ClientBody<'_> {
    let sequence = Sequence(8);
    let second = Duration::from_secs(1);
    let (credit_bytes, datagram_bytes) = (9, 10);
    let fragment = fragment(data);
    ClientBody::Request(RequestPart {
        sequence,
        floor: sequence,
        patience: second,
        limit: second,
        credit_bytes,
        datagram_bytes,
        report: true,
        fragment,
    })
}

fn ask(wanted: Vec<u32>) -> ClientBody<'static> {
    let wanted = Ranges::from_indices(wanted);
    ClientBody::Ask(Ask {
        sequence: Sequence(8),
        floor: Sequence(7),
        patience: Duration::from_secs(2),
        wanted,
    })
}

fn questions() -> Vec<ClientBody<'static>> {
    let cancel = ClientBody::Cancel { sequence: Sequence(8), floor: Sequence(7) };
    let ended = ClientBody::Ended { floor: Sequence(7), sequences: vec![Sequence(3), Sequence(5)] };
    vec![
        ClientBody::Hello,
        request(b""),
        request(b"data"),
        ask(vec![]),
        ask(vec![1, 2, 5]),
        cancel,
        ended,
    ]
}

fn answers() -> Vec<ServerBody<'static>> {
    let sequence = Sequence(8);
    let got = Got { sequence, newest: 9, next: 3, beyond: Ranges::from_indices(vec![5, 9]) };
    let refused = |why| ServerBody::Refused { sequence, why, terms: TERMS };
    let mut answers =
        vec![ServerBody::Welcome(TERMS), ServerBody::Working { sequence }, ServerBody::Got(got)];
    answers.push(ServerBody::Reply { sequence, fragment: fragment(b"reply") });
    answers.extend([Refusal::Epoch, Refusal::NoSession, Refusal::Gone, Refusal::Busy].map(refused));
    answers.extend([Refusal::TooLong, Refusal::Cancelled, Refusal::Abandoned].map(refused));
    answers
}

fn sealed_question(question: &ClientBody<'_>) -> Vec<u8> {
    let mut packet = Vec::new();
    seal_question(&key(), &header(), question, &mut packet);
    packet
}

fn sealed_answer(answer: &ServerBody<'_>) -> Vec<u8> {
    let mut packet = Vec::new();
    seal_answer(&key(), &header(), Duration::from_micros(77), answer, &mut packet);
    packet
}

#[test]
fn a_packet_that_is_written_is_read() {
    for question in questions() {
        let packet = sealed_question(&question);
        let opened = open_question(&key(), &packet).unwrap();
        assert_eq!((opened.header, opened.body), (header(), question));
        assert_eq!(open_answer(&key(), &packet), Err(PacketError::Foreign));
    }
    for answer in answers() {
        let packet = sealed_answer(&answer);
        let opened = open_answer(&key(), &packet).unwrap();
        assert_eq!(
            (opened.header, opened.held, opened.body),
            (header(), Duration::from_micros(77), answer)
        );
    }
}

#[test]
fn a_packet_cut_or_prolonged_is_refused() {
    for question in questions() {
        let packet = sealed_question(&question);
        for length in 0..packet.len() {
            assert!(open_question(&key(), &packet[..length]).is_err());
        }
        let longer = [&packet[..], b"x"].concat();
        assert!(open_question(&key(), &longer).is_err());
    }
}

#[test]
fn no_answer_without_a_session_is_longer_than_the_shortest_question() {
    let shortest =
        questions().iter().map(|question| sealed_question(question).len()).min().unwrap();
    let without_session = |answer: &&ServerBody<'_>| {
        matches!(answer, ServerBody::Welcome(_) | ServerBody::Refused { .. })
    };
    let hello = sealed_question(&ClientBody::Hello).len();
    assert!(sealed_answer(&ServerBody::Welcome(TERMS)).len() <= hello);
    for question in questions().iter().filter(|question| **question != ClientBody::Hello) {
        for answer in answers().iter().filter(without_session) {
            assert!(
                sealed_answer(answer).len() <= sealed_question(question).len(),
                "{answer:?} {question:?}"
            );
        }
    }
    assert!(shortest >= hello);
}

#[test]
fn a_fragment_fills_its_datagram() {
    for datagram_bytes in [MIN_DATAGRAM_BYTES, 1_452, MAX_DATAGRAM_BYTES] {
        let chunk = chunk_bytes(datagram_bytes);
        let data = vec![0; chunk];
        let mut full = fragment(&data);
        full.chunk_bytes = u32::try_from(chunk).unwrap();
        let ClientBody::Request(request) = request(b"") else { panic!() };
        let packet =
            sealed_question(&ClientBody::Request(RequestPart { fragment: full, ..request }));
        assert_eq!(packet.len(), datagram_bytes);
    }
}

#[test]
fn fragments_that_contradict_themselves_are_malformed() {
    let data = [0; 600];
    let sound = Fragment { total_bytes: 1_100, chunk_bytes: 600, index: 0, data: &data };
    assert!(sound.is_sound());
    for (total_bytes, chunk_bytes, index, length) in [
        (1_100, 600, 1, 600),
        (1_100, 600, 2, 0),
        (1_100, 0, 0, 0),
        (u32::MAX, 600, 0, 600),
        (1_100, 600, u32::MAX, 600),
        (1_100, 10, 0, 10),
    ] {
        let unsound = Fragment { total_bytes, chunk_bytes, index, data: &data[..length] };
        assert!(!unsound.is_sound(), "{unsound:?}");
    }
}

proptest! {
    /// Any holder of the key can make such a packet. The packet must be read without harm, and
    /// written back the same.
    #[test]
    fn any_content_under_a_right_hash_is_read_without_harm(
        kind in 0_u8..32,
        content in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut packet = [b"OR", &[1, kind][..], &content].concat();
        if kind < 16 {
            key().questions().close(&mut packet);
        } else {
            key().answers().close(&mut packet);
        }
        if let Ok(opened) = open_question(&key(), &packet) {
            let mut again = Vec::new();
            seal_question(&key(), &opened.header, &opened.body, &mut again);
            let padded = matches!(opened.body, ClientBody::Hello | ClientBody::Cancel { .. });
            prop_assert!(padded || again == packet);
        }
        if let Ok(opened) = open_answer(&key(), &packet) {
            let mut again = Vec::new();
            seal_answer(&key(), &opened.header, opened.held, &opened.body, &mut again);
            prop_assert_eq!(again, packet);
        }
    }
}
