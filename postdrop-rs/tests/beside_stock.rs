//! Tests of sentences in `docs/differences.md` that no differential case can show. Each test runs
//! stock's program, too.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use support::installed::Installed;
use support::{
    OUR_POSTDROP, OUR_SENDMAIL, STOCK_POSTDROP, STOCK_SENDMAIL, Site, code, run, stderr,
};

const MESSAGE: &[u8] = b"Subject: x\n\nbody\n";
const A_SECOND: Duration = Duration::from_secs(1);

/// Runs stock's sendmail, then ours.
fn both(site: &Site, command: impl Fn(&Site, &str) -> Command) -> [Output; 2] {
    let stocks = run(&mut command(site, STOCK_SENDMAIL), MESSAGE);
    site.empty_maildrop();
    [stocks, run(&mut command(site, OUR_SENDMAIL), MESSAGE)]
}

fn limited(site: &Site, limit: &str, program: &str) -> Command {
    let script = format!("ulimit {limit}; exec timeout 3 {program} bob");
    site.command("sh", &["-c", &script])
}

#[test]
fn stock_postdrop_sleeps_before_a_fatal_error_and_our_program_does_not() {
    let site = Site::with_redis();
    let took = |program: &str, times: u32| {
        let start = Instant::now();
        for _ in 0..times {
            assert_ne!(code(&run(&mut site.command(program, &["-r", "extra"]), MESSAGE)), 0);
        }
        start.elapsed()
    };
    assert!(took(STOCK_POSTDROP, 1) >= A_SECOND);
    assert!(took(OUR_POSTDROP, 20) < 20 * A_SECOND);
}

#[test]
fn only_our_program_finds_a_relative_configuration_directory_of_root() {
    let site = Site::with_redis();
    let [stocks, ours] = both(&site, |site, program| {
        let mut command = site.command(program, &["-C", "etc", "bob"]);
        command.env_remove("MAIL_CONFIG").current_dir(site.postfix.path());
        command
    });
    assert_ne!(code(&stocks), 0, "{}", stderr(&stocks));
    assert_eq!(code(&ours), 0, "{}", stderr(&ours));
}

/// Checks that neither program notices a missing table or file after the first match.
#[test]
fn a_missing_table_or_file_counts_only_when_the_search_reaches_it() {
    for (list, is_refused) in [
        ("static:anyone, hash:/nonexistent/table", false),
        ("static:anyone, /nonexistent/patterns", false),
        ("hash:/nonexistent/table, static:anyone", true),
        ("/nonexistent/patterns, static:anyone", true),
    ] {
        let site = Site::with_redis();
        site.postfix.set_main(&[&format!("authorized_submit_users = {list}")]).unwrap();
        let redis = site.redis.as_ref().unwrap().socket();
        std::fs::set_permissions(redis, PermissionsExt::from_mode(0o777)).unwrap();
        // Root may always submit, so an ordinary user runs the program.
        let script = r#"mount --bind "$1" /etc/postfix && exec setpriv --reuid 65534 --clear-groups "$2" bob"#;
        let outputs = both(&site, |site, program| {
            let mut command = site.command("unshare", &["-m", "sh", "-c", script, "sh"]);
            command.arg(site.postfix.config_dir()).arg(program).env_remove("MAIL_CONFIG");
            command
        });
        let refused = outputs.each_ref().map(|it| code(it) != 0);
        assert_eq!(refused, [is_refused; 2], "{list}: {:?}", outputs.each_ref().map(stderr));
    }
}

#[test]
fn a_limit_of_file_size_stops_stock_alone() {
    let site = Site::with_redis();
    let [stocks, ours] = both(&site, |site, program| limited(site, "-f 0", program));
    assert_eq!((code(&stocks), code(&ours)), (75, 0), "{}{}", stderr(&stocks), stderr(&ours));
}

/// Checks how both programs end. timeout(1) ends the stock program.
#[test]
fn stock_tries_for_ever_with_four_open_files_and_our_program_ends_with_75() {
    let site = Site::with_redis();
    let [stocks, ours] = both(&site, |site, program| limited(site, "-n 4", program));
    assert_eq!((code(&stocks), code(&ours)), (124, 75), "{}{}", stderr(&stocks), stderr(&ours));
    assert!(stderr(&stocks).contains("fork: Too many open files"), "{}", stderr(&stocks));
    assert!(stderr(&ours).contains("RLIMIT_NOFILE"), "{}", stderr(&ours));
}

/// Runs each program several times: the kernel moves the stack, so OPTIMUS's program ends at
/// another point in each run.
#[test]
fn too_small_a_stack_ends_stock_by_a_signal_and_our_program_leaves_no_file() {
    let site = Site::with_redis();
    let small = |site: &Site, program: &str| {
        let script = format!("ulimit -s 12; exec {program} bob");
        site.command("sh", &["-c", &script])
    };
    let [stocks, ours] = both(&site, small);
    assert!(stocks.status.signal().is_some(), "{:?}: {}", stocks.status, stderr(&stocks));
    let is_known = ours.status.signal().is_some() || [0, 75].contains(&code(&ours));
    assert!(is_known, "{:?}: {}", ours.status, stderr(&ours));
    assert_eq!(site.postfix.queue_files("maildrop").len(), 0);
}

/// Returns the next line of a mail log.
fn logged_as(log: &UnixDatagram) -> String {
    let mut buffer = [0; 8192];
    let length = log.recv(&mut buffer).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn a_log_tag_in_the_environment_does_not_change_the_name_in_the_log() {
    let site = Site::with_redis();
    let log = UnixDatagram::bind(site.postfix.queue_dir().join("public/postlog")).unwrap();
    log.set_nonblocking(true).unwrap();
    for program in [STOCK_SENDMAIL, OUR_SENDMAIL] {
        // Both programs log an error about the missing recipient.
        let output = run(site.command(program, &["-f", "a@b"]).env("MAIL_LOGTAG", "other"), b"");
        assert_ne!(code(&output), 0, "{}", stderr(&output));
        let line = logged_as(&log);
        assert!(line.contains(" postfix/sendmail["), "{program}: {line}");
    }
}

/// Checks that a command of root's `sendmail -q` gets the variables that both programs set, and
/// root's own.
#[test]
fn a_value_in_import_environment_is_set_for_commands_as_with_stock() {
    let site = Site::with_redis();
    let commands = site.folder("commands");
    let told = site.postfix.path().join("told");
    let script = format!("#!/bin/sh\necho \"$VALUE $OWN\" > {}\n", told.display());
    std::fs::write(commands.join("postqueue"), script).unwrap();
    std::fs::set_permissions(commands.join("postqueue"), PermissionsExt::from_mode(0o755)).unwrap();
    let settings = [
        format!("command_directory = {}", commands.display()),
        "import_environment = MAIL_CONFIG VALUE=set".to_owned(),
    ];
    site.postfix.set_main(&settings.each_ref().map(String::as_str)).unwrap();
    for program in [STOCK_SENDMAIL, OUR_SENDMAIL] {
        let mut command = site.command(program, &["-q"]);
        let output = run(command.env("VALUE", "mine").env("OWN", "kept"), b"");
        assert_eq!(code(&output), 0, "{program}: {}", stderr(&output));
        assert_eq!(std::fs::read_to_string(&told).unwrap(), "set kept\n", "{program}");
        std::fs::remove_file(&told).unwrap();
    }
}

/// Checks that both programs give up the right of root, warn, and go on. Some sites install
/// `sendmail` in this way by mistake.
#[test]
fn a_sendmail_that_is_set_user_id_root_says_so_in_fewer_lines_than_stock() {
    let installed = Installed::with_redis();
    let folder = installed.site.folder("mistaken");
    let warnings = |program: &str| {
        let copy = folder.join("sendmail");
        std::fs::copy(program, &copy).unwrap();
        std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o4755)).unwrap();
        let mut command = installed.as_user(&[copy.to_str().unwrap(), "-V"]);
        let output = run(&mut command, b"");
        std::fs::remove_file(&copy).unwrap();
        let said = stderr(&output);
        said.lines().filter(|it| it.contains("root")).count()
    };
    assert_eq!([STOCK_SENDMAIL, OUR_SENDMAIL].map(warnings), [3, 1]);
}
