//! All the way: a client, our `sendmail`, Redis, the agents, pickup-rs, stock Postfix, and what comes out.

use std::process::Child;
use std::time::Duration;

use testbed::{Postfix, Sink, until};

use crate::machine::{Machine, needs};
use crate::support::Site;
use crate::support::installed::{Installed, USER, user};

const LIMIT: Duration = Duration::from_secs(60);
const SCRIPT: &str = r#"<?php
exit(mail("bob@example.org", "Hello", "one\r\n.\r\ntwo\r\n", "From: Ann <ann@example.org>\r\nBcc: eve@example.org") ? 0 : 1);"#;

struct Agents(Child);

impl Drop for Agents {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_php_sends_is_delivered() {
    needs("php-cli", "/usr/bin/php");
    let sink = Sink::start().unwrap();
    let postfix = Postfix::builder().relay_to(sink.port()).optimus().start().unwrap();
    let machine = Machine::of(Installed::new(Site { postfix, redis: None }, 0o2755));
    let postfix = &machine.installed.site.postfix;
    let log = std::fs::File::create(postfix.path().join("agents.log")).unwrap();
    let mut agents = postfix.command(testbed::bin("optimus"));
    let agents = agents.arg("run").stdout(log.try_clone().unwrap()).stderr(log).spawn();
    let _agents = Agents(agents.unwrap());
    let socket = postfix.queue_dir().join("public/optimus-redis");
    until(LIMIT, "Redis to answer", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).unwrap();

    let script = machine.write("mail.php", SCRIPT);
    assert_eq!(machine.run(&["php", "-f", &script], b""), "");
    let deliveries = sink.wait_for(1, LIMIT).unwrap();
    assert_eq!(
        (deliveries.len(), &deliveries[0].rcpts[..]),
        (1, &["bob@example.org", "eve@example.org"].map(str::to_owned)[..])
    );
    assert_eq!(deliveries[0].sender, format!("{USER}@testbed.example.org"));
    let content = String::from_utf8_lossy(deliveries[0].content.as_ref().unwrap()).replace("\r\n", "\n");
    assert!(content.contains("\n\none\n.\ntwo\n"), "{content}");
    assert!(content.contains(&format!("(Postfix, from userid {})", user().uid)), "{content}");
    assert!(!content.contains("eve@"), "{content}");
    assert!(postfix.log().contains(&format!("uid={} from=<{USER}>", user().uid)));
}
