//! Any bytes into postdrop: a message, a refusal or an error, within the limits; and a message passes a second time
//! unchanged but for its time record, which is always ours.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use postdrop_rs::filter::FilterLimits;
use postdrop_rs::postdrop::{Received, receive};
use postfix_wire::record::{RecordType, Records};

const LIMITS: FilterLimits = FilterLimits { message: Some(4096), record: 512 };

fuzz_target!(|bytes: &[u8]| {
    let Ok(Received::Message(kept)) = receive(bytes, LIMITS, Duration::ZERO, &|_| Ok(()), &mut drop) else { return };
    assert!(kept.len() <= 4096);
    let records: Vec<_> = Records::new(&kept).map(|record| record.expect("well formed")).collect();
    let times = records.iter().filter(|record| record.kind == RecordType::Time).count();
    assert_eq!((times, records[0].data), (1, &b"0 0"[..]));
    for record in &records {
        let inject = record.data.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        assert!(!inject || record.kind.is_content(), "{record:?}");
        assert!(record.kind != RecordType::Attr || !record.data.starts_with(b"optimus"));
    }
    // The time record takes a type, a length and three bytes.
    let again = receive(&kept[5..], LIMITS, Duration::ZERO, &|_| Ok(()), &mut |warning| panic!("{warning}"));
    assert_eq!(again.ok(), Some(Received::Message(kept)));
});
