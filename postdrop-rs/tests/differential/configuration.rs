//! Cases of settings in `main.cf`: rights to submit and to use senders, limits, VERP, other
//! configurations, and mistakes.

use super::case::{
    ANN, BOB, Case, Configuration, EVE, NUMBER, ROOT, Readable, User, main_cf, postdrop, sendmail,
};
use super::differences::{
    BAD_PARAMETERS, HIDDEN_TABLES, ONE_PROGRAM, REFUSED_EXIT, UNLISTED, UNOPENED, UNUSED_PARAMETERS,
};
use super::support::{RecordType, stream};

const MESSAGE: &[u8] = b"Subject: x\n\nbody\n";

/// Rights to submit, with every type of table.
static WHO_MAY_SUBMIT: &[Configuration] = &[
    main_cf(&["authorized_submit_users ="]),
    main_cf(&["authorized_submit_users = ann"]),
    main_cf(&["authorized_submit_users = eve, unknown"]),
    main_cf(&["authorized_submit_users = !ann, !unknown, static:all"]),
    main_cf(&["authorized_submit_users = static:"]),
    main_cf(&["authorized_submit_users = !static:x, ann"]),
    main_cf(&["authorized_submit_users = bob !"]),
    main_cf(&["authorized_submit_users = inline:{ann=x, {eve = a b}}"]),
    main_cf(&["authorized_submit_users = !inline:{ann=x}, static:{a b}"]),
    main_cf(&["authorized_submit_users = regexp:$config_directory/nothing, ann"]),
    main_cf(&["authorized_submit_users = !hash:$config_directory/nothing, static:all"]),
    main_cf(&["authorized_submit_users = unheard-of:x, static:all"]),
    main_cf(&["authorized_submit_users = fail:x, static:all"]),
    main_cf(&["authorized_submit_users = ann, fail:x"]),
    main_cf(&["authorized_submit_users = unix:passwd.byname"]),
    main_cf(&["authorized_submit_users = unionmap:{inline:{ann=x},inline:{eve=x}}"]),
    main_cf(&["authorized_submit_users = /nonexistent/users, static:all"]),
    main_cf(&["authorized_submit_users = [ann]:x, eve"]),
    Configuration {
        main: &["authorized_submit_users = regexp:$config_directory/users"],
        files: &[("users", "/^(ann|unknown)$/ x\n", Readable::ByAll)],
        databases: &[],
    },
    Configuration {
        main: &["authorized_submit_users = texthash:$config_directory/users"],
        files: &[("users", "ann x\nEve x\n", Readable::ByAll)],
        databases: &[],
    },
    Configuration {
        main: &["authorized_submit_users = hash:$config_directory/users"],
        files: &[("users", "ann x\neve x\n", Readable::ByAll)],
        databases: &["users"],
    },
    Configuration {
        main: &["authorized_submit_users = !hash:$config_directory/users, static:all"],
        files: &[("users", "ann x\n", Readable::ByAll)],
        databases: &["users"],
    },
];

/// Lists with comments. Stock warns twice about a comment that it reads.
static COMMENTED: &[Configuration] = &[
    main_cf(&["authorized_submit_users = !!ANN eve # root, unknown"]),
    Configuration {
        main: &["authorized_submit_users = !$config_directory/not, $config_directory/users"],
        files: &[
            ("users", "# who may\nann # and\n  eve,\nunknown\n", Readable::ByAll),
            ("not", "#unknown\nunknown\n", Readable::ByAll),
        ],
        databases: &[],
    },
];

static HIDDEN: Configuration = Configuration {
    main: &["authorized_submit_users = texthash:$config_directory/users"],
    files: &[("users", "ann x\nroot x\n", Readable::ByGroup)],
    databases: &[],
};

static AS_WHOM: &[Configuration] = &[
    main_cf(&["local_login_sender_maps ="]),
    main_cf(&["local_login_sender_maps = static:*", "recipient_delimiter = +"]),
    main_cf(&[
        "local_login_sender_maps = inline:{{ann = ann@x, \"a b\"@x, <>}, root=*, uid:7999=@x}",
    ]),
    main_cf(&[
        "local_login_sender_maps = inline:{{ann = ANN@x}, {eve = @x}}, static:{ann nobody <>}",
        "recipient_delimiter = +-",
    ]),
    main_cf(&[
        "local_login_sender_maps = static:{none @x}",
        "empty_address_local_login_sender_maps_lookup_key = none",
    ]),
    Configuration {
        main: &[
            "local_login_sender_maps = regexp:$config_directory/senders",
            "recipient_delimiter = +",
        ],
        files: &[("senders", "/^(.*)$/ $1 $1@x\n", Readable::ByGroup)],
        databases: &[],
    },
];

/// Tables that can't answer.
static FAILING: &[Configuration] = &[
    main_cf(&["local_login_sender_maps = inline:{root=x}, fail:x, static:*"]),
    main_cf(&["local_login_sender_maps = hash:$config_directory/nothing"]),
    main_cf(&["local_login_sender_maps = unheard-of:x"]),
    main_cf(&["local_login_sender_maps = static:"]),
];

const SENDERS: &[&str] = &[
    "ann",
    "ann@x",
    "Ann+list@X",
    "ann-list@x",
    "a b@x",
    "",
    "eve@y@x",
    "@x",
    "uid:7999",
    "\"ann\"@x",
];

static VERP: Configuration =
    main_cf(&["default_verp_delimiters = b-", "verp_delimiter_filter = ab-"]);
static RENAMED: Configuration = main_cf(&["syslog_name = other/name", "multi_instance_name = x"]);
static WRONG_ENDINGS: Configuration = main_cf(&["sendmail_fix_line_endings = sometimes"]);
static UNUSED: &[Configuration] = &[
    main_cf(&["setgid_group = unheard-of"]),
    main_cf(&["mail_owner = unheard-of"]),
    main_cf(&["default_verp_delimiters = x"]),
    main_cf(&["queue_directory = /nonexistent"]),
];
static BAD: &[Configuration] = &[
    main_cf(&["message_size_limit = much"]),
    main_cf(&["line_length_limit = 100"]),
    main_cf(&["header_size_limit = 0"]),
    main_cf(&["enable_long_queue_ids = perhaps"]),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for configuration in WHO_MAY_SUBMIT {
        for user in [ROOT, ANN, EVE, NUMBER] {
            cases.push(submission(user).under(configuration));
        }
    }
    cases.extend(
        WHO_MAY_SUBMIT
            .iter()
            .step_by(3)
            .map(|configuration| to_postdrop("ann", ANN).under(configuration)),
    );
    cases.push(submission(ROOT).under(&HIDDEN));
    cases.push(submission(ANN).under(&HIDDEN).differs(HIDDEN_TABLES));
    cases.push(to_postdrop("ann", ANN).under(&HIDDEN));
    for configuration in AS_WHOM {
        cases.extend(SENDERS.iter().map(|sender| as_whom(sender, ANN).under(configuration)));
        for user in [ROOT, EVE, NUMBER] {
            cases.push(as_whom("ann@x", user).under(configuration));
        }
    }
    for configuration in COMMENTED {
        cases.extend(
            [ANN, EVE].map(|user| submission(user).under(configuration).differs(ONE_PROGRAM)),
        );
        cases.extend([ROOT, NUMBER].map(|user| submission(user).under(configuration)));
        cases.push(to_postdrop("ann", ANN).under(configuration));
    }
    for configuration in FAILING {
        for sender in ["ann", "ann@x", ""] {
            cases.push(as_whom(sender, ANN).under(configuration).differs(ONE_PROGRAM));
        }
    }
    cases.push(as_whom("x", ROOT).under(&FAILING[0]));
    cases.push(as_whom("y", ROOT).under(&FAILING[0]));
    cases.push(to_postdrop("ann", ANN).under(&FAILING[0]));
    cases.extend(FAILING[1..].iter().map(|c| to_postdrop("ann", ANN).under(c).differs(UNOPENED)));
    cases.extend(verdicts_of_postdrop());
    for arguments in [&["-XV", "bob"][..], &["-XVab", "bob"], &["-XV+=", "bob"], &["-Vba", "bob"]] {
        cases.push(sendmail(arguments, MESSAGE).under(&VERP));
    }
    cases.push(sendmail(&["-N", "x", "-n"], MESSAGE).under(&RENAMED));
    cases.push(sendmail(&["bob"], MESSAGE).under(&WRONG_ENDINGS));
    cases.push(sendmail(&["-bv", "bob"], MESSAGE).under(&WRONG_ENDINGS));
    for configuration in UNUSED {
        cases.push(sendmail(&["bob"], MESSAGE).under(configuration).differs(UNUSED_PARAMETERS));
    }
    for configuration in BAD {
        cases.push(sendmail(&["bob"], MESSAGE).under(configuration).differs(BAD_PARAMETERS));
    }
    cases.extend(other_directories());
    cases.extend(listed_directories());
    cases.extend(host_names());
    cases.extend(from_elsewhere());
    cases
}

/// Names for a host: some that Postfix refuses, and some that it accepts.
const NAMES: &[&str] = &[
    "a b",
    "1.2.3.4",
    "a..b",
    "(none)",
    "$foo",
    ".a.b",
    "a.b.",
    "-a.b",
    "a-.b",
    "a.-b",
    "[::1]",
    "::1",
    "[1.2.3.4]",
    "17",
    "1.2",
    "a/b",
    "a,b",
    "caf\u{e9}.b",
    "a_b",
    "1a",
    "a",
    "A-1.B",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];
/// Names in [`NAMES`] that Postfix accepts.
const GOOD_NAMES: &[&str] =
    &["a_b", "1a", "a", "A-1.B", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"];
static UNNAMED: Configuration = main_cf(&["-myhostname"]);
static EMPTY_NAMES: [Configuration; 2] = [main_cf(&["myhostname ="]), main_cf(&["mydomain ="])];
static NAMED: [fn(&str) -> String; 2] =
    [|name| format!("myhostname = {name}"), |name| format!("mydomain = {name}")];

fn host_names() -> Vec<Case> {
    let is_good = |name: &&str| GOOD_NAMES.contains(name);
    let submission = || sendmail(&["bob"], MESSAGE);
    let judged =
        |case: Case, is_good: bool| if is_good { case } else { case.differs(BAD_PARAMETERS) };
    let mut cases: Vec<Case> = EMPTY_NAMES
        .iter()
        .map(|configuration| judged(submission().under(configuration), false))
        .collect();
    for name in NAMES {
        for named in NAMED {
            let line: &'static str = Box::leak(named(name).into_boxed_str());
            let configuration = Box::leak(Box::new(main_cf(Box::leak(Box::new([line])))));
            cases.push(judged(submission().under(configuration), is_good(name)));
        }
        cases.push(judged(submission().under(&UNNAMED).on_machine(name), is_good(name)));
        cases.push(submission().on_machine(name));
    }
    cases.push(judged(submission().under(&UNNAMED).on_machine(""), false));
    cases
}

/// Lists that name the same directory by other texts.
static LISTED: &[Configuration] = &[
    main_cf(&["alternate_config_directories = /etc/postfix/"]),
    main_cf(&["multi_instance_directories = /etc//postfix, /etc/postfix/."]),
    main_cf(&[
        "alternate_config_directories = $config_directory/",
        "multi_instance_directories = //etc/postfix",
    ]),
    main_cf(&["alternate_config_directories = /nonexistent /etc/../etc/postfix"]),
];
const DIRECTORIES: &[&str] = &[
    "/etc/postfix",
    "/etc/postfix/",
    "/etc//postfix",
    "/etc/postfix/.",
    "//etc/postfix",
    "/etc/../etc/postfix",
    "/etc/postfix/main.cf",
    "/etc/postfix//main.cf",
    "/etc/postfix/main.cf/",
    "/etc/postfix/./main.cf",
    "etc/postfix",
    "",
    ".",
];

fn listed_directories() -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, configuration) in LISTED.iter().enumerate() {
        for directory in DIRECTORIES {
            let file = directory
                .trim_end_matches('/')
                .strip_suffix("main.cf")
                .map(|it| it.trim_end_matches('/'));
            let is_listed = |directory: &str| {
                directory == "/etc/postfix"
                    || match number {
                        0 => directory == "/etc/postfix/",
                        1 => matches!(directory, "/etc//postfix" | "/etc/postfix/."),
                        2 => matches!(directory, "//etc/postfix"),
                        _ => directory == "/etc/../etc/postfix",
                    }
            };
            let judged = |case: Case, directory: &str| {
                let case = case.by(ANN).under(configuration);
                if is_listed(directory) { case } else { case.differs(UNLISTED) }
            };
            let named = file.unwrap_or(directory);
            cases.push(judged(sendmail(&["-C", directory, "bob"], MESSAGE), named));
            cases.push(judged(
                sendmail(&["-C", directory, "-C", "/etc/postfix", "bob"], MESSAGE),
                named,
            ));
            if file.is_none() {
                cases.push(judged(
                    sendmail(&["bob"], MESSAGE).environment("MAIL_CONFIG", directory),
                    directory,
                ));
                let arguments = vec![b"-c".to_vec(), directory.as_bytes().to_vec()];
                cases.push(judged(Case { arguments, ..to_postdrop("a", ANN) }, directory));
            }
        }
    }
    cases
}

/// Returns cases of `-G`, which changes only the rewriting context.
fn from_elsewhere() -> Vec<Case> {
    let arguments: [&[&str]; 5] = [
        &["-G", "bob"],
        &["-G", "-t"],
        &["-Gi", "-f", "", "bob"],
        &["-G", "-bv", "bob"],
        &["-GN", "never", "-V", "x", "bob"],
    ];
    let message = b"To: carl\nSubject: x\n\nbody\n";
    arguments.iter().flat_map(|it| [ROOT, ANN].map(|user| sendmail(it, message).by(user))).collect()
}

fn submission(user: User) -> Case {
    sendmail(&["-f", "ann", "bob"], MESSAGE).by(user)
}

fn as_whom(sender: &str, user: User) -> Case {
    // `sendmail` reads the sender as a header. So any text becomes an address, except for the
    // parser's operators.
    sendmail(&["-f", sender, "bob"], MESSAGE).by(user)
}

fn to_postdrop(sender: &str, user: User) -> Case {
    use RecordType::{End, From, Mesg, Norm, Rcpt, Xtra};
    let records: [(_, &[u8]); 6] = [
        (From, sender.as_bytes()),
        (Rcpt, b"bob"),
        (Mesg, b""),
        (Norm, b"x"),
        (Xtra, b""),
        (End, b""),
    ];
    postdrop(stream(&records)).by(user)
}

/// Returns cases in which postdrop refuses a sender and the client goes on. The later records have
/// no effect.
fn verdicts_of_postdrop() -> Vec<Case> {
    use RecordType::{End, From, Mesg, Rcpt, Xtra};
    let maps = &AS_WHOM[2];
    let after: [&[(RecordType, &[u8])]; 4] = [
        &[(Rcpt, b"bob"), (Mesg, b""), (Xtra, b""), (End, b"")],
        &[(Mesg, b""), (Mesg, b""), (Rcpt, b"bob"), (End, b"")],
        &[(From, b"ann@x"), (End, b"")],
        &[(Rcpt, b"bob")],
    ];
    let mut cases =
        vec![to_postdrop("ann@x", ANN).under(maps), to_postdrop("a b@x", ANN).under(maps)];
    for records in after {
        let records = [&[(From, &b"eve@y"[..])][..], records].concat();
        cases.push(postdrop(stream(&records)).by(ANN).under(maps).differs(REFUSED_EXIT));
    }
    cases
}

/// Returns cases of other configuration directories. Root may name any; other users may name only a
/// listed one (see `tests/set_group_id/`).
fn other_directories() -> Vec<Case> {
    let mut cases = vec![
        sendmail(&["-C", "/nonexistent", "bob"], MESSAGE),
        sendmail(&["-C", "/nonexistent/main.cf", "-n"], MESSAGE),
        sendmail(&["-C", "/etc/postfix/../../nonexistent", "bob"], MESSAGE),
        sendmail(&["-C"], MESSAGE),
    ];
    for user in [ANN, BOB] {
        cases.push(sendmail(&["-C", "/etc/postfix", "bob"], MESSAGE).by(user));
        cases.push(sendmail(&["-C/etc/postfix/main.cf", "bob"], MESSAGE).by(user));
        cases.push(sendmail(&["-C", "/nonexistent", "bob"], MESSAGE).by(user).differs(UNLISTED));
    }
    cases.push(
        Case { arguments: vec![b"-c".to_vec(), b"/nonexistent".to_vec()], ..to_postdrop("a", ANN) }
            .differs(UNLISTED),
    );
    cases
}
