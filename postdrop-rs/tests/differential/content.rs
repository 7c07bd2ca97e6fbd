//! Cases of messages from standard input: lines, parts of lines, line endings, mailbox lines, the
//! end by a dot, sizes.

use super::case::{Case, Configuration, main_cf, sendmail};
use super::differences::ONE_PROGRAM;

const MESSAGES: &[&[u8]] = &[
    b"",
    b"\n",
    b"\n\n\n",
    b"no line break",
    b"Subject: x\n\nbody\n",
    b"Subject: x\n\nbody",
    b".\n",
    b".",
    b"..\n.\nx\n",
    b"Subject: x\n\n.\nbody\n.\n",
    b"Subject: x\n\nbody\n.",
    b"Subject: x\n\n. \n.x\nx.\n.\nlost\n",
    b"\n.\r\nlost\n",
    b"\n.\r\r\nlost\n",
    b"a\n.\0\n.\nlost\n",
    b"From ann Mon\nSubject: x\n\nbody\n",
    b"From ann Mon\n>From x\n>>From y\nSubject: x\n\nFrom z\n>From z\n",
    b"From ann without end",
    b"From\nx\n",
    b"from ann\nx\n",
    b" From ann\nx\n",
    b">\nFrom ann\n",
    b"From ann\r\nSubject: x\r\n\r\nbody\r\n",
    b"From ann\n.\nlost\n",
    b"Subject: crlf\r\n\r\nbody\r\r\nlast\r",
    b"a\r\nb\nc\r\n",
    b"a\nb\r\nc\n",
    b"\r\nx\r\n",
    b"\r",
    b"\r\n",
    b"a\rb\n",
    b"\n\r\n",
    b"Subject: nul\n\na\0b\0\n\0\xff\xfe\n\0",
    b"\xef\xbb\xbfSubject: x\n\nbody\n",
    b"a\x1ab\x04c\n\x04\n",
    b"Mime-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\npart\n--b--\n",
];

static ALWAYS: Configuration = main_cf(&["sendmail_fix_line_endings = always"]);
static STRICT: Configuration = main_cf(&["sendmail_fix_line_endings = strict"]);
static NEVER: Configuration = main_cf(&["sendmail_fix_line_endings = never"]);
static SHORT_LINES: Configuration =
    main_cf(&["line_length_limit = 512", "sendmail_fix_line_endings = strict"]);
static SHORT_HEADERS: Configuration = main_cf(&["header_size_limit = 5000"]);
static NO_LIMIT: Configuration = main_cf(&["message_size_limit = 0"]);
static SMALL: Configuration = main_cf(&["message_size_limit = 100000"]);

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for message in MESSAGES {
        cases.push(sendmail(&["bob"], message));
        cases.push(sendmail(&["-i", "-t", "bob"], message));
    }
    for message in MESSAGES.iter().filter(|message| message.contains(&b'\r')) {
        for configuration in [&ALWAYS, &STRICT, &NEVER] {
            cases.push(sendmail(&["bob"], message).under(configuration));
        }
    }
    cases.extend(long_lines());
    cases.extend(long_headers());
    cases.extend(sizes());
    cases
}

fn long_lines() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in [2047, 2048, 2049, 4095, 4096, 4097, 10_000] {
        let line = "x".repeat(length);
        cases.push(sendmail(&["bob"], format!("S: y\n\n{line}\n.\n")));
        cases.push(sendmail(&["-t", "bob"], format!("S: y\n\n{line}")));
        cases.push(sendmail(&["bob"], format!("{line}.\n.\nx\n")));
        cases.push(sendmail(
            &["-t"],
            format!("Subject: {line}\nX: y\n {line}\n\t{line}\nTo: bob\n\nbody\n"),
        ));
    }
    for length in [511, 512, 513, 1024, 1025] {
        let line = "x".repeat(length);
        cases.push(sendmail(&["bob"], format!("{line}\r\n.\n{line}\r\n")).under(&SHORT_LINES));
        let header = format!("Subject: {line}\r\n {line}\r\nTo: bob\r\n\r\n{line}\r\n");
        cases.push(sendmail(&["-t"], header).under(&SHORT_LINES));
        cases.push(sendmail(&["bob"], format!("From {line}\nx\n")).under(&SHORT_LINES));
    }
    cases
}

fn long_headers() -> Vec<Case> {
    let folded = |lines: usize| format!("To: bob\nX: y\n{}\nbody\n", " folded\n".repeat(lines));
    [500, 600, 620, 625, 1000, 20_000]
        .into_iter()
        .flat_map(|lines| {
            let message = folded(lines);
            [
                sendmail(&["-t"], &message).under(&SHORT_HEADERS),
                sendmail(&["bob"], message).under(&SHORT_HEADERS),
            ]
        })
        .chain([sendmail(&["-t"], folded(20_000))])
        .collect()
}

fn sizes() -> Vec<Case> {
    let line = "0123456789".repeat(7) + "\n";
    let of_bytes = |bytes: usize| format!("Subject: large\n\n{}", line.repeat(bytes / line.len()));
    vec![
        sendmail(&["-i", "bob"], of_bytes(9_000_000)),
        sendmail(&["-i", "bob"], of_bytes(11_000_000)).differs(ONE_PROGRAM),
        sendmail(&["-i", "bob"], of_bytes(11_000_000)).under(&NO_LIMIT),
        sendmail(&["-i", "bob"], of_bytes(90_000)).under(&SMALL),
        sendmail(&["-i", "bob"], of_bytes(110_000)).under(&SMALL).differs(ONE_PROGRAM),
        sendmail(&["-it"], format!("To: bob\n{}", of_bytes(110_000)))
            .under(&SMALL)
            .differs(ONE_PROGRAM),
    ]
}
