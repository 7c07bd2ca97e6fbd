//! Tests with Symfony's mailer: its default, which is SMTP on standard input, and `-t`.

use crate::machine::{Machine, needs};

const SCRIPT: &str = r#"<?php
require '/usr/share/php/Symfony/Component/Mailer/autoload.php';
require_once '/usr/share/php/Symfony/Component/Mime/autoload.php';
$mailer = new Symfony\Component\Mailer\Mailer(Symfony\Component\Mailer\Transport::fromDsn($argv[1]));
foreach (['first', 'second'] as $subject) {
    $mailer->send((new Symfony\Component\Mime\Email())
        ->from('Ann <ann@example.org>')->to('bob@example.org')->bcc('eve@example.org')
        ->subject($subject)->text("one\n.\ntwo\n"));
}
"#;

fn send(machine: &mut Machine, dsn: &str) {
    needs("php-cli", "/usr/bin/php");
    needs("php-symfony-mailer", "/usr/share/php/Symfony/Component/Mailer/autoload.php");
    let script = machine.write("mail.php", SCRIPT);
    assert_eq!(
        machine.run(&["php", "-d", "error_reporting=E_ALL&~E_DEPRECATED", &script, dsn], b""),
        ""
    );
    let mut mail = machine.take();
    mail.sort_by_key(|mail| mail.header("Subject").map(str::to_owned));
    assert_eq!(mail.len(), 2);
    for (mail, subject) in mail.iter().zip(["first", "second"]) {
        assert_eq!(
            (mail.sender.as_str(), mail.header("Subject")),
            ("ann@example.org", Some(subject))
        );
        assert!(mail.recipients.contains(&"bob@example.org".to_owned()));
        assert!(mail.recipients.contains(&"eve@example.org".to_owned()));
        assert!(!mail.content.contains("eve") && !mail.content.contains('\r'), "{}", mail.content);
        // Symfony adds a line end before the final dot.
        assert_eq!(mail.body().trim_end(), "one\n.\ntwo");
    }
}

/// Sends two messages in one conversation with stock smtpd.
#[test]
fn symfony_mailer_submits_by_smtp_on_standard_input() {
    let mut machine = Machine::new();
    send(&mut machine, "sendmail://default");
}

#[test]
fn symfony_mailer_submits_with_t() {
    let mut machine = Machine::new();
    send(&mut machine, "sendmail://default?command=/usr/sbin/sendmail%20-oi%20-t");
}
