//! Cases of record streams, as clients of `postdrop` send them and as no client should.

use super::case::{Case, Configuration, main_cf, postdrop};
use super::differences::{CONTROL_CHARACTERS, MALFORMED, TRACE_FLAGS};
use super::support::RecordType::{
    self, Attr, Cont, Ctime, DsnEnvid, DsnNotify, Dtxt, End, From, Full, Mesg, Norm, Ptr, Rcpt,
    Rdr, Rrto, Size, Time, Verp, Warn, Xtra,
};
use super::support::{message, stream};

static SMALL: Configuration = main_cf(&["message_size_limit = 100000"]);

/// Attributes, each of which comes in the envelope and after the content.
const ATTRIBUTES: &[&[u8]] = &[
    b"encoding=8bit",
    b"encoding=7bit",
    b"encoding=",
    b"encoding=base64",
    b"Encoding=8bit",
    b"rewrite_context=local",
    b"rewrite_context=remote",
    b"rewrite_context=other",
    b"trace_flags=512",
    b"trace_flags=1024",
    b"envelope_id=x=y",
    b"envelope_id=",
    b"notify_flags=3",
    b"notify_flags=x",
    b"ret_flags=1",
    b"dsn_orig_rcpt=rfc822;a",
    b"create_time=1",
    b"log_ident=x",
    b"log_client_address=127.0.0.1",
    b"optimus_id=01ARZ3NDEKTSV4RRFFQ69G5FAV",
    b"  envelope_id  =  x y  ",
    b"\tret_flags\t=\t1\t",
    b"\x0bret_flags\x0b=\x0b1\x0b",
    b"\x0c \x0bret_flags=1\x0c",
    b"\x1cret_flags=1",
    b"=x",
    b"x",
    b"",
    b" ",
    b"x y = z",
    b"client_name=localhost",
    b"sasl_username=root",
    b"name=caf\xc3\xa9",
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for attribute in ATTRIBUTES {
        cases.push(postdrop(message(&[(Attr, attribute)], &[], &[(Attr, attribute)])));
    }
    cases.push(postdrop(message(&[(Attr, b"x"), (Attr, b"=y"), (Attr, b"log_ident=z")], &[], &[])));
    cases.extend(whole().into_iter().map(postdrop));
    cases.extend(incomplete().into_iter().map(postdrop));
    cases.extend(misplaced().into_iter().map(postdrop));
    cases.extend(malformed().into_iter().map(|bytes| postdrop(bytes).differs(MALFORMED)));
    cases.extend(
        control_characters().into_iter().map(|bytes| postdrop(bytes).differs(CONTROL_CHARACTERS)),
    );
    for flags in [&b"trace_flags=256"[..], b"trace_flags=x", b"trace_flags=", b"trace_flags=8192"] {
        cases.push(postdrop(message(&[(Attr, flags)], &[], &[])).differs(TRACE_FLAGS));
    }
    cases.extend(lengths());
    cases.extend(sizes());
    cases.extend(command_lines());
    cases
}

fn whole() -> Vec<Vec<u8>> {
    vec![
        message(&[], &[], &[]),
        message(&[(Full, b"Ann B"), (Verp, b"+="), (DsnEnvid, b"x"), (DsnNotify, b"1")], &[], &[]),
        message(
            &[(Rcpt, b"c\xe9@d"), (Rcpt, b"")],
            &[(Norm, b"x\0y\rz"), (Cont, b"no end")],
            &[(Rcpt, b"late")],
        ),
        message(&[(From, b"second@sender"), (Full, b""), (Full, b"twice")], &[], &[]),
        message(&[(Verp, b""), (Attr, b"encoding=8bit")], &[(Norm, b"\n"), (Norm, b"")], &[]),
        stream(&[(Rcpt, b"first"), (From, b"then"), (Mesg, b""), (Xtra, b""), (End, b"")]),
        stream(&[(From, b""), (Mesg, b""), (Xtra, b""), (Rcpt, b"only late"), (End, b"")]),
        [message(&[], &[], &[]), message(&[], &[], &[])].concat(),
        [message(&[], &[], &[]), b"rubbish".to_vec()].concat(),
    ]
}

/// Returns streams that end too early or lack a record.
fn incomplete() -> Vec<Vec<u8>> {
    let whole = message(&[], &[(Norm, b"x")], &[]);
    vec![
        Vec::new(),
        whole[..whole.len() - 2].to_vec(),
        stream(&[(From, b"a")]),
        stream(&[(Rcpt, b"a"), (Mesg, b""), (Xtra, b""), (End, b"")]),
        stream(&[(From, b"a"), (Mesg, b""), (Xtra, b""), (End, b"")]),
        stream(&[(Mesg, b""), (Xtra, b""), (End, b"")]),
    ]
}

/// Returns streams with misplaced records.
fn misplaced() -> Vec<Vec<u8>> {
    vec![
        message(&[(Time, b"1 2")], &[], &[]),
        message(&[(Norm, b"x")], &[], &[]),
        message(&[(Ptr, b"0")], &[], &[]),
        message(&[(Size, b"0")], &[], &[]),
        message(&[(Ctime, b"0")], &[], &[]),
        message(&[(Warn, b"0")], &[], &[]),
        message(&[(Rdr, b"x")], &[], &[]),
        message(&[(Xtra, b"")], &[], &[]),
        message(&[], &[(Rcpt, b"x")], &[]),
        message(&[], &[(Dtxt, b"x")], &[]),
        message(&[], &[(Attr, b"encoding=7bit")], &[]),
        message(&[], &[(Mesg, b"")], &[]),
        message(&[], &[], &[(From, b"x")]),
        message(&[], &[], &[(Rrto, b"x")]),
        message(&[], &[], &[(Norm, b"x")]),
        stream(&[(End, b"")]),
    ]
}

/// Returns streams that are no records, or that end within a record.
fn malformed() -> Vec<Vec<u8>> {
    let whole = message(&[], &[(Norm, b"x")], &[]);
    vec![
        whole[..whole.len() - 1].to_vec(),
        whole[..5].to_vec(),
        b"S\xff\xff\xff\xff\xff\xff\x01".to_vec(),
        [&b"N"[..], &[0xff, 0xff, 0xff, 0xff, 0x07], b"x"].concat(),
        b"hello world, this is no record stream\n".to_vec(),
    ]
}

/// Returns streams that Postfix 3.7 takes and later versions refuse.
fn control_characters() -> Vec<Vec<u8>> {
    vec![
        message(&[(Rcpt, b"a\nb")], &[], &[]),
        message(&[(Rcpt, b"a\rb")], &[], &[]),
        message(&[(Full, b"Ann\nBcc: eve")], &[], &[]),
        message(&[(Attr, b"envelope_id=a\nb")], &[], &[]),
        message(&[], &[], &[(Rcpt, b"a\0b")]),
    ]
}

/// Returns records as long as a line may be, and longer ones.
fn lengths() -> Vec<Case> {
    let of = |length: usize| {
        let line = vec![b'x'; length];
        stream(&[(From, b""), (Rcpt, b"a"), (Mesg, b""), (Norm, &line), (Xtra, b""), (End, b"")])
    };
    vec![postdrop(of(2047)), postdrop(of(2048)), postdrop(of(2049)).differs(MALFORMED)]
}

/// Returns messages as big as the limit, and bigger ones, whose rest is skipped.
fn sizes() -> Vec<Case> {
    let line = [b'x'; 1000];
    let of = |lines: usize, last: &[(RecordType, &[u8])]| {
        let mut records: Vec<(RecordType, &[u8])> = vec![(From, b""), (Rcpt, b"a"), (Mesg, b"")];
        records.extend(std::iter::repeat_n((Norm, &line[..]), lines));
        records.extend(last);
        postdrop(stream(&records)).under(&SMALL)
    };
    let end: &[(RecordType, &[u8])] = &[(Xtra, b""), (End, b"")];
    let mut cases: Vec<Case> =
        [90, 98, 101, 150, 1000].into_iter().map(|lines| of(lines, end)).collect();
    cases.push(of(1000, &[(Mesg, b""), (Ptr, b"0"), (End, b"")]));
    cases.push(of(1000, &[]));
    cases
}

fn command_lines() -> Vec<Case> {
    let with = |arguments: &[&str], bytes: Vec<u8>| Case {
        arguments: arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        ..postdrop(bytes)
    };
    let whole = || message(&[], &[], &[]);
    vec![
        with(&[], whole()),
        with(&["operand", "-Z"], whole()),
        with(&["-r", "--", "-Z"], whole()),
        with(&["-rr", "-r"], whole()),
        with(&["-Z"], whole()),
        with(&["-rZ"], whole()),
        with(&["-c"], whole()),
        with(&["-rc"], Vec::new()),
        with(&["-?"], whole()),
    ]
}
