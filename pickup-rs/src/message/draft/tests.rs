use super::*;
use RecordType::{Attr, Cont, End, Erto, From, Mesg, Norm, Rcpt, Rdr, Rrto, Time, Xtra};
use handoff::protocol::Handoff;
use handoff::refusal::is_worthless;
use proptest::prelude::*;
use queue::Whose;
use spool::{Damage, Epoch, LotNumber};

type Listed = (RecordType, String);

fn stream(records: &[(RecordType, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, data) in records {
        put(&mut out, *kind, data.as_bytes());
    }
    out
}

fn site() -> Site {
    Site {
        hostname: "mx.example.org".to_owned(),
        mail_name: "Postfix".to_owned(),
        content_filter: String::new(),
        line_limit_bytes: 2048,
        completes_remote_headers: false,
    }
}

fn id() -> MessageId {
    MessageId::from_parts(1_700_000_000_000, 42)
}

fn stored(records: &[u8]) -> Stored<'_> {
    Stored { id: id(), uid: 1000, arrival_s: 1_700_000_000, host: "web1.example.org", records }
}

fn origin() -> Origin {
    Origin {
        node: Some("node".parse().unwrap()),
        id: id(),
        lot: LotNumber(7),
        epoch: Epoch(2),
        handoff: Handoff::Hold,
        queue_id: "4C1B21A0".parse().unwrap(),
        to: Vec::new(),
    }
}

fn listed(bytes: &[u8]) -> Vec<Listed> {
    Records::new(bytes)
        .map(|record| {
            record.map(|r| (r.kind, String::from_utf8_lossy(r.data).into_owned())).unwrap()
        })
        .collect()
}

/// Returns the records for cleanup, without the attributes of OPTIMUS and the trace header.
fn sent_at(site: &Site, records: &[u8]) -> Vec<Listed> {
    let draft = Draft::new(stored(records), site).unwrap();
    let ForCleanup { head, content, tail } = draft.write(site, &origin());
    let mut all = listed(&[&head, content, &tail].concat());
    let ours: Vec<Listed> = all.drain(..5).collect();
    assert!(
        ours.iter().all(|(kind, data)| *kind == Attr && data.starts_with("optimus_")),
        "{ours:?}"
    );
    let at = all.iter().position(|(kind, _)| *kind == Mesg).unwrap() + 1;
    let received: Vec<Listed> = all.drain(at..at + 2).collect();
    assert_eq!(received[0].1, "Received: by mx.example.org (Postfix, from userid 1000)");
    assert!(received[1].1.starts_with("\tid 4C1B21A0; "), "{received:?}");
    all
}

fn sent(records: &[(RecordType, &str)]) -> Vec<Listed> {
    sent_at(&site(), &stream(records))
}

fn list(records: &[(RecordType, &str)]) -> Vec<Listed> {
    records.iter().map(|(kind, data)| (*kind, (*data).to_owned())).collect()
}

const HEAD: [(RecordType, &str); 4] =
    [(Time, "1700000000 5"), (Attr, "rewrite_context=local"), (From, "a@b"), (Rcpt, "c@d")];
const TAIL: [(RecordType, &str); 2] = [(Xtra, ""), (End, "")];

fn message(content: &[(RecordType, &'static str)]) -> Vec<(RecordType, &'static str)> {
    [&HEAD[..], &[(Mesg, "")], content, &TAIL].concat()
}

fn our_id() -> String {
    format!("Message-Id: <{}@web1.example.org>", id())
}

#[test]
fn a_whole_message_goes_through_as_it_is() {
    let records =
        message(&[(Norm, "Message-Id: <x@y>"), (Norm, ""), (Cont, "long "), (Norm, "line")]);
    assert_eq!(sent(&records), list(&records));
}

#[test]
fn a_missing_message_id_is_made_of_the_message_s_id() {
    let ours = our_id();
    let expected = message(&[
        (Norm, "Message-Id: <derived>"),
        (Norm, "Subject: x"),
        (Norm, ""),
        (Norm, "body"),
    ]);
    let mut expected = list(&expected);
    expected[5].1 = ours;
    assert_eq!(sent(&message(&[(Norm, "Subject: x"), (Norm, ""), (Norm, "body")])), expected);
    let resent = sent(&message(&[(Norm, "Resent-To: x@y"), (Norm, "Message-Id: <x@y>")]));
    assert_eq!(resent[5].1, format!("Resent-{}", our_id()));
}

#[test]
fn white_space_at_the_start_does_not_continue_our_header() {
    let lines = sent(&message(&[(Norm, "\tMessage-Id: <x@y>")]));
    let expected =
        [(Norm, our_id()), (Norm, String::new()), (Norm, "\tMessage-Id: <x@y>".to_owned())];
    assert_eq!(lines[5..8], expected);
    let empty_first = sent(&message(&[(Norm, ""), (Norm, " x")]));
    assert_eq!(
        empty_first[5..8],
        [(Norm, our_id()), (Norm, String::new()), (Norm, " x".to_owned())]
    );
}

#[test]
fn an_empty_message_gets_only_the_headers_of_pickup_rs() {
    assert_eq!(sent(&message(&[]))[4..6], [(Mesg, String::new()), (Norm, our_id())]);
}

#[test]
fn mail_from_elsewhere_gets_a_message_id_only_where_cleanup_completes_it() {
    let with = |context: &[&'static str]| {
        let head: Vec<_> = context.iter().map(|text| (Attr, *text)).collect();
        let records =
            [&head[..], &[(From, "a@b"), (Rcpt, "c@d"), (Mesg, ""), (Norm, "Subject: x")], &TAIL];
        stream(&records.concat())
    };
    let has_id = |site: &Site, context: &[&'static str]| {
        sent_at(site, &with(context)).contains(&(Norm, our_id()))
    };
    let (local, remote) = ("rewrite_context=local", "rewrite_context=remote");
    let completing = Site { completes_remote_headers: true, ..site() };
    for (context, expected) in [
        (&[][..], true),
        (&[local], true),
        (&[remote], false),
        (&[local, remote], false),
        (&[remote, local], true),
    ] {
        assert_eq!(has_id(&site(), context), expected, "{context:?}");
        assert!(has_id(&completing, context), "{context:?}");
    }
}

#[test]
fn the_site_s_content_filter_comes_before_the_envelope_and_the_submitter_s_is_dropped() {
    let site = Site { content_filter: "smtp:[127.0.0.1]:10025".to_owned(), ..site() };
    let records = [
        (Cont, "evil:"),
        (Rdr, "evil@x"),
        (Time, "1"),
        (From, "a"),
        (Rcpt, "b"),
        (Mesg, ""),
        (Xtra, ""),
        (End, ""),
    ];
    let got = sent_at(&site, &stream(&records));
    let expected = list(&[
        (Cont, "smtp:[127.0.0.1]:10025"),
        (Time, "1"),
        (From, "a"),
        (Rcpt, "b"),
        (Mesg, ""),
    ]);
    assert_eq!(got[..5], expected[..]);
}

#[test]
fn a_submitter_can_not_write_attributes_of_optimus() {
    let forged = format!("optimus_id={}", MessageId::from_parts(1, 1));
    let records = [
        (Attr, forged.as_str()),
        (From, "a"),
        (Attr, "optimus_handoff=direct"),
        (Mesg, ""),
        (Xtra, ""),
        (Attr, &forged),
        (End, ""),
    ];
    let bytes = stream(&records);
    let head = Draft::new(stored(&bytes), &site()).unwrap().write(&site(), &origin()).head;
    assert_eq!(Whose::find(&head), Whose::Ours(origin()));
    assert!(!sent_at(&site(), &bytes).iter().any(|(_, data)| data.starts_with("optimus_")));
}

#[test]
fn a_time_is_added_where_there_is_none() {
    let got = sent(&[(From, "a"), (Rcpt, "b"), (Mesg, ""), (Xtra, ""), (End, "")]);
    assert_eq!(got[..2], list(&[(Time, "1700000000"), (From, "a")])[..]);
}

#[test]
fn recipients_of_the_extracted_segment_stay() {
    let extracted = [
        (Rrto, "x"),
        (Erto, "x"),
        (Cont, "x"),
        (Rdr, "x"),
        (Attr, "encoding=8bit"),
        (Attr, "notify_flags=1"),
        (Rcpt, "r"),
    ];
    let records =
        [&HEAD[..], &[(Mesg, ""), (Norm, "Message-Id: x"), (Xtra, "")], &extracted, &[(End, "")]]
            .concat();
    let got = sent(&records);
    assert_eq!(got[6..], list(&[(Xtra, ""), (Attr, "notify_flags=1"), (Rcpt, "r"), (End, "")])[..]);
}

fn refusal(records: &[(RecordType, &str)]) -> String {
    Draft::new(stored(&stream(records)), &site()).unwrap_err().to_string()
}

#[test]
fn a_malformed_message_is_refused_with_the_reason() {
    let long = "x".repeat(2049);
    for (records, expected) in [
        (vec![], "no end record"),
        (message(&[])[..6].to_vec(), "no end record"),
        (vec![(Time, "1"), (Mesg, ""), (Xtra, ""), (End, "")], "no envelope sender"),
        (vec![(Norm, "x")], "unexpected record type Norm in the Envelope segment"),
        (message(&[(Rcpt, "x")]), "unexpected record type Rcpt in the Content segment"),
        (vec![(From, "a\nb"), (Mesg, ""), (Xtra, ""), (End, "")], "byte 10"),
        (vec![(From, long.as_str()), (Mesg, ""), (Xtra, ""), (End, "")], "2049 bytes is longer"),
    ] {
        let refusal = refusal(&records);
        assert!(refusal.contains(expected), "{refusal}");
    }
}

#[test]
fn a_cut_stream_is_refused() {
    let whole = stream(&message(&[(Norm, "Subject: x")]));
    for length in 0..whole.len() {
        assert!(
            Draft::new(stored(&whole[..length]), &site()).is_err(),
            "{length} of {}",
            whole.len()
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(bytes: Vec<u8>) {
        let _ = Draft::new(stored(&bytes), &site());
    }

    #[test]
    fn content_is_never_changed(lines in prop::collection::vec("[^\r\n]{0,80}", 0..20)) {
        let content: Vec<_> = lines.iter().map(|line| (Norm, line.as_str())).collect();
        let records = stream(&[&HEAD[..], &[(Mesg, "")], &content, &TAIL].concat());
        let draft = Draft::new(stored(&records), &site()).unwrap();
        prop_assert_eq!(draft.write(&site(), &origin()).content, &stream(&content)[..]);
    }
}

#[test]
fn only_a_message_that_no_configuration_can_mend_is_worthless() {
    let mismatch = Damage::Checksum { stored: 1, computed: 2, bytes: 3 };
    assert!(is_worthless(&mismatch.to_string()) && is_worthless(&Damage::Header.to_string()));
    assert!(is_worthless(&format!("malformed: {}", Malformed::NoEnd)));
    let long = Malformed::TooLong { kind: Norm, bytes: 3000 };
    assert!(!is_worthless(&format!("malformed: {long}")));
    assert!(!is_worthless(&Damage::Missing.to_string()));
    assert!(!is_worthless("cleanup: internal protocol error"));
}
