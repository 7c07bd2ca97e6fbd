//! Tests with Nodemailer's sendmail transport.

use crate::machine::{Machine, needs};

const SCRIPT: &str = r#"
const transport = require('/usr/share/nodejs/nodemailer').createTransport({ sendmail: true, newline: 'unix' });
const message = {
    from: 'Ann <ann@example.org>', to: 'bob@example.org', bcc: 'eve@example.org', subject: 'Hello', text: 'one\n.\ntwo\n',
    envelope: { from: 'bounce@example.org', to: ['bob@example.org', 'eve@example.org'] },
};
transport.sendMail(message, (error) => { if (error) { console.error(error); process.exit(1); } });
"#;

#[test]
fn nodemailer() {
    needs("nodejs", "/usr/bin/node");
    needs("node-nodemailer", "/usr/share/nodejs/nodemailer/package.json");
    let mut machine = Machine::new();
    assert_eq!(machine.run(&["node", "-e", SCRIPT], b""), "");
    let mail = machine.take_one();
    assert_eq!(mail.sender, "bounce@example.org");
    assert_eq!(mail.recipients, ["bob@example.org", "eve@example.org"]);
    assert_eq!(mail.header("From"), Some("Ann <ann@example.org>"));
    assert!(!mail.content.contains('\r'));
    assert_eq!(mail.body(), "one\n.\ntwo\n");
}

#[test]
fn nodemailer_reports_a_refusal() {
    needs("node-nodemailer", "/usr/share/nodejs/nodemailer/package.json");
    let mut machine = Machine::new();
    machine.installed.site.postfix.set_main(&["message_size_limit = 100"]).unwrap();
    let output = crate::support::run(&mut machine.command(&["node", "-e", SCRIPT]), b"");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("Sendmail exited with code 75"), "{told}");
    assert_eq!(machine.take().len(), 0);
}
