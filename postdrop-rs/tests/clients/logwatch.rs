//! Test with logwatch, which sends its report through `sendmail -t`.

use crate::machine::{Machine, needs, succeeded};
use crate::support::run;

const LOG: &str = "Nov 20 10:00:00 host postfix/smtpd[1]: warning: something: odd\n\
    Nov 20 10:00:01 host postfix/qmgr[2]: 4C1B21A0: from=<ann@example.org>, size=1000, nrcpt=1 \
    (queue active)\n\
    Nov 20 10:00:01 host postfix/qmgr[2]: 4C1B21A0: removed\n";

#[test]
fn logwatch_mails_its_report() {
    needs("logwatch", "/usr/sbin/logwatch");
    let mut machine = Machine::new();
    std::fs::create_dir(machine.home.join("logs")).unwrap();
    machine.write("logs/mail.log", LOG);
    machine.write("logs/maillog", LOG);
    // logwatch makes names in its settings lower case, and so would not find the test's temporary
    // folder.
    let also = r#"mount -t tmpfs none /var/cache && mkdir /var/cache/logwatch && mount --bind "$home/logs" /var/log"#;
    let words =
        ["logwatch", "--output", "mail", "--mailto", "bob@example.org", "--service", "postfix"];
    let words = [&words[..], &["--range", "all", "--hostname", "host.example.org"]].concat();
    let told = succeeded(&run(&mut machine.command_as("--clear-groups", also, &words), b""));
    let mail = machine.take();
    assert_eq!(mail.len(), 1, "{told}");
    assert_eq!((mail[0].uid, mail[0].sender.as_str()), (0, "root"));
    assert_eq!(mail[0].recipients, ["bob@example.org"]);
    assert!(mail[0].header("Subject").unwrap().starts_with("Logwatch for "), "{}", mail[0].content);
    assert!(mail[0].body().contains("Postfix Begin"), "{}", mail[0].content);
}
