//! Tests of the rights and surroundings with which `sendmail` asks a lookup table. See decision
//! 0010.

use std::os::unix::fs::PermissionsExt;

use super::bench::{Bench, Programs};
use super::case::{ANN, PLAIN, sendmail};

/// Script that writes down its own state and surroundings, and returns an entry for the caller.
const SHOW: &str = r#"#!/usr/bin/perl
open(my $seen, ">>", "@@/seen") or die $!;
open(my $status, "<", "/proc/self/status") or die $!;
print $seen map("<$_>\n", @ARGV), map("$_=$ENV{$_}\n", sort keys %ENV), grep(/^[UG]id:/, <$status>);
print $seen "input: ", <STDIN>, "\n";
print "ann\@x\n";
"#;

/// Runs `sendmail` for a caller without rights in surroundings of the caller's making.
#[test]
fn a_table_is_asked_with_the_group_s_rights_and_nothing_of_the_caller_s() {
    let programs = Programs::install();
    let mut bench = Bench::new(&programs, &PLAIN);
    let folder = bench.site.folder("others");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::write(folder.join("postmap"), SHOW.replace("@@", &folder.display().to_string()))
        .unwrap();
    std::fs::set_permissions(folder.join("postmap"), PermissionsExt::from_mode(0o755)).unwrap();
    let settings = [
        format!("command_directory = {}", folder.display()),
        "authorized_submit_users = hash:who".to_owned(),
        "local_login_sender_maps = ldap:whom".to_owned(),
        "import_environment = MAIL_CONFIG TZ LANG=C, {KRB5_KTNAME = /key}".to_owned(),
    ];
    bench.site.postfix.set_main(&settings.each_ref().map(String::as_str)).unwrap();
    let hostile = |case: super::case::Case| {
        let variables = [
            ("MAIL_CONFIG", "/etc/postfix"),
            ("MAIL_VERBOSE", "1"),
            ("TZ", "/etc/shadow"),
            ("LANG", "x"),
            ("PATH", "."),
        ];
        variables.iter().fold(case, |case, (name, value)| case.environment(name, value))
    };
    let outcome = bench.ours(&hostile(sendmail(&["-f", "ann@x", "bob"], "x\n").by(ANN)));
    assert_eq!((outcome.exit, outcome.stderr.as_str()), (0, ""));
    let seen = std::fs::read_to_string(folder.join("seen")).unwrap();
    let group = nix::unistd::Group::from_name("postdrop").unwrap().unwrap().gid;
    let lookup = |arguments: &str| {
        let environment = "KRB5_KTNAME=/key\nLANG=C\nMAIL_CONFIG=/etc/postfix\n";
        let ids = format!("Uid:\t7001\t7001\t7001\t7001\nGid:\t7001\t{group}\t{group}\t{group}\n");
        format!("{arguments}{environment}{ids}input: \n")
    };
    let expected = lookup("<-f>\n<-q>\n<ann>\n<-->\n<hash:who>\n")
        + &lookup("<-q>\n<ann>\n<-->\n<ldap:whom>\n");
    assert_eq!(seen, expected);
}

/// Checks that any end of postmap without an answer gives no permission.
#[test]
fn a_table_without_an_answer_permits_nothing() {
    let programs = Programs::install();
    let mut bench = Bench::new(&programs, &PLAIN);
    let folder = bench.site.folder("others");
    for (script, exit, words) in [
        ("echo x", 0, ""),
        ("echo postmap: warning: old >&2; echo x", 0, "sendmail: warning: old\n"),
        ("exit 1", 75, "sendmail: fatal: User ann(7001) is not allowed to submit mail\n"),
        ("echo postmap: fatal: away >&2; exit 1", 75, "sendmail: fatal: away\n"),
        ("echo postmap: fatal: table hash:who: query error >&2; exit 1", 75, PROBLEM),
        ("exit 2", 75, PROBLEM),
        ("echo x; exit 75", 75, PROBLEM),
        ("kill -9 $$", 75, PROBLEM),
        ("exec 2>&-; kill $$", 75, PROBLEM),
    ] {
        let path = folder.join("postmap.new");
        std::fs::write(&path, format!("#!/bin/sh -p\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::rename(&path, folder.join("postmap")).unwrap();
        let command_directory = format!("command_directory = {}", folder.display());
        for (list, not_found_permits) in [("hash:who", false), ("!hash:who, static:all", true)] {
            let list = format!("authorized_submit_users = {list}");
            bench.site.postfix.set_main(&[&command_directory, &list]).unwrap();
            let outcome = bench.ours(&sendmail(&["-f", "ann@x", "bob"], "x\n").by(ANN));
            if not_found_permits && words.is_empty() | words.contains("warning") {
                assert_eq!(outcome.exit, 75, "{script}: {}", outcome.stderr);
            } else if not_found_permits && script == "exit 1" {
                assert_eq!(outcome.exit, 0, "{script}: {}", outcome.stderr);
            } else {
                assert_eq!((outcome.exit, outcome.stderr.as_str()), (exit, words), "{script}");
            }
        }
    }
}

const PROBLEM: &str = "sendmail: fatal: authorized_submit_users: hash:who: table lookup problem\n";
