//! Command line and standard input of sendmail: postdrop's filter accepts any resulting message.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use postdrop_rs::collected::Room;
use postdrop_rs::compose::{Envelope, Rules, compose};
use postdrop_rs::content::{ContentRules, LineEndings};
use postdrop_rs::filter::{Filter, FilterLimits};
use postdrop_rs::options::{Context, Invocation, config_directories};
use postdrop_rs::postdrop::{Received, receive};

const LIMITS: FilterLimits = FilterLimits { message: None, record: 64 };

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |&byte| byte == 0xff);
    let arguments: Vec<_> =
        parts.next().unwrap_or_default().split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
    config_directories(arguments.clone(), &mut drop);
    let parameter =
        |name: &str| if name == "verp_delimiter_filter" { "-=+" } else { "+=" }.to_owned();
    let context = Context { name: b"sendmail", parameter: &parameter, say: &mut drop };
    let Ok(invocation) = Invocation::parse(arguments, context) else { return };
    let content = ContentRules {
        line_endings: LineEndings::Strict,
        dot_ends: invocation.dot_ends,
        line_limit: LIMITS.record,
    };
    let envelope = Envelope { sender: b"ann".to_vec(), full_name: invocation.full_name.clone() };
    let mut filter = Filter::new(LIMITS, Duration::ZERO, &|_| Ok(()), Room::memory());
    let rules = Rules { content, header_limit: 200 };
    if compose(&invocation, &envelope, rules, parts.next().unwrap_or_default(), &mut filter)
        .is_err()
    {
        return;
    }
    let records =
        filter.finish().expect("sender, recipient and end").into_bytes().expect("in memory");
    let filter = Filter::new(LIMITS, Duration::ZERO, &|_| Ok(()), Room::memory());
    let received =
        receive(&records[5..], LIMITS.record, filter, &mut |warning| panic!("{warning}"));
    let Ok(Received::Message(again)) = received else { panic!("{received:?}") };
    assert_eq!(again.into_bytes().expect("in memory"), records);
});
