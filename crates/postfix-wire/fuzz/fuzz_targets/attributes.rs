//! Attribute lists: a decoded list that is encoded decodes to the same list, and a list without its
//! last byte asks for more bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postfix_wire::attr::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some((list, consumed))) = decode(bytes) else { return };
    assert!((1..=bytes.len()).contains(&consumed));
    assert_eq!(decode(&bytes[..consumed - 1]), Ok(None));
    let mut again = Vec::new();
    encode(&mut again, &list.iter().collect::<Vec<_>>());
    // Decoding makes three bytes of each byte that is not UTF-8, so the result may be too long.
    if let Ok(decoded) = decode(&again) {
        assert_eq!(decoded, Some((list, again.len())));
    }
});
