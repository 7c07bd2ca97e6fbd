//! The installed programs at work: a user's mail through the installed set-group-id `sendmail`,
//! Redis, pickup-rs and the system's own Postfix.

use std::process::Child;
use std::time::Duration;

use spool::{
    AgentKind, Attendance, Commit, CommitNumber, Committed, FencingToken, Generation, LotNumber,
    MessageId, NodeId, Registered, Registration, Renewed, Server, Spool, Submission, keys,
};
use testbed::{Sink, until};

use super::system::System;

const LONG: Duration = Duration::from_secs(60);

/// Script that runs a program in a sandbox as the unit's: two capabilities, no new privileges, two
/// writable folders.
const SANDBOX: &str = r#"
mount --bind /var/spool/postfix /var/spool/postfix && mount --bind /var/lib/postfix /var/lib/postfix || exit 99
for folder in usr etc var; do mount -o remount,ro,bind /$folder 2>/dev/null || mount -o remount,ro /$folder || exit 98; done
exec setpriv --no-new-privs --bounding-set -all,+setuid,+setgid --inh-caps -all "$@"
"#;

struct Running<'a> {
    system: &'a System,
    agents: Child,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // The program gets the signal, not nsenter, which runs it in another process.
        let _ = self.system.output(&["sh", "-c", "kill $(pidof optimus)"]);
        let _ = self.agents.wait();
        let _ = self.system.output(&["postfix", "stop"]);
    }
}

fn prepare(system: &System, sink: &Sink) {
    let master = "postconf -MX smtp/inet; rm -f /var/lib/postfix/master.lock";
    let relay = format!("relayhost=[127.0.0.1]:{}", sink.port());
    let quiet = "maillog_file=/var/log/optimus-test.log inet_interfaces=loopback-only \
        mydestination= smtp_tls_security_level=";
    system.sh(&format!(
        "{master}; postconf -e {relay} {quiet} smtputf8_enable=no alias_maps= alias_database="
    ));
    system.sh("touch /etc/postfix/optimus.toml");
}

/// Runs the agents as the unit does, in a namespace of their own inside the system's.
fn run_agents(system: &System) -> Child {
    let exec = system.sh("sed -n 's/^ExecStart=//p' /etc/systemd/system/optimus.service");
    let mut command = system.command("unshare");
    command.args(["-m", "sh", "-c", SANDBOX, "sh"]).args(exec.split_whitespace());
    command.stdout(std::fs::File::create(system.scratch.path().join("agents.log")).unwrap());
    command.stderr(std::fs::File::create(system.scratch.path().join("agents.err")).unwrap());
    command.spawn().unwrap()
}

/// Returns all logs, and the status.
fn log(system: &System) -> String {
    let logs =
        format!("cat {}/agents.*; cat /var/log/optimus-test.log", system.scratch.path().display());
    system.sh(&logs) + &system.optimus(&["status"]).1
}

#[test]
fn mail_goes_through_the_installed_programs_and_is_not_left_behind() {
    let (system, sink) = (System::new(), Sink::start().unwrap());
    prepare(&system, &sink);
    let before = system.snapshot();
    let from = testbed::bin("optimus").parent().unwrap().display().to_string();
    system.sh("postfix start 2>&1");
    let text = system.expect_optimus(&["install", "--from", &from]);
    assert!(text.contains("reload the Postfix of /etc/postfix"), "{text}");
    let running = Running { system: &system, agents: run_agents(&system) };
    let log = || log(&system);
    let socket = "test -S /var/spool/postfix/public/optimus-redis";
    until(LONG, "redis", || system.output(&["sh", "-c", socket]).status.success())
        .unwrap_or_else(|e| panic!("{e}: {}", log()));
    let check = system.optimus(&["check"]).1;
    assert!(!check.contains("error:"), "{check}");

    let submit = "printf 'Subject: x\\nX-Test-Id: m1\\n\\nhello\\n\
        ' | setpriv --reuid nobody --regid nogroup --clear-groups /usr/sbin/sendmail -f \
        from@example.org to@example.org";
    system.sh(submit);
    until(LONG, "the mail", || sink.count() == 1).unwrap_or_else(|e| panic!("{e}: {}", log()));
    until(LONG, "the mail to be settled", || system.optimus(&["status"]).1.contains("settled 1"))
        .unwrap();

    drop(running);
    system.sh("postfix start 2>&1");
    // Redis has ended with its agents, so its mail can't be counted.
    let (is_fine, text) = system.optimus(&["uninstall"]);
    assert!(!is_fine && text.contains("mail that is left: not counted"), "{text}");
    let running = Running { system: &system, agents: run_agents(&system) };
    until(LONG, "redis", || system.optimus(&["uninstall", "--dry-run"]).0)
        .unwrap_or_else(|e| panic!("{e}: {}", log()));
    let text = system.expect_optimus(&["uninstall"]);
    assert!(text.contains("left for you to keep or remove: /etc/postfix/optimus.toml"), "{text}");
    drop(running);
    let stays = "rm -r /var/lib/postfix/optimus-redis /var/lib/postfix/*lock; true";
    system.sh(stays);
    system.sh("ls -la /etc/postfix /var/lib/postfix");
    let after: Vec<String> =
        system.snapshot().into_keys().filter(|it| !it.starts_with("var/lib/postfix")).collect();
    let before: Vec<String> =
        before.into_keys().filter(|it| !it.starts_with("var/lib/postfix")).collect();
    assert_eq!(after, before);
}

/// Installs this build's programs with a Redis that others may share, and without agents.
fn install_with(redis: &testbed::Redis) -> System {
    let (system, sink) = (System::new(), Sink::start().unwrap());
    prepare(&system, &sink);
    let everybody = || std::os::unix::fs::PermissionsExt::from_mode(0o777);
    for it in redis.socket().ancestors().take_while(|it| *it != std::env::temp_dir()) {
        std::fs::set_permissions(it, everybody()).unwrap();
    }
    system.sh(&format!(
        "printf '[redis]\nurl = \"%s\"\n' '{}' > /etc/postfix/optimus.toml",
        redis.url()
    ));
    let from = testbed::bin("optimus").parent().unwrap().display().to_string();
    system.expect_optimus(&["install", "--from", &from, "--agents", "none"]);
    system
}

#[test]
fn mail_in_redis_keeps_optimus_from_being_uninstalled() {
    let redis = testbed::Redis::start().unwrap();
    let system = install_with(&redis);
    let installed = system.snapshot();
    for _ in 0..3 {
        system.sh("echo hello | /usr/sbin/sendmail to@example.org");
    }
    let (is_fine, text) = system.optimus(&["uninstall"]);
    assert!(
        !is_fine && text.contains("mail is left: 3 in Redis") && text.contains("--force"),
        "{text}"
    );
    system.expect_as(&installed, "refused");
    system.expect_optimus(&["uninstall", "--force"]);
    assert!(!system.sh("dpkg-divert --list").contains("sendmail"));
}

/// Otherwise another node would send the mail again once this one's Mail Agent has been away for
/// long.
#[test]
fn mail_committed_to_this_node_is_given_over_to_its_postfix() {
    let redis = testbed::Redis::start().unwrap();
    let system = install_with(&redis);
    system.sh("install -d -o postfix -m 700 /var/spool/postfix/optimus/node");
    system.sh(&format!("echo {NODE} > /var/spool/postfix/optimus/node/identity"));
    let agent = with_one_committed(&redis);
    let (is_fine, text) = system.optimus(&["uninstall"]);
    assert!(!is_fine && text.contains("Mail Agent node of host: still runs"), "{text}");
    assert_eq!(redis.cli(&["HLEN", &keys::mail_of("node")]).unwrap().trim(), "1");

    in_redis(&redis, async |spool| {
        spool.leave(&agent.agent, agent.generation).await.unwrap();
    });
    let text = system.expect_optimus(&["uninstall"]);
    assert!(
        text.contains("1 messages given over to this Postfix, which delivers them by itself"),
        "{text}"
    );
    assert_eq!(redis.cli(&["EXISTS", &keys::mail_of("node")]).unwrap().trim(), "0");
}

/// The command must not advise to end the original's Mail Agent.
#[test]
fn a_copy_gives_nothing_over_though_the_mail_agent_of_the_original_runs() {
    let redis = testbed::Redis::start().unwrap();
    let system = install_with(&redis);
    system.sh("install -d -o postfix -m 700 /var/spool/postfix/optimus/node");
    system.sh(&format!("echo {NODE} > /var/spool/postfix/optimus/node/identity"));
    let agent = with_one_committed(&redis);
    in_redis(&redis, async |spool| {
        let nonce = Generation::new().unwrap();
        let elsewhere = Attendance {
            generation: 0,
            last: Generation::NONE,
            nonce,
            mark: CommitNumber(1),
            place: "there",
            host: "mx1",
            live: LONG,
            leaves: false,
        };
        spool.attend(&NODE.parse().unwrap(), &elsewhere).await.unwrap();
    });
    let (is_fine, text) = system.optimus(&["uninstall"]);
    let is_said = text.contains("a copy, while the mail of node node is with mx1");
    assert!(!is_fine && is_said && !text.contains("still runs"), "{text}");
    assert!(text.contains("add --force to uninstall without giving mail over"), "{text}");
    let text = system.expect_optimus(&["uninstall", "--force"]);
    assert!(text.contains("the mail of node node is with mx1"), "{text}");
    assert_eq!(
        redis.cli(&["HLEN", &keys::mail_of(NODE)]).unwrap().trim(),
        "1",
        "it is the original's"
    );
    in_redis(&redis, async |spool| {
        let renewed = spool.renew(&agent.agent, agent.generation, LONG).await.unwrap();
        assert_eq!(renewed, Renewed::Renewed, "the original's Mail Agent keeps its place");
    });
}

const NODE: &str = "node";

/// Commits a message as the node's Mail Agent. Returns that agent, which is alive.
fn with_one_committed(redis: &testbed::Redis) -> Registration {
    let node: NodeId = NODE.parse().unwrap();
    let agent = Registration {
        agent: node.clone().into(),
        kind: AgentKind::Mail,
        generation: Generation::new().unwrap(),
        lease: LONG * 60,
        name: "host".to_owned(),
        capacity: 1,
        address: None,
        unfit: None,
    };
    in_redis(redis, async |spool| {
        let Registered::New(start) = spool.register(&agent).await.unwrap() else { panic!() };
        let token = FencingToken { node: node.clone(), start };
        spool.arrive(&token).await.unwrap();
        let id = MessageId::new().unwrap();
        spool
            .submit(&Submission { id, uid: 0, arrival_ms: 0, host: "host", records: b"x" })
            .await
            .unwrap();
        spool.cut(LotNumber(1), 1, Some(&node)).await.unwrap();
        let lots = spool.fetch(&token).await.unwrap();
        let queue_id = "0123456789".parse().unwrap();
        let commit = Commit { id, lot: lots[0].lot, epoch: lots[0].epoch, queue_id };
        assert_eq!(spool.commit(&token, &[commit]).await.unwrap(), [Committed::Committed]);
    });
    agent
}

fn in_redis(redis: &testbed::Redis, work: impl AsyncFnOnce(Spool)) {
    let spool = Spool::new(Server::parse(&redis.url()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work(spool));
}

/// Checks a `sendmail` as cron starts it, hours before there is anything to send.
#[test]
fn a_sendmail_that_is_still_reading_keeps_optimus_from_being_uninstalled() {
    let redis = testbed::Redis::start().unwrap();
    let system = install_with(&redis);
    let mut sendmail = system.command("/usr/sbin/sendmail");
    let mut sendmail =
        sendmail.arg("to@example.org").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let is_running = "pidof sendmail";
    until(LONG, "sendmail", || system.output(&["sh", "-c", is_running]).status.success()).unwrap();
    let (is_fine, text) = system.optimus(&["uninstall"]);
    assert!(
        !is_fine
            && text
                .contains("mail is coming in by replaced programs: /usr/sbin/sendmail (process "),
        "{text}"
    );
    drop(sendmail.stdin.take());
    sendmail.wait().unwrap();
    let (is_fine, text) = system.optimus(&["uninstall"]);
    assert!(!is_fine && text.contains("mail is left: 1 in Redis"), "{text}");
}
