//! Stock `sendmail` and ours are given the same, and must say the same: records, exit code, complaint.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::cell::RefCell;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{OUR_SENDMAIL, STOCK_SENDMAIL, Site, code, run, stderr};

/// No machine is so busy.
const DELIVERY_LIMIT: Duration = Duration::from_secs(60);

struct Case {
    arguments: &'static [&'static str],
    message: &'static [u8],
}

const fn case(arguments: &'static [&'static str], message: &'static [u8]) -> Case {
    Case { arguments, message }
}

const PLAIN: &[u8] = b"Subject: x\n\nbody\n";

/// What both submit.
const SUBMITTED: &[Case] = &[
    case(&["bob@example.org"], PLAIN),
    case(&["-i", "bob@example.org"], b"Subject: x\n\n.\nbody\n.\n"),
    case(&["-oi", "bob@example.org"], b".\n"),
    case(&["bob@example.org"], b"Subject: x\n\n.\nbody\n"),
    case(&["bob@example.org"], b"Subject: x\n\nbody\n."),
    case(&["bob@example.org"], b""),
    case(&["bob@example.org"], b"no line break"),
    case(&["bob@example.org"], b"Subject: nul\n\na\0b\0\n\0\xff\xfe\n"),
    case(&["bob@example.org"], b"Subject: crlf\r\n\r\nbody\r\r\nlast\r"),
    case(&["bob@example.org"], b"From ann Mon\n>From x\n>>From y\nSubject: x\n\nFrom z\n"),
    case(&["bob@example.org"], b"From ann without end"),
    case(&["-f", "ann@example.org", "bob", "carol, dave@x", "Eve <eve@x>", ""], PLAIN),
    case(&["-fann@example.org", "-F", "Ann B", "bob"], PLAIN),
    case(&["-r", "Ann <ann@example.org>", "-F", "", "bob"], PLAIN),
    case(&["-f", "<>", "bob"], PLAIN),
    case(&["-f", "", "bob"], PLAIN),
    case(&["-f", "ann, bob", "carol"], PLAIN),
    case(&["-f", "\"a b\"@example.org", "bob"], PLAIN),
    case(&["-f", "\"a\nb\"@x", "\"c\rd\"@x"], PLAIN),
    case(&["-f", "a@[1\n2]", "c\\\nd@x", "e\\\rf@x"], PLAIN),
    case(&["-r", "ann@x\n", "bob\ncarol", "dave\r\n", "\n", " "], PLAIN),
    case(&["-f", "a (b\nc)", "d\x0be\x0cf\x01\x7f"], PLAIN),
    case(&["-f", " ", "-F", "a\tb\x01\x7f", "-L", "", "-o", "", "bob"], PLAIN),
    case(&["-o\n", "-oi\n", "-bm\n", "-O", "\n", "bob"], b".\n"),
    case(&["-bp", "-bmx", "bob"], PLAIN),
    case(&["-t"], b"To: \"a\n b\"@x, c\\\n d@x, e@[1\n 2]\nCc: \"f\rg\"@x\n\n"),
    case(&["-B8BITMIME", "bob"], PLAIN),
    case(&["-B", "7BIT", "bob"], PLAIN),
    case(
        &[
            "-bm", "-om", "-oem", "-o7", "-oAx", "-m", "-h3", "-e", "q", "-x", "-U", "-c", "-Lx", "-O",
            "A=b", "-px", "-Ax", "bob",
        ],
        PLAIN,
    ),
    case(&["--", "-bob"], PLAIN),
    case(&["bob", "-f", "x"], PLAIN),
    case(&["|/bin/prog", "/var/mail/x", ":include:/l", "host!user", "@relay:user@x", "a%b@c"], PLAIN),
    case(&["-t"], b"To: bob@example.org\nBcc: carol\nCc: Dave <dave@x>, eve\nSubject: x\n\nTo: no\n"),
    case(&["-t", "also@example.org"], b"To: bob\n\nbody\n"),
    case(&["-t", "also@example.org"], b"Subject: nobody\n\nbody\n"),
    case(&["-t"], b"To: bob\nResent-To: carol\nCc: dave\nResent-Bcc: eve\nResent-Cc: fay\n\nbody\n"),
    case(&["-t"], b"Resent-To: carol\nTo: bob\nResent-From: x\n\n"),
    case(&["-t"], b"tO \t: bob\nbCC:carol,\n dave,\n\teve\n\nbody\n"),
    case(&["-t"], b"To: bob\nnot a header\nCc: carol\n\nbody\n"),
    case(&["-t"], b"To: bob\n : not a header\nCc: carol\n"),
    case(&["-t"], b"To: bob\nCc: carol"),
    case(&["-t"], b"To: bob\n\nbody without end"),
    case(&["-t"], b"To: bob\r\nCc: carol\r\n\r\nbody\r\n"),
    case(&["-t"], b"From ann\nTo: bob\n.\nCc: carol\n"),
    case(&["-t", "carol"], b" folded first\nTo: bob\n"),
    case(&["-t", "carol"], b"\n\nTo: bob\n"),
    case(&["-t"], b"To: a\0b@x, c\nCc: d\0\n e\nSubject\0: x\n\n"),
    case(&["-t"], b"To: undisclosed:;, bob\nCc: team: a@x, b@x;, c@x\n\n"),
    case(&["-t"], b"To: \"Quoted, Name\" <q@x>, (comment, x) r@x (y), <s@x>, t@[1.2.3.4]\n\n"),
    case(&["-t"], b"To: a b c, d@x e@x, <f@x> g@x, h@x <i@x> <j@x>, k@x,, ,l@x,\n\n"),
    case(&["-t"], b"To: <unterminated@x, n@x\nCc: o@x>, p@x\nBcc: grp: q@x\n\n"),
    case(&["-t"], b"To: \"unterminated, r@x\nCc: (unterminated, s@x\nBcc: t@[unterminated\n\n"),
    case(&["-t"], b"To: a\\@b@c, d\\ e@f, \"g\\\"h\"@i, \\, j\\\nCc: \\\n\n"),
    case(&["-t"], b"To: caf\xc3\xa9@x, \xff@y, =?utf-8?q?x?= <z@x>\n\n"),
    case(&["-t"], b"To: a@b;c@d:e@f;g@h>i@j<k@l:m@n;o@p\n\n"),
];

/// What both refuse, with which words in common.
const REFUSED: &[(Case, &str)] = &[
    (case(&[], PLAIN), "Recipient addresses must be specified on the command line or via the -t option"),
    (case(&["-f", "ann@x"], PLAIN), "ann@x(0): Recipient addresses must be specified"),
    (case(&["-t"], PLAIN), "No recipient addresses found in message header"),
    (case(&["-t"], b"To: <>\n\n"), "No recipient addresses found in message header"),
    (case(&["-t"], b"Resent-To: (nobody)\nTo: bob\n\n"), "No recipient addresses found in message header"),
    (case(&["-t"], b" folded first\nTo: bob\n"), "No recipient addresses found in message header"),
    (case(&["-B", "9BIT", "bob"], PLAIN), "-B option needs 8BITMIME or 7BIT"),
    (case(&["-n", "bob"], PLAIN), "-n option not supported"),
    (case(&["-ba"], PLAIN), "unsupported: -ba"),
    (case(&["-oA"], PLAIN), "-oA requires pathname"),
    (case(&["-Z"], PLAIN), "invalid option -- 'Z'"),
    (case(&["-B", "8BITMIME\n", "bob"], PLAIN), "-B option needs 8BITMIME or 7BIT"),
    (case(&["-B", "", "bob"], PLAIN), "-B option needs 8BITMIME or 7BIT"),
    (case(&["-b", "", "bob"], PLAIN), "unsupported: -b"),
    (case(&["-t", "-bp"], PLAIN), "-t can be used only in delivery mode"),
    (case(&["-bi", "-qRx"], PLAIN), "-qR can be used only in delivery mode"),
    (case(&["-qIx", "-q"], PLAIN), "-qI can be used only in delivery mode"),
    (case(&["-bp", "bob"], PLAIN), "display queue mode requires no recipient"),
    (case(&["-q", "bob"], PLAIN), "flush queue mode requires no recipient"),
    (case(&["-qRx", "bob"], PLAIN), "flush site requires no recipient"),
    (case(&["-qIx", "bob"], PLAIN), "flush queue_id requires no recipient"),
    (case(&["-bi", "bob"], PLAIN), "alias initialization mode requires no recipient"),
    (case(&["-bs", "bob"], PLAIN), "stand-alone mode requires no recipient"),
    (case(&["-f"], PLAIN), "option requires an argument -- 'f'"),
];

fn compare(site: &mut Site, arguments: &[&str], message: &[u8]) {
    let message_start: String = message.escape_ascii().to_string().chars().take(200).collect();
    let what = format!("{arguments:?} {message_start}");
    let (expected, output) = site.stock(&mut site.command(STOCK_SENDMAIL, arguments), message);
    assert_eq!(code(&output), 0, "stock: {what}: {}", stderr(&output));
    let ours = site.sendmail(arguments, message);
    assert_eq!((code(&ours), stderr(&ours)), (0, stderr(&output)), "{what}");
    assert_eq!(Some(site.take_records()), expected, "{what}");
}

#[test]
fn says_the_same_records() {
    let mut site = Site::with_redis();
    for case in SUBMITTED {
        compare(&mut site, case.arguments, case.message);
    }
}

#[test]
fn cuts_long_lines_at_the_same_places() {
    let mut site = Site::with_redis();
    for length in [2047, 2048, 2049, 4095, 4096, 4097, 10_000] {
        let line = "x".repeat(length);
        for message in [format!("S: y\n\n{line}\n.\n"), format!("S: y\n\n{line}"), format!("{line}.\n.\nx\n")]
        {
            compare(&mut site, &["bob"], message.as_bytes());
            compare(&mut site, &["-t", "bob"], message.as_bytes());
        }
        let header = format!("Subject: {line}\nX: y\n {line}\n\t{line}\nTo: bob\n\nbody\n");
        compare(&mut site, &["-t"], header.as_bytes());
    }
}

#[test]
fn finds_recipients_in_long_headers() {
    let mut site = Site::with_redis();
    let list = |separator: &str| {
        (0..500).map(|n| format!("user{n}@example.org")).collect::<Vec<_>>().join(separator)
    };
    for separator in [", ", ",\n\t", " "] {
        compare(&mut site, &["-t"], format!("Subject: x\nTo: {}\n\nbody\n", list(separator)).as_bytes());
    }
    compare(&mut site, &[&list(",")], PLAIN);
}

#[test]
fn takes_large_messages_to_the_limit_and_says_when_they_are_over_it() {
    let mut site = Site::with_redis();
    let line = "0123456789".repeat(7) + "\n";
    let of_mb = |mb: usize| format!("Subject: large\n\n{}", line.repeat(mb * 1_000_000 / line.len()));
    compare(&mut site, &["-i", "bob"], of_mb(9).as_bytes());
    let over = of_mb(11);
    let words = "sendmail: fatal: root(0): message file too big\n";
    let (stored, stock) = site.stock(&mut site.command(STOCK_SENDMAIL, &["-i", "bob"]), over.as_bytes());
    assert!(stored.is_none() && code(&stock) == 75 && stderr(&stock).ends_with(words), "{}", stderr(&stock));
    let ours = site.sendmail(&["-i", "bob"], over.as_bytes());
    assert_eq!((code(&ours), stderr(&ours).as_str()), (75, words));
    assert_eq!((site.take_messages().len(), site.maildrop().len()), (0, 0));
    site.postfix.set_main(&["message_size_limit = 0"]).unwrap();
    compare(&mut site, &["-i", "bob"], over.as_bytes());
    site.empty_maildrop();
}

#[test]
fn fixes_line_endings_as_told() {
    let mut site = Site::with_redis();
    for setting in ["always", "strict", "never"] {
        site.postfix.set_main(&[&format!("sendmail_fix_line_endings = {setting}")]).unwrap();
        for message in
            [&b"A: b\r\n\r\nc\nd\r\r\n"[..], b"A: b\n\r\nc\r\n", b"From x\r\nA: b\n\nc\r\n", b"\r\n.\r\nx"]
        {
            compare(&mut site, &["bob"], message);
        }
    }
}

#[test]
fn obeys_other_limits() {
    let mut site = Site::with_redis();
    site.postfix.set_main(&["line_length_limit = 512"]).unwrap();
    let message = format!("Subject: {0}\n {0}\nTo: bob\n\n{0}\n", "y".repeat(1500));
    compare(&mut site, &["-t"], message.as_bytes());
    compare(&mut site, &["bob"], message.as_bytes());
}

/// The full name comes from NAME when there is one; ours is privileged and stock's is not, so this is not a matter
/// of course.
#[test]
fn takes_the_full_name_from_the_environment() {
    let mut site = Site::with_redis();
    for name in ["Ann of Env", ""] {
        let mut stock = site.command(STOCK_SENDMAIL, &["bob"]);
        let (expected, _) = site.stock(stock.env("NAME", name), PLAIN);
        let ours = run(site.command(OUR_SENDMAIL, &["bob"]).env("NAME", name), PLAIN);
        assert_eq!(code(&ours), 0, "{}", stderr(&ours));
        assert_eq!(Some(site.take_records()), expected);
    }
}

#[test]
fn refuses_the_same_with_the_same_code_and_words() {
    let site = Site::with_redis();
    let site = &site;
    // Stock sleeps for a second before it ends in failure.
    let compared = |(case, words): &(Case, &str)| {
        let stock = run(&mut site.command(STOCK_SENDMAIL, case.arguments), case.message);
        let ours = run(&mut site.command(OUR_SENDMAIL, case.arguments), case.message);
        assert_eq!(code(&ours), code(&stock), "{:?}: {}", case.arguments, stderr(&ours));
        for output in [&stock, &ours] {
            assert!(stderr(output).contains(words), "{:?}: {}", case.arguments, stderr(output));
        }
    };
    std::thread::scope(|scope| {
        REFUSED.iter().for_each(|refused| drop(scope.spawn(move || compared(refused))));
    });
    assert_eq!(site.redis.as_ref().unwrap().cli(&["KEYS", "*"]).unwrap(), "");
}

/// Of the envelope: the words differ, as ours has no postdrop to complain.
#[test]
fn refuses_what_is_longer_than_a_record_with_the_same_code() {
    let site = Site::with_redis();
    let long = "x".repeat(3000);
    let refused = |arguments: &[&str], message: &str| {
        for program in [STOCK_SENDMAIL, OUR_SENDMAIL] {
            let output = run(&mut site.command(program, arguments), message.as_bytes());
            assert_eq!(code(&output), 75, "{program} {arguments:?}: {}", stderr(&output));
        }
        assert_eq!(site.maildrop(), []);
    };
    refused(&["-F", &long, "bob"], "");
    refused(&["-f", &long, "bob"], "");
    refused(&[&long], "");
    refused(&["-t"], &format!("To: {long}\n\n"));
    assert_eq!(site.redis.as_ref().unwrap().cli(&["KEYS", "*"]).unwrap(), "");
}

/// The records aren't the same, as line breaks are only for content; what they come to is. Redis is away, so both go by the
/// maildrop and stock pickup.
#[test]
fn a_full_name_with_line_breaks_makes_the_same_header() {
    let sink = testbed::Sink::start().unwrap();
    let site = Site::new();
    site.postfix.set_main(&[&format!("relayhost = [127.0.0.1]:{}", sink.port())]).unwrap();
    site.start_postfix();
    for name in ["Ann\nX-Evil: yes", "Ann\r\n\r\nB.\n", "\n"] {
        let from = |program| {
            let arguments = ["-f", "ann@example.org", "-F", name, "bob@example.org"];
            let before = sink.count();
            support::assert_quiet_success(&run(&mut site.command(program, &arguments), PLAIN));
            let delivery = sink.wait_for(before + 1, DELIVERY_LIMIT).unwrap().pop().unwrap();
            let content = String::from_utf8(delivery.content.unwrap()).unwrap();
            let header = content.split("\r\n\r\n").next().unwrap().lines();
            header
                .filter(|line| line.starts_with("From: ") || line.starts_with('X'))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let (stock, ours) = (from(STOCK_SENDMAIL), from(OUR_SENDMAIL));
        assert_eq!(ours, stock, "{name:?}");
        assert!(ours.starts_with("From: ") && !ours.contains('\n'), "{ours}");
    }
}

#[test]
fn a_header_over_the_limit_is_refused() {
    let site = Site::with_redis();
    site.postfix.set_main(&["header_size_limit = 5000"]).unwrap();
    let message = format!("To: bob\nX: y\n{}\nbody\n", " folded\n".repeat(1000));
    for program in [STOCK_SENDMAIL, OUR_SENDMAIL] {
        let output = run(&mut site.command(program, &["-t"]), message.as_bytes());
        assert_eq!(code(&output), 75, "{}", stderr(&output));
        let words = "root(0): unable to extract recipients: message header length exceeds safety limit";
        assert!(stderr(&output).contains(words), "{program}: {}", stderr(&output));
    }
}

/// How many random cases each property gets; `PROPTEST_CASES` for more.
const CASES: u32 = 150;

fn for_any<S: Strategy>(strategy: &S, check: impl Fn(&mut Site, S::Value)) {
    let site = RefCell::new(Site::with_redis());
    let default = Config { cases: CASES, ..Config::default() };
    let config = Config { failure_persistence: None, ..contextualize(default) };
    let checked = TestRunner::new(config).run(strategy, |value| {
        check(&mut site.borrow_mut(), value);
        Ok(())
    });
    checked.unwrap();
}

fn contextualize(config: Config) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    Config { cases: cases.unwrap_or(config.cases), ..config }
}

fn pieces(of: &'static [&'static str], at_most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(of), 0..at_most).prop_map(|pieces| pieces.concat())
}

/// Any text in a recipient header and on the command line, made of the characters that mean something there.
#[test]
fn finds_the_same_recipients_in_any_text() {
    const PIECES: &[&str] = &[
        "a", "b@c", "\"", "\"q r\"", "(", ")", "(c)", "<", ">", "<d@e>", ",", ";", ":", "g:", "@", ".", "[",
        "]", "[1.2]", "\\", "|", "%", "!", " ", "\t", "\n ", "\u{e9}", "\r", "\u{7f}", "\u{1}",
    ];
    for_any(&pieces(PIECES, 25), |site, text| {
        let message = format!("To: x\nCc: {text}\n\nbody\n");
        compare(site, &["-t", &text.replace(['\n', '\r'], " "), "last"], message.as_bytes());
    });
}

/// Any message, made of what means something to the reader of content and headers.
#[test]
fn says_the_same_records_of_any_message() {
    const PIECES: &[&str] = &[
        "To: a",
        "cc:b",
        "Bcc : c,",
        "Resent-To: d",
        "Resent-Cc:",
        "Subject:",
        "From ",
        ">From x",
        "x",
        " ",
        "\t",
        "\n",
        "\n",
        "\n",
        "\r\n",
        "\r",
        ".",
        ".\n",
        "\0",
        ":",
        "\u{e9}",
        "\u{1}",
        "0123456789012345678901234567890123",
    ];
    const OPTIONS: &[&[&str]] = &[&["bob"], &["-i", "bob"], &["-t", "bob"], &["-ti", "bob"]];
    let endings = prop::sample::select(&["always", "strict", "never"][..]);
    let any = (pieces(PIECES, 60), prop::sample::select(OPTIONS), endings);
    for_any(&any, |site, (message, options, endings)| {
        site.postfix
            .set_main(&[&format!("sendmail_fix_line_endings = {endings}"), "line_length_limit = 512"])
            .unwrap();
        compare(site, options, message.as_bytes());
    });
}

/// What can be seen of what `sendmail` leaves to another command: exit code, output, and whether there is an alias database
/// now, which is removed.
fn assert_same_outcome(site: &Site, arguments: &[&str], input: &[u8]) {
    let aliases = site.postfix.config_dir().join("aliases");
    let outcome = |program| {
        let output = run(&mut site.command(program, arguments), input);
        let made = std::fs::remove_file(aliases.with_extension("db")).is_ok();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (code(&output), said, stderr(&output), made)
    };
    assert_eq!(outcome(OUR_SENDMAIL), outcome(STOCK_SENDMAIL), "{arguments:?}");
}

fn site_with_aliases() -> Site {
    let site = Site::new();
    let aliases = site.postfix.config_dir().join("aliases");
    std::fs::write(&aliases, "postmaster: root\n").unwrap();
    site.postfix.set_main(&[&format!("alias_database = hash:{}", aliases.display())]).unwrap();
    site
}

/// `-bs` is not among these: `smtpd -S` waits minutes for its neighbours before it gives up.
#[test]
fn what_other_commands_do_is_done_by_them_while_postfix_is_down() {
    let site = site_with_aliases();
    let cases: &[&[&str]] = &[
        &["-bp"],
        &["-q"],
        &["-qRexample.org"],
        &["-qI4C1B21A0"],
        &["-q10m"],
        &["-q10m", "-bm", "bob"],
        &["-bh"],
        &["-bh", "bob"],
        &["-bi"],
        &["-I", "-oAhash:/nonexistent/x"],
    ];
    cases.iter().for_each(|arguments| assert_same_outcome(&site, arguments, PLAIN));
}

#[test]
fn what_other_commands_do_is_done_by_them_while_postfix_runs() {
    let site = site_with_aliases();
    site.start_postfix();
    let smtp = b"EHLO x\r\nMAIL FROM:<ann@x>\r\nRCPT TO:<bob@y>\r\nRSET\r\nQUIT\r\n";
    assert_same_outcome(&site, &["-bs"], smtp);
    for arguments in [&["-bp"], &["-q"], &["-qRexample.org"], &["-qI4C1B21A0"], &["-bi"]] {
        assert_same_outcome(&site, arguments, b"");
    }
}

#[test]
fn newaliases_is_sendmail_by_another_name() {
    let site = Site::new();
    let aliases = site.postfix.config_dir().join("aliases");
    std::fs::write(&aliases, "postmaster: root\n").unwrap();
    site.postfix.set_main(&[&format!("alias_database = hash:{}", aliases.display())]).unwrap();
    let newaliases = site.folder("bin").join("newaliases");
    std::os::unix::fs::symlink(OUR_SENDMAIL, &newaliases).unwrap();
    let output = run(&mut site.command(newaliases.to_str().unwrap(), &[]), b"");
    assert_eq!((code(&output), stderr(&output)), (0, String::new()));
    assert!(aliases.with_extension("db").exists());
}
