//! Attribute lists: decoded bytes are encoded and decoded to the same, and a prefix never says more
//! than the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postfix_wire::attr::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some((list, consumed))) = decode(bytes) else { return };
    assert!((1..=bytes.len()).contains(&consumed));
    assert_eq!(decode(&bytes[..consumed - 1]), Ok(None));
    let mut again = Vec::new();
    encode(&mut again, &list.iter().collect::<Vec<_>>());
    // Each byte that was no text became three bytes, so the result may be too long.
    if let Ok(decoded) = decode(&again) {
        assert_eq!(decoded, Some((list, again.len())));
    }
});
