//! Cases of recipients: lists of addresses in arguments and headers, and the headers that name
//! recipients.

use super::case::{Case, sendmail};
use super::differences::ONE_PROGRAM;

/// Lists, each of which comes in a header and on the command line.
const LISTS: &[&str] = &[
    "bob@example.org",
    "bob",
    "",
    " ",
    "<>",
    "\"\"",
    "bob, eve@x, fay",
    "bob eve@x fay",
    "bob,, ,eve,",
    ",",
    ";",
    ":",
    "Bob <bob@x>",
    "Bob B. <bob@x>, \"Eve, E.\" <eve@x>",
    "<bob@x>",
    "< bob @ x >",
    "bob @ x . y",
    "bob@x <eve@y>",
    "<bob@x> <eve@y> <fay@z>",
    "<bob@x> fay@z",
    "bob@x> , eve",
    "<bob@x, eve@y",
    "Bob <bob@x, Eve <eve@y>",
    "<<bob@x>>",
    "<bob@x>>",
    "bob@x (Bob)",
    "(Bob) bob@x",
    "bob(comment)@(comment)x",
    "bob@x (nested (comment) here), eve",
    "bob@x (unfinished, eve",
    "bob@x (escaped \\) still), eve",
    "()",
    ") bob",
    "undisclosed-recipients:;",
    "undisclosed recipients: ;, bob",
    "team: bob@x, eve@y;",
    "team: bob@x, eve@y;, fay",
    "team:bob@x;eve:fay@z;",
    "team: bob@x, eve@y",
    "team: Bob <bob@x>, <eve@y>;",
    "team: sub: bob@x;, eve;",
    "\"a: team\": bob;",
    "bob; eve",
    "bob@x;eve@y",
    "@relay:bob@x",
    "<@relay:bob@x>",
    "<@a,@b:bob@x>",
    "Bob <@a,@b,@c:bob@x>, eve",
    "@a,@b:bob@x",
    "a@b@c",
    "@x",
    "bob@",
    "@",
    ".",
    "bob.",
    ".bob@x",
    "b..b@x",
    "\"b b\"@x",
    "\"b\\\"b\"@x",
    "\"b\\\\b\"@x",
    "\"b\"o\"b\"@x",
    "\"b@c\"@x",
    "\"unfinished@x, eve",
    "\"b,c\"@x, \"d;e\"@y",
    "\" b \"@x",
    "b\\@c@x",
    "b\\ c@x",
    "b\\",
    "\\",
    "\\\\",
    "bob@[127.0.0.1]",
    "bob@[ 127.0.0.1 ]",
    "bob@[IPv6:::1]",
    "bob@[unfinished, eve",
    "bob@[a\\]b]",
    "[bob]@x",
    "]bob",
    "host!bob",
    "a!b!bob@x",
    "bob%y@x",
    "|/bin/prog",
    "|/bin/prog with arguments",
    "\"|/bin/prog with arguments\"",
    "|\"/bin/prog a\" b",
    "/var/mail/bob",
    "\"/var/mail/b b\"",
    ":include:/etc/list",
    "\":include:/etc/list\", bob",
    "bob+ext@x",
    "bob\t\teve",
    "caf\u{e9}@x, b\u{f6}b",
    "=?utf-8?q?Bob?= <bob@x>",
    "Bob =?utf-8?b?Qm9i?= <bob@x>, eve",
    "bob@x, bob@x, BOB@X",
    "bob@x\u{1}, \u{7f}",
    "a@b;c@d:e@f;g@h>i@j<k@l:m@n;o@p",
    "-bob",
    "--",
    "bob@-x",
    "$bob `id` & eve",
    "bob@x.",
    "123",
    "bob@x,\u{a0}eve",
    "To: bob",
    "Bob bob@x Eve <eve@y>",
    "mailto:bob@x",
    "<mailto:bob@x>",
    "<bob>, <eve@>, <@y>",
    "bob <>, eve",
    "\"Bob\" bob@x",
    "'bob@x' <eve@y>",
];

/// Messages for `-t`.
const MESSAGES: &[&str] = &[
    "To: bob\n\n",
    "To: bob\n",
    "To: bob",
    "",
    "\n",
    "Subject: nobody\n\nbody\n",
    "To:\n\n",
    "To: \nCc: bob\n\n",
    "To: bob\nCc: eve\nBcc: fay\nSubject: x\n\nTo: no\nCc: no\n",
    "Bcc: bob\n\nbody\n",
    "bCC:bob\nTO: eve\ncC:\tfay\n\n",
    "To : bob\nCc\t: eve\nBcc \t : fay\n\n",
    "To: bob,\n eve,\n\tfay\n\n",
    "To:\n bob\n\n",
    "To:\n\n bob\n",
    "To: bob\n \n eve\n\n",
    "To: bob\n ,\n , eve\n\n",
    "To: \"quoted\n over lines\"@x, (comment\n over lines) eve\n\n",
    "To: <bob\n @x>\n\n",
    "To: c\\\n d@x, e@[1\n 2]\n\n",
    "To: bob\nTo: eve\nTo: fay\n\n",
    "To: bob\nApparently-To: eve\n\n",
    "X-To: bob\nToo: eve\nT: fay\nReply-To: gil\nErrors-To: hal\nFrom: ian\n\n",
    "To: bob\nResent-To: eve\n\n",
    "Resent-To: eve\nTo: bob\n\n",
    "To: bob\nCc: dan\nResent-Cc: eve\nResent-Bcc: fay\n\n",
    "To: bob\nResent-Bcc: fay\n\n",
    "To: bob\nResent-To:\n\n",
    "To: bob\nResent-To: <>\n\n",
    "To: bob\nResent-From: eve\nResent-Date: x\n\n",
    "To: bob\nresent-TO: eve,\n fay\nResent-To: gil\nCc: dan\n\n",
    "Return-Receipt-To: bob\nDisposition-Notification-To: eve\nTo: fay\n\n",
    "Bcc: bob\nBcc:\n eve\nX: y\nBcc: fay\n",
    " folded first\nTo: bob\n\n",
    "\tfolded first\n\nTo: bob\n",
    "not a header\nTo: bob\n\n",
    "To: bob\nnot a header\nCc: eve\n\nbody\n",
    "To: bob\n: not a header\nCc: eve\n\n",
    "To: bob\n : folded\nCc: eve\n\n",
    "To: bob\nA B: eve\nCc: fay\n\n",
    "To: bob\n\u{e9}: eve\nCc: fay\n\n",
    "To: bob\n\u{1}: eve\nCc: fay\n\n",
    "To; bob\n\n",
    "To\n: bob\n\n",
    "To: bob\n--boundary\nCc: eve\n",
    "From ann Mon\nTo: bob\n\n",
    "To: bob\nFrom eve\nCc: fay\n\n",
    ">From ann\nTo: bob\n>From eve\nCc: fay\n",
    "To: bob\r\nCc: eve\r\n fay\r\n\r\nbody\r\n",
    "To: bob\r\n\nCc: eve\n",
    "To: bob\n\r\nCc: eve\n",
    "To: bob\rCc: eve\n\n",
    "To: bob\n.\nCc: eve\n",
    ".\nTo: bob\n",
    "To: a\0b, c\nCc: d\0\n e\nSubject\0: x\n\n",
    "To\0: bob\nCc: eve\n\n",
    "\0\nTo: bob\n\n",
    "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\nTo: bob\n\n--b\nTo: no\n\n\
        --b\nContent-Type: message/rfc822\n\nTo: no\n\n--b--\n",
    "Content-Type: message/rfc822\nTo: bob\n\nTo: no\nSubject: inner\n\n",
    "Content-Transfer-Encoding: wrong\nContent-Type: multipart/mixed; boundary=\nTo: bob\n\n\
        8bit \u{e9}\n",
    "Subject: \u{e9}\nTo: \"\u{e9}\" <bob@x>\n\n\u{e9}\n",
    "To: undisclosed-recipients:;\nBcc: bob, eve\n\n",
    "To: \"Bob\" <bob@x>,\n \"Eve\"\n <eve@x>\n\n",
    "Subject: x\nX-Long: y\n z\n\tw\nTo: bob\n\nbody",
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for list in LISTS {
        let header = format!("Subject: x\nTo: {list}\n\n");
        cases.push(sendmail(&["-t", "--", list, "last"], header));
    }
    for message in MESSAGES {
        cases.push(sendmail(&["-t"], message));
    }
    for message in ["To: bob\n\n", "Resent-To: bob\nTo: eve\n\n", "Subject: nobody\n\n", "\n", ""] {
        cases.push(sendmail(&["-t", "also", "ann, eve"], message));
        cases.push(sendmail(&["-ti", "-Nsuccess", "-f", "ann", "also"], message));
    }
    cases.extend(large());
    cases
}

fn large() -> Vec<Case> {
    let list = |separator: &str| {
        (0..500).map(|n| format!("user{n}@example.org")).collect::<Vec<_>>().join(separator)
    };
    let mut cases = vec![sendmail(&[list(",")], ""), sendmail(&[list(" ")], "")];
    for separator in [", ", ",\n\t", " ", ";"] {
        cases.push(sendmail(&["-t"], format!("Subject: x\nTo: {}\n\nbody\n", list(separator))));
    }
    let address = "x".repeat(2049);
    cases.push(sendmail(&["-t"], format!("To: {}\n\n", &address[1..])));
    cases.push(sendmail(&["-t"], format!("To: {address}\n\n")).differs(ONE_PROGRAM));
    let nested = |open: &str, close: &str| {
        format!("To: {}bob{}, eve\n\n", open.repeat(900), close.repeat(900))
    };
    cases.push(sendmail(&["-t"], nested("(", ")")));
    cases.push(sendmail(&["-t"], nested("<", ">")));
    cases.push(sendmail(&["-t"], nested("g:", ";")));
    cases.push(sendmail(&["-t"], nested("\\", "")));
    cases
}
