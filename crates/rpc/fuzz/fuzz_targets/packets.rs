//! Packets of any bytes. A packet without a right hash must not be read. A packet that is read must
//! be written back the same, and no part of the packet may be read as a whole one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rpc::Key;
use rpc::packet::{Question, open_answer, open_question, seal_answer, seal_question};

fuzz_target!(|bytes: &[u8]| {
    // Every packet begins with these bytes, which the fuzzer needn't find.
    let packet = [b"OR\x01", bytes].concat();
    let key = Key::from_secret(b"fuzz");
    assert!(open_question(&key, &packet).is_err() && open_answer(&key, &packet).is_err());
    question(&packet);
    answer(&packet);
});

fn question(packet: &[u8]) {
    let key = Key::none();
    let Ok(opened) = open_question(&key, packet) else { return };
    assert!(open_answer(&key, packet).is_err());
    let mut again = Vec::new();
    seal_question(&key, &opened.header, &opened.body, &mut again);
    // Padding is not read.
    let is_padded = matches!(opened.body, Question::Hello | Question::Cancel { .. });
    assert!(again == packet || is_padded && again.len() == packet.len());
    assert!(open_question(&key, &packet[..packet.len() - 1]).is_err());
}

fn answer(packet: &[u8]) {
    let key = Key::none();
    let Ok(opened) = open_answer(&key, packet) else { return };
    assert!(open_question(&key, packet).is_err());
    let mut again = Vec::new();
    seal_answer(&key, &opened.header, opened.held, &opened.body, &mut again);
    assert_eq!(again, packet);
    assert!(open_answer(&key, &packet[..packet.len() - 1]).is_err());
}
