//! Tests of `mailq` for ordinary users. The program's group has the right to ask servers that can
//! read the queue.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use postfix_wire::showq::{END, Entry, Recipient, greeting};

use crate::support::installed::{Installed, USER};
use crate::support::{OUR_SENDMAIL, Site, code, run, stderr};

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const DOWN: &str = "Queue report unavailable - mail system is down";

/// Returns a Mail Agent's listing, which breaks off without `end`.
fn listing(end: &[u8]) -> Vec<u8> {
    let recipients =
        vec![Recipient { address: "bob@example.org".to_owned(), reason: String::new() }];
    let entry = Entry {
        queue: "inbox".to_owned(),
        id: ID.to_owned(),
        bytes: 4096,
        recipients,
        ..Entry::default()
    };
    let mut bytes = greeting();
    entry.encode(&mut bytes);
    bytes.extend_from_slice(end);
    bytes
}

/// Serves in a Mail Agent's place: sends `bytes` to every client, until the test ends.
fn serve(site: &Site, bytes: Vec<u8>) {
    let path = site.postfix.queue_dir().join("public/optimus-showq");
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|mut stream| drop(stream.write_all(&bytes)));
    });
}

fn mailq(installed: &Installed) -> (i32, String, String) {
    let output = installed.run(&[], "sendmail", &["-bp"], b"");
    (code(&output), String::from_utf8(output.stdout.clone()).unwrap(), stderr(&output))
}

#[test]
fn a_user_sees_mail_in_redis_and_mail_in_postfix() {
    let installed = Installed::new(Site::new(), 0o2755);
    serve(&installed.site, listing(END));
    let (exit, said, complaint) = mailq(&installed);
    assert!(said.contains(ID) && !said.contains("Request"), "{said}");
    assert!(exit == 75 && complaint.contains(DOWN), "{complaint}");
    installed.site.start_postfix();
    let (exit, said, complaint) = mailq(&installed);
    assert_eq!((exit, complaint.as_str()), (0, ""), "{said}");
    assert!(said.contains(ID) && said.ends_with("\n-- 4 Kbytes in 1 Request.\n"), "{said}");
}

#[test]
fn a_listing_that_breaks_off_is_a_failure() {
    let installed = Installed::new(Site::new(), 0o2755);
    serve(&installed.site, listing(b""));
    installed.site.start_postfix();
    let (exit, said, complaint) = mailq(&installed);
    assert!(said.contains(ID) && !said.contains("Request"), "{said}");
    assert!(exit == 75 && complaint.contains("mail in Redis: list cut short"), "{complaint}");
}

#[test]
fn a_user_without_the_right_sees_no_queue_and_root_does() {
    let installed = Installed::new(Site::new(), 0o2755);
    installed.site.postfix.set_main(&["authorized_mailq_users = postfix"]).unwrap();
    serve(&installed.site, listing(END));
    installed.site.start_postfix();
    let (exit, said, complaint) = mailq(&installed);
    let words = format!("User {USER}(65534) is not allowed to view the mail queue\n");
    assert!(exit == 75 && said.is_empty() && complaint.ends_with(&words), "{said}{complaint}");
    let output = run(&mut installed.site.command(OUR_SENDMAIL, &["-bp"]), b"");
    assert!(
        code(&output) == 0 && String::from_utf8_lossy(&output.stdout).contains(ID),
        "{output:?}"
    );
}
