//! Cases of command lines: every option, with its value attached and separate, alone and in
//! conflict. Arguments are bytes, not texts.

use super::case::{Case, sendmail};
use super::differences::{LINE_BREAKS, ONE_PROGRAM, VERBOSE_LOG};

const MESSAGE: &[u8] = b"Subject: x\n\nbody\n";

/// Command lines, each of which gets the same message.
const COMMAND_LINES: &[&[&str]] = &[
    // Operands, and where options end.
    &["bob"],
    &["bob", "-f", "x"],
    &["--", "-bob"],
    &["--", "--", "-t"],
    &["-", "bob"],
    &["", "-i"],
    &["-i", "--", "bob"],
    &["-f", "--", "bob"],
    &["-f--", "--", "bob"],
    // The sender.
    &["-f", "ann@example.org", "bob"],
    &["-fann@example.org", "bob"],
    &["-r", "ann", "bob"],
    &["-rann", "-feve", "bob"],
    &["-f", "", "bob"],
    &["-f", "<>", "bob"],
    &["-f<>", "bob"],
    &["-f", " ", "bob"],
    &["-f", "Ann <ann@example.org>", "bob"],
    &["-f", "ann@x (Ann)", "bob"],
    &["-f", "ann, eve", "bob"],
    &["-f", "ann eve fay", "bob"],
    &["-f", "\"a b\"@example.org", "bob"],
    &["-f", "@relay:ann@x", "bob"],
    &["-f", "a;b@c", "bob"],
    &["-f", "g: ann@x, eve@y;", "bob"],
    &["-f", "caf\u{e9}@x", "bob"],
    // The full name.
    &["-F", "Ann B", "bob"],
    &["-FAnn", "bob"],
    &["-F", "", "bob"],
    &["-F", "\"Ann\" (B) <c@d>", "bob"],
    &["-F", "=?utf-8?q?Ann?=", "bob"],
    &["-F", "\u{c9}ve", "-F", "last", "bob"],
    &["-F", "a\tb\u{1}\u{7f}", "bob"],
    // Ways to read standard input; `content.rs` has more.
    &["-i", "bob"],
    &["-oi", "bob"],
    &["-oitem", "bob"],
    &["-t", "bob"],
    &["-ti", "bob"],
    &["-it", "bob"],
    // The body's encoding.
    &["-B8BITMIME", "bob"],
    &["-B", "7BIT", "bob"],
    &["-B7BIT", "-B8BITMIME", "bob"],
    &["-B", "9BIT", "bob"],
    &["-B", "8bitmime", "bob"],
    &["-B", "", "bob"],
    &["-B", "8BITMIME\n", "bob"],
    // Mail from elsewhere.
    &["-G", "bob"],
    &["-Gi", "bob"],
    &["-G", "-f", "ann@x", "-B8BITMIME", "bob"],
    // Notifications.
    &["-N", "never", "bob"],
    &["-Nsuccess", "bob"],
    &["-N", "success,failure,delay", "bob", "eve, fay", ""],
    &["-N", "SUCCESS, Failure\tdelay", "bob"],
    &["-N", "delay", "-N", "failure", "bob"],
    &["-N", "delay", "-N", "wrong", "bob"],
    &["-N", "never,success", "bob"],
    &["-N", "", "bob"],
    &["-N", " , ", "bob"],
    &["-N", "wrong", "bob"],
    &["-N", "success,wrong,delay", "bob"],
    &["-N", "caf\u{e9}", "bob"],
    &["-t", "-Ndelay", "bob"],
    &["-R", "full", "bob"],
    &["-Rhdrs", "bob"],
    &["-R", "HDRS", "-R", "Full", "bob"],
    &["-R", "hdrs", "-R", "wrong", "bob"],
    &["-R", "", "bob"],
    &["-V", "envelope", "bob"],
    &["-Venvelope", "bob"],
    &["-V", "a=b c~!", "bob"],
    &["-V", "", "bob"],
    &["-V", "caf\u{e9}", "bob"],
    &["-V", "tab\there", "bob"],
    &["-V", "abc", "-Vwith-more", "bob"],
    &[
        "-Nnever", "-Rfull", "-Vid-1", "-G", "-F", "x", "-f", "ann@x", "-B7BIT", "-v", "-XV+=",
        "bob", "eve",
    ],
    // VERP by its new name and its old one.
    &["-XV", "bob"],
    &["-XV+=", "bob"],
    &["-X", "V-=", "bob"],
    &["-X", "V", "bob"],
    &["-XVab", "bob"],
    &["-XV+", "bob"],
    &["-XV+=-", "bob"],
    &["-V+=", "bob"],
    &["-V==", "-f", "ann@x", "bob"],
    &["-Vab", "bob"],
    &["-V", "+=", "bob"],
    &["-V", "bo", "bob"],
    &["-V", "-i", "bob"],
    &["-tXV+=", "bob"],
    &["-iXV", "bob"],
    &["-XV", "-f", "", "bob"],
    &["-f", "<>", "-XV+=", "bob"],
    &["-X", "log", "bob"],
    &["-Xlog", "bob"],
    &["-X", "", "bob"],
    // Reports.
    &["-v", "bob"],
    &["-vi", "bob"],
    &["-v", "-f", "", "bob"],
    &["-v", "-f", "\"a b\"@x", "bob"],
    &["-bv", "bob"],
    &["-bv", "bob", "eve@x, fay", "", "Dan <dan@x>"],
    &["-bv", "-f", "ann@x", "bob"],
    &["-bv", "-f", "", "bob"],
    &["-bv", "-F", "Ann B", "-G", "-Vid", "-B8BITMIME", "bob"],
    &["-bv", "-XV", "bob"],
    &["-bv", "-bm", "bob"],
    &["-bv"],
    &["-bv", "-t"],
    &["-bv", "-t", "bob"],
    &["-bv", "-N", "never", "bob"],
    &["-bv", "-N", "wrong", "bob"],
    &["-bv", "-R", "full", "bob"],
    &["-bv", "-v", "bob"],
    &["-bv", "-t", "-N", "never", "-v", "bob"],
    // After -v, ignored options are reported.
    &["-v", "-U", "-om", "-oem", "-o8", "-m", "-L", "tag", "bob"],
    &["-U", "-v", "-c", "-x", "-Ax", "-h", "3", "-O", "A=b", "-p", "x", "-e", "q", "bob"],
    &["-v", "-N", "Success,delay", "bob"],
    &["-v", "-N", "success,wrong", "bob"],
    &["-v", "-o\u{e9}", "bob"],
    &["-v", "-o", "", "bob"],
    // Other ignored options.
    &[
        "-bm", "-om", "-oem", "-o7", "-m", "-h3", "-e", "q", "-x", "-U", "-c", "-Lx", "-O", "A=b",
        "-px", "bob",
    ],
    &["-oAx", "bob"],
    &["-Ac", "-Am", "-A", "x", "bob"],
    &["-o", "DeliveryMode=b", "bob"],
    &["-L", "", "-o", "", "bob"],
    &["-O", "\n", "-o\n", "-bm\n", "bob"],
    &["-bmx", "bob"],
    &["-bp", "-bm", "bob"],
    &["-mUxc", "bob"],
    // Modes without effect.
    &["-bh"],
    &["-bH"],
    &["-bh", "bob"],
    &["-q10m"],
    &["-q1", "-bp", "bob"],
    &["-q10m", "-bm", "bob"],
    &["-q10m", "-t"],
    // Wrong.
    &[],
    &["-f", "ann@x"],
    &["-i"],
    &["-n", "bob"],
    &["-ba"],
    &["-b", ""],
    &["-b\u{e9}"],
    &["-oA"],
    &["-Z"],
    &["-iZY", "bob"],
    &["-\u{e9}", "bob"],
    &["-:"],
    &["-?"],
    &["-W", "x"],
    &["--help"],
    &["-f"],
    &["-tf"],
    &["-V"],
    &["-q", "-tq"],
    &["-Z", "-f"],
    &["-qx"],
    &["-q", ""],
    &["-qR"],
    &["-qI"],
    &["-t", "-bp"],
    &["-t", "-bs"],
    &["-t", "-bd"],
    &["-bi", "-qRx"],
    &["-qIx", "-q"],
    &["-qIx", "-qRy", "-bi"],
    &["-bp", "bob"],
    &["-q", "bob"],
    &["-qRx", "bob"],
    &["-qIx", "bob"],
    &["-bi", "bob"],
    &["-I", "bob"],
    &["-bs", "bob"],
    &["-bd", "bob"],
    &["-bl", "-q", "bob"],
    &["-q", "-bd", "bob"],
    &["-bd", "-q10m", "bob"],
];

/// Other names under which `sendmail` runs, each with options.
const NAMES: &[(&str, &[&str])] = &[
    ("mailq", &["bob"]),
    ("mailq", &["-Z"]),
    ("/usr/bin/mailq", &["-t"]),
    ("newaliases", &["bob"]),
    ("smtpd", &["bob"]),
    ("mailq", &["-bm", "bob"]),
    ("newaliases", &["-bm", "-v", "-U", "bob"]),
    ("send-mail", &["bob"]),
    ("anything", &[]),
    ("a/b/", &[]),
    ("/", &["-n"]),
    ("caf\u{e9}", &["-N", "x"]),
    ("line\nbreak", &[]),
];

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> =
        COMMAND_LINES.iter().map(|arguments| sendmail(arguments, MESSAGE)).collect();
    cases.extend(NAMES.iter().map(|(name, arguments)| sendmail(arguments, MESSAGE).called(name)));
    cases.extend(bytes_that_are_no_text());
    cases.extend(long_values());
    cases.push(sendmail(&["-F", "Ann\nX-Evil: yes", "bob"], MESSAGE).differs(LINE_BREAKS));
    cases.push(sendmail(&["-F", "Ann\r\n\r\nB.\n", "bob"], MESSAGE).differs(LINE_BREAKS));
    cases.push(sendmail(&["-v", "-v", "bob"], MESSAGE).differs(VERBOSE_LOG));
    cases.push(sendmail(&["-bv", "-vv", "bob"], MESSAGE).differs(VERBOSE_LOG));
    cases
}

fn bytes_that_are_no_text() -> impl Iterator<Item = Case> {
    let lines: [&[&[u8]]; 6] = [
        &[b"-f", b"caf\xe9@x", b"b\xffb"],
        &[b"-F", b"\xc3\x28", b"bob"],
        &[b"-f", b"a\nb@x", b"bob\nann", b"\r\n"],
        &[b"-f", b"\"a\rb\"@x", b"d\x0be\x0cf\x01\x7f"],
        &[b"-f", b"a\xe9, b", b"bob"],
        &[b"-V", b"\xe9", b"bob"],
    ];
    lines.into_iter().map(|arguments| sendmail(arguments, MESSAGE))
}

/// Values as long as a record can be, and longer ones.
fn long_values() -> impl Iterator<Item = Case> {
    let value = |length| "x".repeat(length);
    let fits = [
        vec!["-F".to_owned(), value(2048), "bob".to_owned()],
        vec!["-f".to_owned(), value(2048), "bob".to_owned()],
        vec![value(2048)],
        vec!["-V".to_owned(), value(100), "bob".to_owned()],
        vec!["-V".to_owned(), value(101), "bob".to_owned()],
        vec!["-bv".to_owned(), value(2047)],
    ];
    let is_too_long = [
        vec!["-F".to_owned(), value(2049), "bob".to_owned()],
        vec!["-f".to_owned(), value(3000), "bob".to_owned()],
        vec![value(2049)],
        vec!["-bv".to_owned(), value(2048)],
    ];
    let fits = fits.into_iter().map(|arguments| sendmail(&arguments, MESSAGE));
    fits.chain(
        is_too_long.into_iter().map(|arguments| sendmail(&arguments, MESSAGE).differs(ONE_PROGRAM)),
    )
}
