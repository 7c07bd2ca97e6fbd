//! Tests with PHP's `mail()`.

use crate::machine::{Machine, needs};
use crate::support::run;

/// Script like those behind web forms: SMTP's line ends, a hidden copy, the sender as an extra
/// parameter.
const SCRIPT: &str = r#"
$headers = "From: Ann <ann@example.org>\r\nBcc: eve@example.org, \"Z, Z\" <zed@example.org>\r\nContent-Type: text/plain; charset=utf-8";
exit(mail("Bob <bob@example.org>", "Grüße", "one\n.\ntwo\r\n", $headers, "-fbounce@example.org") ? 0 : 1);
"#;

fn php(machine: &Machine) -> [String; 3] {
    needs("php-cli", "/usr/bin/php");
    ["/usr/bin/php".into(), "-f".into(), machine.write("mail.php", &format!("<?php {SCRIPT}"))]
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

fn assert_it_arrived(machine: &mut Machine) {
    let mail = machine.take_one();
    assert_eq!(mail.sender, "bounce@example.org");
    assert_eq!(mail.recipients, ["bob@example.org", "eve@example.org", "zed@example.org"]);
    assert_eq!(mail.header("To"), Some("Bob <bob@example.org>"));
    assert_eq!(mail.header("From"), Some("Ann <ann@example.org>"));
    // Stock cleanup removes Bcc later.
    assert!(mail.header("Bcc").is_some() && !mail.content.contains('\r'), "{}", mail.content);
    // PHP adds a line end of its own.
    assert_eq!(mail.body(), "one\n.\ntwo\n\n");
}

#[test]
fn php_mail() {
    let mut machine = Machine::new();
    assert_eq!(machine.run(&words(&php(&machine)), b""), "");
    assert_it_arrived(&mut machine);
}

/// Calls `mail()` in the surroundings of a php-fpm service that systemd has hardened.
#[test]
fn php_submits_mail_without_new_privileges() {
    let mut machine = Machine::new();
    let _server = machine.postdropd();
    assert_eq!(machine.run_without_new_privileges(&words(&php(&machine))), "");
    assert_it_arrived(&mut machine);
}

/// Checks the failure that PHP sees, which is the exit code alone.
#[test]
fn php_reports_mail_that_is_not_sent() {
    let mut machine = Machine::new();
    machine.installed.site.postfix.set_main(&["authorized_submit_users = root"]).unwrap();
    let output = run(&mut machine.command(&words(&php(&machine))), b"");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("nobody(65534) is not allowed to submit mail"), "{told}");
    assert_eq!(machine.take().len(), 0);
}
