//! Test with Perl's Email::Sender, which uses `sendmail` by default.

use crate::machine::{Machine, needs};

const SCRIPT: &str = r#"
my $mail = Email::Simple->create(
    header => [From => 'Ann <ann@example.org>', To => 'Bob <bob@example.org>', Subject => 'Hello'],
    body => "one\n.\nFrom two\n",
);
sendmail($mail, { from => 'bounce@example.org', to => ['bob@example.org', '"odd one"@example.org'] });
"#;

#[test]
fn email_sender_submits_a_message() {
    needs("libemail-sender-perl", "/usr/share/perl5/Email/Sender.pm");
    let mut machine = Machine::new();
    let words = ["perl", "-MEmail::Sender::Simple=sendmail", "-MEmail::Simple", "-e", SCRIPT];
    assert_eq!(machine.run(&words, b""), "");
    let mail = machine.take_one();
    assert_eq!(mail.sender, "bounce@example.org");
    assert_eq!(mail.recipients, ["bob@example.org", "odd one@example.org"]);
    assert_eq!(mail.header("Subject"), Some("Hello"));
    assert_eq!(mail.body(), "one\n.\nFrom two\n");
}
