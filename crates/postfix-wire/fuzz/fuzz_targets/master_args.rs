//! Command lines of a service: the reader accepts or refuses each line, and loses no operand.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postfix_wire::MasterArgs;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let argv: Vec<&str> = text.split('\0').collect();
    let Ok(args) = MasterArgs::parse(argv.iter().copied()) else { return };
    assert!(args.socket_count > 0);
    assert!(argv.ends_with(&args.operands.iter().map(String::as_str).collect::<Vec<_>>()));
});
