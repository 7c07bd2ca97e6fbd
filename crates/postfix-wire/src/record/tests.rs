use std::io::{BufReader, Cursor};

use proptest::prelude::*;

use super::*;

fn any_kind() -> impl Strategy<Value = RecordType> {
    prop::sample::select(RecordType::ALL.to_vec())
}

fn any_record() -> impl Strategy<Value = (RecordType, Vec<u8>)> {
    (any_kind(), prop::collection::vec(any::<u8>(), 0..400)).prop_map(|(kind, mut data)| {
        if !kind.is_content() {
            data.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
        }
        (kind, data)
    })
}

fn encode(records: &[(RecordType, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, data) in records {
        put(&mut out, *kind, data);
    }
    out
}

/// Returns all records of a slice, and the error after them, if any.
fn whole(bytes: &[u8]) -> (Vec<(RecordType, Vec<u8>)>, Option<String>) {
    let mut records = Vec::new();
    for record in Records::new(bytes) {
        match record {
            Ok(record) => records.push((record.kind, record.data.to_vec())),
            Err(error) => return (records, Some(error.to_string())),
        }
    }
    (records, None)
}

/// Returns all records of a stream that gives `chunk` bytes at a time, and the error after them, if
/// any.
fn streamed(bytes: &[u8], chunk: usize) -> (Vec<(RecordType, Vec<u8>)>, Option<String>) {
    let mut reader =
        RecordReader::new(BufReader::with_capacity(chunk, Cursor::new(bytes)), MAX_DATA_BYTES);
    let (mut records, mut buf) = (Vec::new(), Vec::new());
    loop {
        match reader.next(&mut buf) {
            Ok(Some(kind)) => records.push((kind, buf.clone())),
            Ok(None) => return (records, None),
            Err(error) => return (records, Some(error.to_string())),
        }
    }
}

proptest! {
    #[test]
    fn records_that_are_written_are_read(records in prop::collection::vec(any_record(), 0..20)) {
        prop_assert_eq!(whole(&encode(&records)), (records, None));
    }

    #[test]
    fn a_stream_reads_what_a_slice_reads(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        chunk in 1usize..40,
    ) {
        prop_assert_eq!(streamed(&bytes, chunk), whole(&bytes));
    }

    #[test]
    fn a_damaged_stream_reads_as_a_damaged_slice(
        records in prop::collection::vec(any_record(), 1..8),
        cut in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
        mask in any::<u8>(),
        chunk in 1usize..40,
    ) {
        let mut bytes = encode(&records);
        let at = flip.index(bytes.len());
        bytes[at] ^= mask;
        bytes.truncate(cut.index(bytes.len() + 1));
        prop_assert_eq!(streamed(&bytes, chunk), whole(&bytes));
    }
}

#[test]
fn every_letter_of_the_headers_is_a_type() {
    let generated = include_str!("../constants.rs");
    let mut letters = 0;
    for line in generated
        .lines()
        .filter(|line| line.starts_with("pub const REC_TYPE_") && line.contains(": u8 ="))
    {
        let value =
            line.rsplit(" = ").next().unwrap().trim_end_matches("u8;").trim_end_matches(';');
        assert!(RecordType::try_from(value.parse::<u8>().unwrap()).is_ok(), "{line}");
        letters += 1;
    }
    // The types FILT and CONT share a letter.
    assert_eq!(letters, RecordType::ALL.len() + 1);
}

#[test]
fn a_byte_is_a_type_exactly_when_the_type_is_that_byte() {
    for byte in 0..=u8::MAX {
        match RecordType::try_from(byte) {
            Ok(kind) => assert_eq!(u8::from(kind), byte),
            Err(back) => assert_eq!(back, byte),
        }
    }
    assert_eq!(RecordType::try_from(0), Err(0));
}

#[test]
fn lengths_at_the_edges_are_read() {
    for (length, encoded) in
        [(0, vec![0]), (127, vec![127]), (128, vec![0x80, 1]), (16_384, vec![0x80, 0x80, 1])]
    {
        let mut out = Vec::new();
        put(&mut out, RecordType::Norm, &vec![b'x'; length]);
        assert_eq!(out[1..=encoded.len()], encoded);
        assert_eq!(whole(&out), (vec![(RecordType::Norm, vec![b'x'; length])], None));
    }
}

#[test]
fn lengths_beyond_an_int_are_errors() {
    for length in [&[0xff, 0xff, 0xff, 0xff, 0x08][..], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]] {
        let bytes = [b"N", length].concat();
        let error = Records::new(&bytes).next().unwrap().unwrap_err();
        assert!(matches!(error, RecordError::MalformedLength(RecordType::Norm)), "{error}");
    }
    let longest = [b"N", &[0xff, 0xff, 0xff, 0xff, 0x07][..]].concat();
    assert!(matches!(Records::new(&longest).next(), Some(Err(RecordError::Truncated))));
}

#[test]
fn a_padded_length_is_still_a_length() {
    let bytes = [b'N', 0x81, 0x80, 0x00, b'x'];
    assert_eq!(whole(&bytes), (vec![(RecordType::Norm, b"x".to_vec())], None));
}

#[test]
fn line_ends_and_nul_are_for_content_only() {
    for byte in [b'\r', b'\n', 0] {
        for &kind in RecordType::ALL {
            let mut bytes = Vec::new();
            put(&mut bytes, kind, &[b'a', byte, b'b']);
            assert_eq!(
                Records::new(&bytes).next().unwrap().is_ok(),
                kind.is_content(),
                "{kind:?} {byte}"
            );
        }
    }
}

#[test]
fn the_limit_is_on_data() {
    let mut bytes = Vec::new();
    put(&mut bytes, RecordType::Rcpt, b"12345");
    let mut buf = Vec::new();
    assert_eq!(RecordReader::new(&bytes[..], 5).next(&mut buf).unwrap(), Some(RecordType::Rcpt));
    let error = RecordReader::new(&bytes[..], 4).next(&mut buf).unwrap_err();
    assert!(matches!(error, RecordError::TooLong { length: 5, limit: 4, .. }), "{error}");
}

#[test]
fn an_error_is_the_last_item() {
    let mut records = Records::new(b"N\x01xZZ");
    assert!(records.next().unwrap().is_ok());
    assert!(matches!(records.next(), Some(Err(RecordError::UnknownType(b'Z')))));
    assert!(records.next().is_none());
}

#[test]
fn segments_end_where_postfix_ends_them() {
    for segment in [Segment::Envelope, Segment::Content, Segment::Extracted] {
        assert!(segment.accepts(segment.end()) && segment.accepts_from_user(segment.end()));
    }
    assert!(
        Segment::Envelope.accepts(RecordType::Time)
            && !Segment::Envelope.accepts_from_user(RecordType::Time)
    );
    assert!(!Segment::Content.accepts(RecordType::Rcpt));
}
