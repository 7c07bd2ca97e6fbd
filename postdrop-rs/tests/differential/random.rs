//! Random cases, from a grammar of texts that have a meaning for `sendmail` and `postdrop`. Each
//! case that once failed is now a fixed case.
//!
//! The grammar avoids intended differences, or the case names them. `PROPTEST_CASES` sets the
//! number of cases in each thread. `FUZZ_SECONDS`, which `ci/fuzz` sets, is the time for further
//! cases.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use super::bench::{Bench, Programs};
use super::case::{ANN, Case, Configuration, NUMBER, PLAIN, ROOT, main_cf, postdrop, sendmail};
use super::differences::{Difference, MALFORMED};
use super::support::{RecordType, stream};
use super::{complaint, verdict};

/// Number of cases in each thread.
const CASES: u32 = 20;
/// Number of threads. They mostly wait, because stock sleeps before it ends in failure.
const THREADS: usize = 8;
/// Most steps of making a failure smaller. Each may take a second.
const SHRINKING: u32 = 100;

static SHORT_LINES: Configuration =
    main_cf(&["line_length_limit = 512", "sendmail_fix_line_endings = strict"]);
static NEVER: Configuration =
    main_cf(&["sendmail_fix_line_endings = never", "header_size_limit = 200"]);
static LISTS: Configuration = main_cf(&[
    "authorized_submit_users = !inline:{eve=x}, root, ann",
    "local_login_sender_maps = inline:{{root=*}, {ann=@x, bob}}",
]);
const CONFIGURATIONS: [&Configuration; 4] = [&PLAIN, &SHORT_LINES, &NEVER, &LISTS];

/// Runs `check` on cases under each configuration, in threads.
fn in_threads<S: Strategy<Value = Case>>(
    cases: impl Fn() -> S + Sync,
    check: impl Fn(&mut Bench<'_>, &Case) -> Option<String> + Sync,
) {
    let programs = Programs::install();
    let seconds =
        std::env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let found: Vec<String> = std::thread::scope(|scope| {
        let start = |thread| {
            let (programs, cases, check) = (&programs, &cases, &check);
            scope.spawn(move || one_thread(programs, thread, deadline, cases(), check))
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn one_thread(
    programs: &Programs,
    thread: usize,
    deadline: Instant,
    cases: impl Strategy<Value = Case>,
    check: &(impl Fn(&mut Bench<'_>, &Case) -> Option<String> + Sync),
) -> Option<String> {
    let configuration = CONFIGURATIONS[thread % CONFIGURATIONS.len()];
    let bench = std::cell::RefCell::new(Bench::new(programs, configuration));
    let count =
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let config = Config {
        cases: count,
        max_shrink_iters: SHRINKING,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    loop {
        let ran = runner.run(&cases, |case| {
            let case = case.under(configuration);
            let complaint = check(&mut bench.borrow_mut(), &case);
            complaint.map_or(Ok(()), |complaint| Err(TestCaseError::fail(complaint)))
        });
        match ran {
            Ok(()) if Instant::now() < deadline => {}
            Ok(()) => return None,
            Err(TestError::Fail(reason, _)) => return Some(reason.to_string()),
            Err(error) => return Some(error.to_string()),
        }
    }
}

fn pieces(of: &'static [&'static str], at_most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(of), 0..at_most).prop_map(|pieces| pieces.concat())
}

/// Pieces with a meaning in a list of addresses.
const ADDRESS: &[&str] = &[
    "a", "b@c", "\"", "\"q r\"", "(", ")", "(c)", "<", ">", "<d@e>", ",", ";", ":", "g:", "@", ".",
    "[", "]", "[1.2]", "\\", "|", "%", "!", " ", "\t", "\n ", "\u{e9}", "\r", "\u{7f}", "\u{1}",
    "@r:",
];

/// Pieces with a meaning in content and headers.
const CONTENT: &[&str] = &[
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
    "\n ",
    "\r\n",
    "\r",
    ".",
    ".\n",
    "\0",
    ":",
    "\"",
    "(",
    "\u{e9}",
    "\u{1}",
    "0123456789012345678901234567890123",
    "Content-Type: message/rfc822\n\n",
];

/// Options that neither run another command nor write a log. All options that take a value get the
/// same value.
const OPTIONS: &[&str] = &[
    "-i",
    "-t",
    "-oi",
    "-G",
    "-U",
    "-m",
    "-bm",
    "-bv",
    "-bh",
    "-f",
    "-r",
    "-F",
    "-B",
    "-N",
    "-R",
    "-V",
    "-X",
    "-XV",
    "-XV+=",
    "-V+=",
    "-L",
    "-O",
    "-o",
    "-oA",
    "-h",
    "-p",
    "-A",
    "-e",
    "-c",
    "-x",
    "-I",
    "-n",
    "-Z",
    "-q5m",
    "-qRx",
    "--",
    "-",
    "-B8BITMIME",
    "-B7BIT",
    "-Nsuccess",
    "-Nnever,delay",
    "-Rhdrs",
    "-fann@x",
    "-f<>",
    "-FAnn",
    "-ti",
    "-itf",
    "-bx",
];

const VALUES: &[&str] = &[
    "",
    "ann",
    "ann@x",
    "Ann <ann@x>",
    "a b",
    "8BITMIME",
    "7BIT",
    "never",
    "success,failure",
    "FULL",
    "hdrs",
    "V+=",
    "+=",
    "V",
    "id-1",
    "caf\u{e9}",
    "-t",
    "bob",
    "i",
    "A",
    "tab\t",
    "a,b",
];

fn arguments() -> impl Strategy<Value = Vec<String>> {
    let word = prop_oneof![
        6 => prop::sample::select(OPTIONS).prop_map(str::to_owned),
        4 => prop::sample::select(VALUES).prop_map(str::to_owned),
        1 => pieces(ADDRESS, 8).prop_map(|text| text.replace(['\n', '\r'], " ")),
    ];
    let verbose = prop::option::weighted(0.2, 0_usize..4);
    (prop::collection::vec(word, 0..7), verbose, any::<bool>()).prop_map(
        |(mut words, verbose, recipient)| {
            if let Some(at) = verbose {
                words.insert(at.min(words.len()), "-v".to_owned());
            }
            if recipient {
                words.push("bob".to_owned());
            }
            words
        },
    )
}

/// Returns whether a case would run `postalias` or `postqueue`, which `delegates.rs` tests.
fn is_delegated(case: &Case) -> bool {
    let aliases = [&b"-I"[..], b"-qRx"];
    case.arguments.iter().any(|argument| aliases.contains(&argument.as_slice()))
}

#[test]
fn any_command_line() {
    let users = prop::sample::select(vec![ROOT, ROOT, ANN, NUMBER]);
    in_threads(
        || {
            (arguments(), pieces(CONTENT, 12), users.clone())
                .prop_map(|(arguments, message, user)| sendmail(&arguments, message).by(user))
                .prop_filter("runs another command", |case| !is_delegated(case))
        },
        complaint,
    );
}

/// Compares addresses in a recipient header and on the command line.
#[test]
fn any_addresses() {
    in_threads(
        || {
            pieces(ADDRESS, 25).prop_map(|text| {
                let message = format!("To: x\nCc: {text}\n\nbody\n");
                sendmail(&["-t", "-f", "ann@x", &text.replace(['\n', '\r'], " "), "last"], message)
            })
        },
        complaint,
    );
}

#[test]
fn any_message() {
    const LINES: &[&[&str]] = &[&["bob"], &["-i", "bob"], &["-t", "bob"], &["-ti", "bob"]];
    in_threads(
        || {
            (pieces(CONTENT, 60), prop::sample::select(LINES)).prop_map(|(message, arguments)| {
                let arguments = [&["-f", "ann@x"][..], arguments].concat();
                sendmail(&arguments, message)
            })
        },
        complaint,
    );
}

fn records() -> impl Strategy<Value = Vec<u8>> {
    use RecordType::{Attr, Cont, End, From, Full, Mesg, Norm, Rcpt, Verp, Xtra};
    const DATA: &[&str] = &[
        "",
        "a",
        "bob@x",
        "encoding=8bit",
        "rewrite_context=remote",
        "notify_flags=1",
        "x = y",
        "=",
        "caf\u{e9}",
        "+=",
    ];
    let usual =
        prop::sample::select(vec![From, Rcpt, Mesg, Norm, Cont, Xtra, Rcpt, End, Attr, Full, Verp]);
    let kind = prop_oneof![9 => usual, 1 => prop::sample::select(RecordType::ALL.to_vec())];
    let any_order = prop::collection::vec((kind.clone(), prop::sample::select(DATA)), 0..12);
    let good_order =
        prop::collection::vec((kind, prop::sample::select(DATA)), 0..3).prop_map(|more| {
            let mut all = vec![(From, "a"), (Rcpt, "b")];
            all.extend(more);
            all.extend([(Mesg, ""), (Norm, "x"), (Xtra, ""), (Rcpt, "c"), (End, "")]);
            all
        });
    (prop_oneof![any_order, good_order], prop::option::weighted(0.2, 0_usize..60)).prop_map(
        |(records, cut)| {
            let records: Vec<_> =
                records.iter().map(|(kind, data)| (*kind, data.as_bytes())).collect();
            let mut bytes = stream(&records);
            bytes.truncate(cut.unwrap_or(bytes.len()));
            bytes
        },
    )
}

#[test]
fn any_records() {
    in_threads(
        || records().prop_map(postdrop),
        |bench, case| {
            let (stock, ours) = (bench.stock(case), bench.ours(case));
            let is_malformed = stock.stderr.ends_with(": malformed input\n");
            let difference: Option<Difference> = is_malformed.then_some(MALFORMED);
            verdict(&Case { difference, ..case.clone() }, &stock, &ours)
        },
    );
}
