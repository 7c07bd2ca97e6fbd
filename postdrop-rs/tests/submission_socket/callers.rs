//! Tests that callers without the rights get the same result as callers with the rights.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;

use postfix_wire::attr;
use postfix_wire::record::RecordType::From;

use crate::server::{Callers, Where};
use crate::support::installed::user;
use crate::support::{Site, assert_quiet_success, code, run, said, stderr};
use crate::{MESSAGE, records};

#[test]
fn mail_goes_to_redis_as_the_caller_s() {
    let mut callers = Callers::with_redis();
    let _server = callers.server(&[]);
    for place in Where::ALL {
        assert_quiet_success(&callers.run(place, "sendmail", &["-f", "ann", "bob"], MESSAGE));
        let output = callers.run(place, "postdrop", &["-r"], &records());
        assert_quiet_success(&output);
        let messages = callers.installed.site.take_messages();
        assert_eq!(messages.len(), 2, "{place:?}");
        assert!(messages.iter().all(|message| message.uid == user().uid.as_raw()), "{place:?}");
        assert!(messages.iter().all(|m| said(&m.records).contains(&(From, "ann".to_owned()))));
        let (greeting, length) = attr::decode(&output.stdout).unwrap().unwrap();
        let id = greeting.require("queue_id").unwrap();
        assert!(messages.iter().any(|message| message.id.to_string() == id), "{id}");
        let (answer, _) = attr::decode(&output.stdout[length..]).unwrap().unwrap();
        assert_eq!((answer.get("status"), answer.get("reason")), (Some("0"), Some("")));
    }
}

/// Checks that a caller with the rights doesn't use the socket.
#[test]
fn callers_with_the_rights_do_not_ask_the_server() {
    let mut callers = Callers::with_redis();
    std::fs::create_dir(callers.socket().parent().unwrap()).unwrap();
    let listener = UnixListener::bind(callers.socket()).unwrap();
    std::fs::set_permissions(callers.socket(), PermissionsExt::from_mode(0o666)).unwrap();
    assert_quiet_success(&callers.run(Where::Nowhere, "sendmail", &["bob"], MESSAGE));
    assert_quiet_success(&callers.installed.site.sendmail(&["bob"], MESSAGE));
    assert_eq!(callers.installed.site.take_messages().len(), 2);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
}

#[test]
fn a_user_without_a_name_is_a_number() {
    let mut callers = Callers::with_redis();
    let _server = callers.server(&[]);
    let mut command =
        callers.command_as(4711, Where::NoNewPrivileges, "sendmail", &["-fann", "bob"]);
    assert_quiet_success(&run(&mut command, MESSAGE));
    assert_eq!(callers.installed.site.take_messages()[0].uid, 4711);
}

/// Replaces the caller's number in the container, 0, by its number outside.
fn who_it_is_outside(words: &str) -> String {
    words
        .replace("ann(0)", &format!("ann({})", user().uid))
        .replace("uid=0:", &format!("uid={}:", user().uid))
}

/// Checks that exit code and output of `sendmail` and `postdrop` are the same with the rights as in
/// all other places.
fn same_everywhere(callers: &Callers, input: &[u8], stream: &[u8], words: &str) {
    let told = |place| {
        let sendmail = callers.run(place, "sendmail", &["-f", "ann", "bob"], input);
        let postdrop = callers.run(place, "postdrop", &["-r"], stream);
        let answer = postdrop.stdout.iter().position(|&byte| byte == 0).map(|_| {
            let length = attr::decode(&postdrop.stdout).unwrap().map_or(0, |(_, length)| length);
            postdrop.stdout[length..].to_vec()
        });
        (
            code(&sendmail),
            who_it_is_outside(&stderr(&sendmail)),
            code(&postdrop),
            who_it_is_outside(&stderr(&postdrop)),
            answer,
        )
    };
    let expected = told(Where::Nowhere);
    assert!(expected.1.contains(words), "{expected:?}");
    for place in Where::ALL {
        assert_eq!(told(place), expected, "{place:?}");
    }
}

#[test]
fn a_user_who_may_not_submit_gets_the_same_error() {
    let mut callers = Callers::with_redis();
    let _server = callers.server(&[]);
    callers
        .installed
        .site
        .postfix
        .set_main(&["authorized_submit_users = !nobody, static:all"])
        .unwrap();
    same_everywhere(&callers, MESSAGE, &records(), "nobody(65534) is not allowed to submit mail");
    assert_eq!(callers.installed.site.take_messages().len(), 0);
}

#[test]
fn a_message_that_is_too_big_gets_the_same_error() {
    let mut callers = Callers::with_redis();
    let _server = callers.server(&[]);
    callers.installed.site.postfix.set_main(&["message_size_limit = 20"]).unwrap();
    same_everywhere(&callers, MESSAGE, &records(), "ann(65534): message file too big");
    assert_eq!(callers.installed.site.take_messages().len(), 0);
}

#[test]
fn a_message_that_can_not_be_stored_gets_the_same_error() {
    let callers = Callers::new(Site::new());
    let _server = callers.server(&[]);
    std::fs::remove_dir(callers.installed.site.postfix.queue_dir().join("maildrop")).unwrap();
    let reasons = |place| {
        let output = callers.run(place, "sendmail", &["-f", "ann", "bob"], MESSAGE);
        assert_eq!(code(&output), 75);
        // The text after "create" is the name of a temporary file.
        who_it_is_outside(stderr(&output).split("create").next().unwrap())
    };
    let expected = "sendmail: fatal: ann(65534): the message is not submitted: Redis: ";
    for place in Where::ALL {
        let told = reasons(place);
        assert!(told.starts_with(expected) && told.ends_with("; maildrop: "), "{place:?}: {told}");
    }
}

#[test]
fn without_redis_mail_goes_to_the_maildrop_as_the_caller_s() {
    let callers = Callers::new(Site::new());
    let _server = callers.server(&[]);
    for place in Where::ALL {
        assert_quiet_success(&callers.run(place, "sendmail", &["-f", "ann", "bob"], MESSAGE));
        let files = callers.installed.site.maildrop();
        let metadata = std::fs::metadata(&files[0].0).unwrap();
        assert_eq!(
            (files.len(), metadata.uid(), metadata.mode() & 0o7777),
            (1, user().uid.as_raw(), 0o744)
        );
        callers.installed.site.empty_maildrop();
    }
}

#[test]
fn without_a_server_the_failure_names_the_socket_and_the_reason() {
    let callers = Callers::new(Site::new());
    let attempt = |reason: &str| {
        for place in [Where::NoNewPrivileges, Where::Nosuid, Where::Copy] {
            let output = callers.run(place, "sendmail", &["bob"], MESSAGE);
            let words = format!("; submission socket {}: {reason}", callers.socket().display());
            assert_eq!(code(&output), 75);
            let told = stderr(&output);
            assert!(
                told.contains("maildrop: create ") && told.contains(&words),
                "{place:?}: {told}"
            );
        }
    };
    attempt("ENOENT: No such file or directory");
    let mut server = callers.server(&[]);
    server.kill9();
    attempt("ECONNREFUSED: Connection refused");
}

/// Checks SMTP on standard input, for which stock smtpd runs OPTIMUS's postdrop.
#[test]
fn smtp_on_standard_input_goes_through_the_socket() {
    let mut callers = Callers::with_redis();
    let _server = callers.server(&[]);
    let smtp =
        b"EHLO x\r\nMAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nhi\r\n.\r\n\
            QUIT\r\n";
    let output = callers.run(Where::NoNewPrivileges, "sendmail", &["-bs"], smtp);
    let said_by_smtpd = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said_by_smtpd.contains("250 2.0.0 Ok: queued as "),
        "{said_by_smtpd}{}",
        stderr(&output)
    );
    let messages = callers.installed.site.take_messages();
    assert_eq!((messages.len(), messages[0].uid), (1, user().uid.as_raw()));
    assert!(said_by_smtpd.contains(&messages[0].id.to_string()));
}
