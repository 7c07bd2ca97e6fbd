//! Messages just below `message_size_limit`, by the byte, from stock's sendmail and from OPTIMUS's,
//! through to their delivery.

use std::path::Path;

use testbed::until;

use super::common::{LONG, Plan, Platform};

const LIMIT: usize = 20_000;
/// Number of bytes by which OPTIMUS's attributes of a queue file narrow the limit.
const ATTRIBUTES: usize = 172;
/// Number of bytes by which two messages of one size may differ in a queue file: digits of the time
/// and of the lot's number.
const DIGITS: usize = 8;

/// Returns a message of exactly so many bytes.
fn sized(size: usize) -> Vec<u8> {
    let head = "Message-Id: <x@example.org>\nDate: Mon, 30 Nov 2026 00:00:00 +0000\n\
        From: <from@example.org>\nSubject: x\n\n";
    let body = ("x".repeat(99) + "\n").repeat(size / 100);
    let mut message = (head.to_owned() + &body).into_bytes();
    message.truncate(size - 1);
    message.push(b'\n');
    message
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Delivered,
    /// Cleanup has found it too large.
    Returned,
    /// `sendmail` has.
    Refused,
}

/// Submits a message, and waits for what becomes of it.
fn outcome(platform: &Platform, sendmail: &Path, size: usize) -> Outcome {
    let before = platform.sink.received().len();
    let arguments = ["-i", "-f", "from@example.org", "to@example.org"];
    let output = platform.postfix.sendmail(sendmail, &arguments, &sized(size)).unwrap();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("too big"), "{said}");
        return Outcome::Refused;
    }
    until(LONG, "an outcome", || platform.sink.received().len() > before).unwrap();
    match platform.sink.received()[before].sender.as_str() {
        "" => Outcome::Returned,
        _ => Outcome::Delivered,
    }
}

/// Returns the largest size with this outcome, or one before it, as closely as [`DIGITS`] lets it
/// be told.
fn largest(platform: &Platform, sendmail: &Path, wanted: Outcome) -> usize {
    let is_so = |size| outcome(platform, sendmail, size) <= wanted;
    let (mut fits, mut too_large) = (LIMIT / 2, 2 * LIMIT);
    while too_large - fits > 1 {
        let middle = fits.midpoint(too_large);
        if is_so(middle) { fits = middle } else { too_large = middle }
    }
    for bytes in DIGITS..DIGITS + 3 {
        assert!(is_so(fits - bytes) && !is_so(fits + bytes), "{fits}, {bytes}");
    }
    fits
}

#[test]
fn the_size_limit_is_stock_s_but_for_what_a_queue_file_says_of_its_message() {
    let postfix = |it: testbed::PostfixBuilder| it.main("message_size_limit = 20000");
    let mut platform = Plan { redis: true, postfix, ..Plan::default() }.start();
    platform.start("optimus");
    let [stock, ours] = [Path::new("/usr/sbin/sendmail"), &testbed::bin("sendmail")].map(|it| {
        let accepted = largest(&platform, it, Outcome::Returned);
        (accepted, largest(&platform, it, Outcome::Delivered))
    });
    eprintln!("accepted and delivered: stock {stock:?}, ours {ours:?}");
    assert!(ours.0.abs_diff(stock.0) <= DIGITS, "accepted: stock {stock:?}, ours {ours:?}");
    let narrowed = stock.1 - ours.1;
    assert!(narrowed.abs_diff(ATTRIBUTES) <= DIGITS, "delivered: stock {stock:?}, ours {ours:?}");
}
