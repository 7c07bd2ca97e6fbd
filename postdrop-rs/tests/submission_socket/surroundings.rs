//! Tests of the surroundings of postdropd's children, and of the needs of postdropd itself.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use nix::unistd::chown;
use testbed::until;

use crate::MESSAGE;
use crate::server::{Callers, LIMIT, Where};
use crate::support::installed::user;
use crate::support::{OUR_POSTDROPD, Site, assert_quiet_success, code, run, stderr};

/// Program in postdrop's place, which prints its own state on standard error.
const WHO_AM_I: &str = r#"#!/usr/bin/perl
open(my $status, "<", "/proc/self/status") or die $!;
my @lines = grep(/^([UG]id|Groups|SigBlk|Cap(Prm|Eff|Inh|Amb)|NoNewPrivs):/, <$status>);
tr/\t\n/  / for @lines;
opendir(my $folder, "/proc/self/fd") or die $!;
my $own = fileno($folder);
my %files = map { $_ => readlink("/proc/self/fd/$_") } grep { /^\d+$/ && $_ > 2 } readdir($folder);
my $others = grep { !m{^/proc/|/postdrop$} } values %files;
my @environment = map { "$_=$ENV{$_}" } sort keys %ENV;
print STDERR "postdrop: fatal: @lines; $others other files; environment: @environment\n";
"#;

fn replace_postdrop(callers: &Callers) {
    let postdrop = callers.installed.programs.join("postdrop");
    std::fs::write(&postdrop, WHO_AM_I).unwrap();
    chown(&postdrop, Some(0.into()), Some(0.into())).unwrap();
    std::fs::set_permissions(&postdrop, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn children_of_the_server_keep_nothing_of_root() {
    let callers = Callers::new(Site::new());
    replace_postdrop(&callers);
    let _server = callers.server(&[]);
    let told = stderr(&callers.run(Where::Copy, "sendmail", &["bob"], MESSAGE));
    let (uid, gid) = (user().uid, user().gid);
    assert!(told.contains(&format!("Uid: {uid} {uid} {uid} {uid} ")), "{told}");
    assert!(told.contains(&format!("Gid: {gid} {gid} {gid} {gid} ")), "{told}");
    assert!(told.contains("Groups:   "), "{told}");
    for set in ["SigBlk", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert!(told.contains(&format!("{set}: 0000000000000000")), "{told}");
    }
    assert!(told.contains("NoNewPrivs: 0"), "{told}");
    assert!(told.ends_with("; 0 other files; environment: \n"), "{told}");
}

/// Checks `MAIL_CONFIG`, the only variable that postdropd sets, and only for another instance.
#[test]
fn another_instance_is_named_in_the_environment() {
    let callers = Callers::new(Site::new());
    replace_postdrop(&callers);
    let config = callers.installed.site.postfix.config_dir();
    let mut command = callers.installed.site.postfix.command(OUR_POSTDROPD);
    let mut server = command.env("SECRET", "x").spawn().unwrap();
    until(LIMIT, "postdropd to listen", || callers.socket().exists()).unwrap();
    let told = stderr(&callers.run(Where::Copy, "sendmail", &["bob"], MESSAGE));
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(told.ends_with(&format!("environment: MAIL_CONFIG={}\n", config.display())), "{told}");
}

/// Runs a postdrop without the bit, which comes to postdropd for its rights, again and again.
#[test]
fn a_postdrop_that_is_not_installed_set_group_id_is_reported() {
    let callers = Callers::new(Site::new());
    let postdrop = callers.installed.programs.join("postdrop");
    std::fs::set_permissions(&postdrop, PermissionsExt::from_mode(0o755)).unwrap();
    let server = callers.server(&[]);
    let output = callers.run(Where::Copy, "sendmail", &["bob"], MESSAGE);
    assert_eq!(code(&output), 75);
    assert!(stderr(&output).contains("set the set-group-id bit"), "{}", stderr(&output));
    assert!(server.log().contains("set the set-group-id bit"));

    std::fs::remove_file(&postdrop).unwrap();
    let output = callers.run(Where::Copy, "sendmail", &["bob"], MESSAGE);
    assert_eq!(code(&output), 75);
    let words = format!("execute {}: No such file", postdrop.display());
    assert!(stderr(&output).contains(&words), "{}", stderr(&output));
}

#[test]
fn a_server_that_can_not_work_prints_the_reason_and_ends() {
    let callers = Callers::new(Site::new());
    for (before, words) in [
        (&["setpriv", "--no-new-privs"][..], "NoNewPrivileges"),
        (&["setpriv", "--reuid", "65534", "--clear-groups"], "must be run by root"),
    ] {
        let mut server = callers.server_unready(&[before, &[OUR_POSTDROPD]].concat(), &[]);
        assert_eq!(server.child.wait().unwrap().code(), Some(1));
        assert!(server.log().contains(words), "{}", server.log());
    }
    let mut server = callers.server_unready(&[OUR_POSTDROPD], &["--connections", "0"]);
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
    assert!(server.log().contains("usage: postdropd"), "{}", server.log());
}

#[test]
fn the_first_of_two_servers_has_the_socket() {
    let callers = Callers::with_redis();
    let first = callers.server(&[]);
    let mut second = callers.server_unready(&[OUR_POSTDROPD], &[]);
    assert_eq!(second.child.wait().unwrap().code(), Some(1));
    assert!(second.log().contains("in use by another postdropd"), "{}", second.log());
    assert_quiet_success(&callers.run(Where::Copy, "sendmail", &["bob"], MESSAGE));
    // The socket that a killed server leaves belongs to no process.
    drop(first);
    assert!(callers.socket().exists());
    let _third = callers.server_unready(&[OUR_POSTDROPD], &[]);
    until(LIMIT, "postdropd to listen", || {
        std::os::unix::net::UnixStream::connect(callers.socket()).is_ok()
    })
    .unwrap();
    assert_quiet_success(&callers.run(Where::Copy, "sendmail", &["bob"], MESSAGE));
}

/// Passes the socket as systemd does: as descriptor 3, with the id of the process that gets it.
#[test]
fn a_service_manager_may_hold_the_socket() {
    let mut callers = Callers::with_redis();
    std::fs::create_dir(callers.socket().parent().unwrap()).unwrap();
    let listener = UnixListener::bind(callers.socket()).unwrap();
    std::fs::set_permissions(callers.socket(), PermissionsExt::from_mode(0o666)).unwrap();
    let script = r#"mount --bind "$1" /etc/postfix; exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$2""#;
    let site = &callers.installed.site;
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(site.postfix.config_dir())
        .arg(OUR_POSTDROPD);
    let socket = std::os::fd::OwnedFd::from(listener.try_clone().unwrap());
    let mut server = command.current_dir(site.postfix.path()).stdin(socket).spawn().unwrap();
    assert_quiet_success(&callers.run(Where::NoNewPrivileges, "sendmail", &["bob"], MESSAGE));
    let pid = nix::unistd::Pid::from_raw(server.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(server.wait().unwrap().success());
    assert!(callers.socket().exists(), "it isn't ours to remove");
    assert_eq!(callers.installed.site.take_messages().len(), 1);
}

/// Checks the setting of the socket's path, for containers that must not see the queue directory.
#[test]
fn the_socket_can_lie_elsewhere() {
    let callers = Callers::new(Site::new());
    let elsewhere = callers.installed.site.folder("run").join("submit");
    callers
        .installed
        .site
        .settings(&format!("[submit]\nsocket = {:?}\n", elsewhere.display().to_string()));
    let _server = callers.server_unready(&[OUR_POSTDROPD], &[]);
    until(LIMIT, "postdropd to listen", || {
        std::os::unix::net::UnixStream::connect(&elsewhere)
            .is_ok_and(|mut stream| stream.read(&mut [0]).is_ok())
    })
    .unwrap();
    assert_quiet_success(&run(
        &mut callers.command(Where::NoNewPrivileges, "sendmail", &["bob"]),
        MESSAGE,
    ));
    assert_eq!(callers.installed.site.maildrop().len(), 1);
}

/// Checks that the server, which needs /proc to become its peers' users, says so at its start
/// instead of failing each peer.
#[test]
fn a_server_without_proc_ends_and_says_what_to_mount() {
    let callers = Callers::new(Site::new());
    let script = "mount -t tmpfs none /proc && exec \"$@\"";
    let mut server = callers.server_unready(&["sh", "-c", script, "sh", OUR_POSTDROPD], &[]);
    let status = server.child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(
        server.log().contains("/proc/self/exe: needed to become other users"),
        "{}",
        server.log()
    );
    assert!(server.log().contains("; mount /proc"), "{}", server.log());
}
