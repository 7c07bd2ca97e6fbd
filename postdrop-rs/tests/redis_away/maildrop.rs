//! Tests of mail in the maildrop, the wake-up of pickup, and warnings that reach nobody.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::time::Duration;

use postfix_wire::QueueId;
use postfix_wire::record::RecordType::{End, From, Mesg, Norm, Rcpt, Xtra};
use testbed::until_some;

use crate::support::{
    OUR_POSTDROP, OUR_SENDMAIL, STOCK_SENDMAIL, Site, assert_quiet_success, code, run, said,
    stderr, stream,
};
use crate::{MESSAGE, MailLog, file_name};

#[test]
fn without_redis_mail_goes_to_the_maildrop_as_from_stock_postdrop() {
    let site = Site::new();
    let log = MailLog::of(&site);
    assert_quiet_success(&site.sendmail(&["-f", "ann", "bob"], MESSAGE));
    let ours = site.maildrop();
    assert_eq!(ours.len(), 1);
    let (path, records) = &ours[0];
    let metadata = std::fs::metadata(path).unwrap();
    let id: QueueId = file_name(path).parse().unwrap();
    assert_eq!(id.inode(), Some(metadata.ino()));
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o744, 0));
    assert!(!id.is_long());
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains(" testbed postfix/sendmail[") && lines[0].contains(&format!("as {id}: ")),
        "{lines:?}"
    );

    site.empty_maildrop();
    let stock = site.stock(&mut site.command(STOCK_SENDMAIL, &["-f", "ann", "bob"]), MESSAGE);
    assert_eq!(stock.0.as_ref(), Some(records));
}

#[test]
fn the_maildrop_obeys_the_instance_s_queue_settings() {
    let site = Site::new();
    site.postfix
        .set_main(&[
            "enable_long_queue_ids = yes",
            "hash_queue_names = maildrop",
            "hash_queue_depth = 2",
        ])
        .unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    let (path, _) = &site.maildrop()[0];
    let id: QueueId = file_name(path).parse().unwrap();
    assert!(id.is_long());
    assert_eq!(
        path.strip_prefix(site.postfix.queue_dir()).unwrap(),
        id.path(postfix_wire::QueueName::Maildrop, 2)
    );
}

/// Puts a link into a folder of a hashed maildrop, which belongs to `mail_owner`, and submits as
/// root.
#[test]
fn a_link_in_a_hashed_maildrop_leads_no_file_of_root_elsewhere() {
    let site = Site::new();
    site.postfix.set_main(&["hash_queue_names = maildrop", "hash_queue_depth = 1"]).unwrap();
    let elsewhere = site.folder("elsewhere");
    let maildrop = site.postfix.queue_dir().join("maildrop");
    for digit in "0123456789ABCDEF".chars() {
        let link = maildrop.join(digit.to_string());
        symlink(&elsewhere, &link).unwrap();
        lchown(link, Some(maildrop.metadata().unwrap().uid()), None).unwrap();
    }
    let output = site.sendmail(&["bob"], MESSAGE);
    assert_eq!(code(&output), 75, "{}", stderr(&output));
    assert!(stderr(&output).contains("is a link in a folder"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
}

/// Returns a closed pipe, for standard output or error.
fn closed_pipe() -> Stdio {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full_device() -> Stdio {
    std::fs::File::options().write(true).open("/dev/full").unwrap().into()
}

/// Gives two addresses as one sender, about which sendmail warns.
#[test]
fn a_warning_that_can_not_be_printed_loses_no_mail() {
    let site = Site::new();
    let log = MailLog::of(&site);
    for stderr in [closed_pipe(), full_device()] {
        let mut command = site.command(OUR_SENDMAIL, &["-f", "ann, carol", "bob"]);
        let mut child = command.stdin(Stdio::piped()).stderr(stderr).spawn().unwrap();
        child.stdin.take().unwrap().write_all(MESSAGE).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(site.maildrop().len(), 1);
        site.empty_maildrop();
        let lines = log.lines();
        assert!(lines.iter().any(|line| line.contains("malformed sender")), "{lines:?}");
    }
}

/// Checks that a failure to tell the client doesn't make a stored message a failure.
#[test]
fn a_stored_message_is_a_success_even_without_a_written_answer() {
    let site = Site::new();
    let log = MailLog::of(&site);
    let records =
        stream(&[(From, b""), (Rcpt, b"a"), (Mesg, b""), (Norm, b"x"), (Xtra, b""), (End, b"")]);
    let (reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let stdout = std::os::fd::OwnedFd::from(writer.try_clone().unwrap());
    let mut command = site.command(OUR_POSTDROP, &["-r"]);
    let mut child = command.stdin(Stdio::piped()).stdout(stdout).spawn().unwrap();
    let mut greeting = [0; 512];
    assert!((&reader).read(&mut greeting).unwrap() > 0);
    // The pipe has no room for the answer.
    while (&writer).write(&[0; 4096]).is_ok() {}
    while (&writer).write(&[0]).is_ok() {}
    child.stdin.take().unwrap().write_all(&records).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(site.maildrop().len(), 1);
    let lines = log.lines();
    assert!(lines.iter().any(|line| line.contains("standard output")), "{lines:?}");
}

#[test]
fn pickup_is_woken_on_its_socket_or_fifo() {
    let site = Site::new();
    let service = site.postfix.queue_dir().join("public/pickup");
    let mut fifo = std::fs::File::options().read(true).write(true).open(&service).unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    let mut byte = [0];
    fifo.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"W");

    std::fs::remove_file(&service).unwrap();
    let listener = UnixListener::bind(&service).unwrap();
    assert_quiet_success(&site.sendmail(&["bob"], MESSAGE));
    let mut request = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut request).unwrap();
    assert_eq!(request, b"W\0");
}

#[test]
fn stock_pickup_delivers_mail_from_the_maildrop() {
    let sink = testbed::Sink::start().unwrap();
    let site = Site::new();
    site.postfix.set_main(&[&format!("relayhost = [127.0.0.1]:{}", sink.port())]).unwrap();
    site.start_postfix();
    assert_quiet_success(&site.sendmail(&["-f", "ann@example.org", "bob@example.org"], MESSAGE));
    let limit = Duration::from_secs(30);
    let deliveries =
        until_some(limit, "delivery", || Some(sink.received()).filter(|all| !all.is_empty()))
            .unwrap();
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].rcpts, ["bob@example.org"]);
}

#[test]
fn a_client_that_dies_in_mid_message_submits_nothing() {
    let mut site = Site::with_redis();
    let bytes = stream(&[(From, b""), (Rcpt, b"a"), (Mesg, b""), (Norm, b"x")]);
    let output = run(&mut site.command(OUR_POSTDROP, &["-r"]), &bytes);
    assert_eq!(code(&output), 0);
    assert_eq!(said(&bytes).len(), 4);
    assert_eq!((site.take_messages().len(), site.maildrop().len()), (0, 0));
}
