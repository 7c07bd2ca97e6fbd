//! Addresses: any text gives some, in time that grows with the text. No address can end a record or
//! a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postdrop_rs::address::addresses;

fuzz_target!(|bytes: &[u8]| {
    let all = addresses(bytes);
    assert!(all.iter().flatten().all(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
    // An unfinished domain literal gets its bracket.
    assert!(all.iter().map(Vec::len).sum::<usize>() <= bytes.len() + 1);
    assert!(all.len() <= bytes.len());
});
