//! Test of the whole way: a client, OPTIMUS's `sendmail`, Redis, the agents, pickup-rs, stock
//! Postfix, and the delivered message.

use testbed::{Postfix, Sink, until};

use crate::machine::{Daemon, LIMIT, Machine, needs};
use crate::support::Site;
use crate::support::installed::{Installed, USER, user};

const SCRIPT: &str = r#"<?php
exit(mail("bob@example.org", "Hello", "one\r\n.\r\ntwo\r\n", "From: Ann <ann@example.org>\r\nBcc: eve@example.org") ? 0 : 1);"#;

/// Sends one message with the rights of the group, and one through postdropd.
#[test]
fn mail_of_php_is_delivered() {
    needs("php-cli", "/usr/bin/php");
    let sink = Sink::start().unwrap();
    let postfix = Postfix::builder().relay_to(sink.port()).optimus().start().unwrap();
    let machine = Machine::of(Installed::new(Site { postfix, redis: None }, 0o2755));
    let postfix = &machine.installed.site.postfix;
    let log = std::fs::File::create(postfix.path().join("agents.log")).unwrap();
    let mut agents = postfix.command(testbed::bin("optimus"));
    let _agents = Daemon::start(agents.arg("run").stdout(log.try_clone().unwrap()).stderr(log));
    let socket = postfix.queue_dir().join("public/optimus-redis");
    until(LIMIT, "Redis to answer", || std::os::unix::net::UnixStream::connect(&socket).is_ok())
        .unwrap();

    let script = machine.write("mail.php", SCRIPT);
    assert_eq!(machine.run(&["php", "-f", &script], b""), "");
    let _server = machine.postdropd();
    assert_eq!(machine.run_without_new_privileges(&["php", "-f", &script]), "");
    let deliveries = sink.wait_for(2, LIMIT).unwrap();
    for delivery in &deliveries {
        assert_eq!(delivery.rcpts, ["bob@example.org", "eve@example.org"]);
        assert_eq!(delivery.sender, format!("{USER}@testbed.example.org"));
        let content =
            String::from_utf8_lossy(delivery.content.as_ref().unwrap()).replace("\r\n", "\n");
        assert!(content.contains("\n\none\n.\ntwo\n"), "{content}");
        assert!(content.contains(&format!("(Postfix, from userid {})", user().uid)), "{content}");
        assert!(!content.contains("eve@"), "{content}");
    }
    assert_eq!(postfix.log().matches(&format!("uid={} from=<{USER}>", user().uid)).count(), 2);
}
