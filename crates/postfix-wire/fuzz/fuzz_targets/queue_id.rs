//! Queue ids: each accepted text is letters and digits, and its path stays in its queue.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use postfix_wire::{QueueId, QueueName};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(id) = text.parse::<QueueId>() else { return };
    assert_eq!(id.as_str(), text);
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()) && id.inode().is_some());
    assert_eq!(id.is_long(), id.time().is_some());
    let path = id.path(QueueName::Deferred, bytes.len() % 8);
    assert!(path.starts_with("deferred") && path.ends_with(Path::new(text)));
    assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
});
