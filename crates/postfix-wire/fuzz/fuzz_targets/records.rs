//! Records: a stream gives the same records as a slice, and written back they take no more bytes.
#![no_main]

use std::io::{BufReader, Cursor};

use libfuzzer_sys::fuzz_target;
use postfix_wire::record::{MAX_DATA_BYTES, put};
use postfix_wire::{RecordReader, Records};

fuzz_target!(|bytes: &[u8]| {
    let chunk = usize::from(bytes.first().copied().unwrap_or_default()) + 1;
    let mut reader =
        RecordReader::new(BufReader::with_capacity(chunk, Cursor::new(bytes)), MAX_DATA_BYTES);
    let (mut data, mut again) = (Vec::new(), Vec::new());
    for record in Records::new(bytes) {
        match (record, reader.next(&mut data)) {
            (Ok(record), Ok(kind)) => {
                assert_eq!((Some(record.kind), record.data), (kind, data.as_slice()));
                put(&mut again, record.kind, record.data);
            }
            (Err(ours), Err(theirs)) => {
                assert_eq!(ours.to_string(), theirs.to_string());
                return;
            }
            (ours, theirs) => panic!("{ours:?}, {theirs:?}"),
        }
    }
    assert!(matches!(reader.next(&mut data), Ok(None)));
    // The input may pad a length. A written length is never padded.
    assert!(again.len() <= bytes.len());
});
