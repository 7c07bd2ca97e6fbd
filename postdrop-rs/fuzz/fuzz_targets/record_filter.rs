//! Input of postdrop: any bytes give a message, a refusal or an error, within the limits. A message
//! passes a second time unchanged, except for its time record, which the filter writes.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use postdrop_rs::collected::Room;
use postdrop_rs::filter::{Filter, FilterError, FilterLimits};
use postdrop_rs::postdrop::{Received, receive};
use postfix_wire::record::{RecordType, Records};

const LIMITS: FilterLimits = FilterLimits { message: Some(4096), record: 512 };

fn received(bytes: &[u8], warn: &mut dyn FnMut(String)) -> Result<Option<Vec<u8>>, FilterError> {
    let filter = Filter::new(LIMITS, Duration::ZERO, &|_| Ok(()), Room::memory());
    Ok(match receive(bytes, LIMITS.record, filter, warn)? {
        Received::Message(kept) => Some(kept.into_bytes().expect("in memory")),
        Received::Refused(_) | Received::Cancelled => None,
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(kept)) = received(bytes, &mut drop) else { return };
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
    let again = received(&kept[5..], &mut |warning| panic!("{warning}"));
    assert_eq!(again.ok(), Some(Some(kept)));
});
