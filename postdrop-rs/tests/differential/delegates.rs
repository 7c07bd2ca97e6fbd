//! Tests of tasks that `sendmail` leaves to other commands: the command, its arguments, folder and
//! environment, and its result.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bench::{Bench, Programs};
use super::case::{ANN, PLAIN, sendmail};
use super::support::{
    OUR_POSTDROP, OUR_SENDMAIL, RecordType, STOCK_SENDMAIL, Site, assert_quiet_success, code, run,
    said, stderr,
};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Script that prints how it was started.
const SHOW: &str = r#"#!/usr/bin/perl
use Cwd;
print "$0\n", map("<$_>\n", @ARGV), cwd(), "\n", map("$_=$ENV{$_}\n", sort keys %ENV);
print STDERR "said\n";
print "input: ", <STDIN>;
exit 7;
"#;

const COMMAND_LINES: &[(&str, &[&str])] = &[
    ("mailq", &[]),
    ("mailq", &["-v"]),
    ("newaliases", &[]),
    ("newaliases", &["-vv", "-oAhash:/x"]),
    ("smtpd", &[]),
    ("smtpd", &["-v", "-v"]),
    ("sendmail", &["-bp"]),
    ("sendmail", &["-bp", "-v", "-U"]),
    ("sendmail", &["-q"]),
    ("sendmail", &["-v", "-q", "-v"]),
    ("sendmail", &["-qRexample.org"]),
    ("sendmail", &["-q", "-bm", "-vqRexample.org"]),
    ("sendmail", &["-qI4C1B21A0", "-vv"]),
    ("sendmail", &["-qIa b", "-qR-x"]),
    ("sendmail", &["-bi"]),
    ("sendmail", &["-bi", "-oAhash:/x y"]),
    ("sendmail", &["-I", "-v"]),
    ("sendmail", &["-bs"]),
    ("sendmail", &["-bs", "-v", "-v", "-v"]),
    ("sendmail", &["-bs", "-f", "ann", "-F", "x", "-N", "never"]),
    ("sendmail", &["-bd"]),
    ("sendmail", &["-bl", "-v"]),
    ("sendmail", &["-bd", "-q"]),
    ("sendmail", &["-q", "-bd"]),
    ("sendmail", &["-bd", "-q30m"]),
    ("sendmail", &["-bv", "-bp"]),
    ("mailq", &["-q"]),
    ("newaliases", &["-bp", "--"]),
];

fn site_with_others() -> Site {
    let site = Site::new();
    let folder = site.folder("others");
    for name in ["postqueue", "postalias", "postfix", "smtpd"] {
        std::fs::write(folder.join(name), SHOW).unwrap();
        std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let folder = folder.display();
    let settings = [
        format!("command_directory = {folder}"),
        format!("daemon_directory = {folder}"),
        "alias_database = hash:/a, hash:/b".to_owned(),
        "import_environment = MAIL_CONFIG TZ LANG=C, {ADDED = a b}".to_owned(),
    ];
    site.postfix.set_main(&settings.each_ref().map(String::as_str)).unwrap();
    site
}

#[test]
fn other_commands_are_started_as_by_stock() {
    let site = site_with_others();
    for (name, arguments) in COMMAND_LINES {
        let outcome = |program| {
            let mut command = site.command(program, arguments);
            command.env_clear().env("MAIL_CONFIG", site.postfix.config_dir());
            command.arg0(name).env("TZ", "XYZ-13").env("LANG", "de").env("OTHER", "kept");
            let output = run(&mut command, b"text\n");
            (code(&output), String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output))
        };
        let (stock, ours) = (outcome(STOCK_SENDMAIL), outcome(OUR_SENDMAIL));
        assert_eq!(ours, stock, "{name} {arguments:?}");
        assert!(stock.1.contains("ADDED=a b"), "{stock:?}");
    }
}

/// Checks that stock's `sendmail` and ours have the same outcome: exit code, output, and whether an
/// alias database was made. Removes that database.
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

fn site_with_aliases(site: Site) -> Site {
    let aliases = site.postfix.config_dir().join("aliases");
    std::fs::write(&aliases, "postmaster: root\n").unwrap();
    site.postfix.set_main(&[&format!("alias_database = hash:{}", aliases.display())]).unwrap();
    site
}

/// Runs every task except `-bs`: `smtpd -S` waits minutes for missing services before it ends.
#[test]
fn other_commands_work_while_postfix_is_down() {
    let site = site_with_aliases(Site::new());
    let cases: &[&[&str]] = &[
        &["-bp"],
        &["-q"],
        &["-qRexample.org"],
        &["-qI4C1B21A0"],
        &["-bi"],
        &["-I", "-oAhash:/nonexistent/x"],
    ];
    cases.iter().for_each(|arguments| assert_same_outcome(&site, arguments, b""));
}

#[test]
fn other_commands_work_while_postfix_runs() {
    let site = site_with_aliases(Site::new());
    site.start_postfix();
    let smtp = b"EHLO x\r\nMAIL FROM:<ann@x>\r\nRCPT TO:<bob@y>\r\nRSET\r\nQUIT\r\n";
    assert_same_outcome(&site, &["-bs"], smtp);
    for arguments in [&["-bp"], &["-q"], &["-qRexample.org"], &["-qI4C1B21A0"], &["-bi"]] {
        assert_same_outcome(&site, arguments, b"");
    }
}

/// Sends two messages in one conversation. `command_directory` leads stock smtpd to OPTIMUS's
/// postdrop, as in an installation.
#[test]
fn smtp_on_standard_input_goes_to_redis() {
    let mut site = Site::with_redis();
    site.postfix
        .set_main(&[&format!(
            "command_directory = {}",
            private_commands(&site, Path::new(OUR_POSTDROP)).display()
        )])
        .unwrap();
    site.start_postfix();
    let smtp = b"EHLO x\r\nMAIL FROM:<ann@x>\r\nRCPT TO:<bob@y>\r\nRCPT TO:<eve@z>\r\nDATA\r\n\
        Subject: x\r\n\r\nbody\r\n\
        ..dot\r\n.\r\nMAIL FROM:<ann@x>\r\nRCPT TO:<fay@y>\r\nDATA\r\nSubject: second\r\n\r\n.\r\n\
        QUIT\r\n";
    let output = run(&mut site.command(OUR_SENDMAIL, &["-bs"]), smtp);
    let dialogue = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(code(&output), 0, "{dialogue}{}", stderr(&output));
    let messages = site.take_messages();
    assert_eq!(messages.len(), 2, "{dialogue}{}", stderr(&output));
    for message in &messages {
        assert!(
            dialogue.contains(&format!("250 2.0.0 Ok: queued as {}", message.id)),
            "{dialogue}"
        );
    }
    let records: Vec<_> = messages.iter().flat_map(|message| said(&message.records)).collect();
    for (kind, text) in [
        (RecordType::Rcpt, "eve@z"),
        (RecordType::Norm, ".dot"),
        (RecordType::Norm, "Subject: second"),
    ] {
        assert!(records.contains(&(kind, text.to_owned())), "{text}: {records:?}");
    }
}

/// Runs the installed programs as an ordinary user.
#[test]
fn a_user_s_smtp_on_standard_input_goes_to_redis() {
    let programs = Programs::install();
    let mut bench = Bench::new(&programs, &PLAIN);
    let commands = private_commands(&bench.site, &programs.folder().join("postdrop"));
    bench.site.postfix.set_main(&[&format!("command_directory = {}", commands.display())]).unwrap();
    bench.site.start_postfix();
    let smtp =
        b"MAIL FROM:<ann@x>\r\nRCPT TO:<bob@y>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n";
    let outcome = bench.ours(&sendmail(&["-bs"], [b"HELO x\r\n", &smtp[..]].concat()).by(ANN));
    assert_eq!((outcome.exit, outcome.stderr.as_str()), (0, ""), "{:?}", outcome.stdout);
    let records = outcome.records.unwrap();
    assert!(records.contains(&(RecordType::Norm, "body".to_owned())), "{records:?}");
}

/// Returns a folder with stock's commands and OPTIMUS's postdrop.
fn private_commands(site: &Site, postdrop: &Path) -> PathBuf {
    let folder = site.folder("commands");
    for name in ["postqueue", "postalias", "postmap", "postfix", "postlog", "postsuper"] {
        symlink(PathBuf::from("/usr/sbin").join(name), folder.join(name)).unwrap();
    }
    symlink(postdrop, folder.join("postdrop")).unwrap();
    folder
}

#[test]
fn newaliases_is_sendmail_by_another_name() {
    let site = site_with_aliases(Site::new());
    let newaliases = site.folder("bin").join("newaliases");
    symlink(OUR_SENDMAIL, &newaliases).unwrap();
    assert_quiet_success(&run(
        Command::new(newaliases).env("MAIL_CONFIG", site.postfix.config_dir()),
        b"",
    ));
    assert!(site.postfix.config_dir().join("aliases.db").exists());
}

/// Compares the delivered headers. The records differ, since only content may have line breaks.
/// Redis is away, so both messages go through the maildrop and stock pickup.
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
            assert_quiet_success(&run(
                &mut site.command(program, &arguments),
                b"Subject: x\n\nbody\n",
            ));
            let delivery = sink.wait_for(before + 1, PATIENCE).unwrap().pop().unwrap();
            let content = String::from_utf8(delivery.content.unwrap()).unwrap();
            let header = content.split("\r\n\r\n").next().unwrap().lines();
            let from = header.filter(|line| line.starts_with("From: ") || line.starts_with('X'));
            from.collect::<Vec<_>>().join("\n")
        };
        let (stock, ours) = (from(STOCK_SENDMAIL), from(OUR_SENDMAIL));
        assert_eq!(ours, stock, "{name:?}");
        assert!(ours.starts_with("From: ") && !ours.contains('\n'), "{ours}");
    }
}
