//! What an operator sees: `optimus status`, `check`, `config`, and clear errors.

use std::os::unix::fs::PermissionsExt;

use super::common::{LONG, Plan};
use testbed::until;

#[test]
fn status_shows_agents_lots_and_counts() {
    let mut platform = Plan::default().start();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.until_status("all agents", |status| status["agents"].as_array().is_some_and(|it| it.len() == 3));
    platform.submit(3);
    platform.expect_all_once();
    let status = platform.until_status("all settled", |status| status["counts"]["settled"] == 3);
    assert_eq!((&status["backlog"], &status["corrupt_total"]), (&0.into(), &0.into()), "{status:#}");
    assert_eq!(status["queue"]["handoff"], "hold", "{status:#}");
    assert_eq!(status["nodes"][0]["credit"], 2000, "{status:#}");
    let (is_fine, text) = platform.optimus(&["status"]);
    assert!(is_fine && text.contains("backlog    0 messages") && text.contains("settled 3"), "{text}");
}

#[test]
fn status_without_redis_says_so() {
    let platform = Plan::default().start();
    let (is_fine, text) = platform.optimus(&["status"]);
    assert!(!is_fine && text.contains("optimus-redis"), "{text}");
    assert_eq!(platform.status()["redis"]["reachable"], false);
}

#[test]
fn a_damaged_message_is_kept_aside_and_shown() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.submit(1);
    let key = platform.redis_cli(&["--scan", "--pattern", "optimus:{0}:m:*"]);
    platform.redis_cli(&["SETRANGE", &key, "60", "#"]);
    ["info-agent", "scheduler-agent", "mail-agent"].iter().for_each(|name| platform.start(name));
    let status = platform.until_status("it is kept aside", |status| status["corrupt_total"] == 1);
    let shown = status["corrupt"][0].to_string();
    assert!(shown.contains("checksum") && shown.contains(key.rsplit(':').next().unwrap()), "{shown}");
    let (_, text) = platform.optimus(&["status"]);
    assert!(text.contains("corrupt    1 message") && text.contains("checksum"), "{text}");
    assert_eq!(platform.sink.count(), 0);
}

#[test]
fn deferred_mail_is_shown_with_its_next_attempt() {
    let plan = Plan { redis: true, postfix: |it| it.main("relayhost = [127.0.0.1]:1"), ..Plan::default() };
    let mut platform = plan.start();
    ["info-agent", "scheduler-agent", "mail-agent"].iter().for_each(|name| platform.start(name));
    platform.submit(2);
    let status = platform.until_status("it is deferred", |status| status["deferred"]["total"] == 2);
    assert!(status["deferred"]["next_attempt_ms"].as_u64() > status["now_ms"].as_u64(), "{status:#}");
    assert_eq!(status["nodes"][0]["load"], 0, "deferred mail is not load: {status:#}");
}

#[test]
fn check_finds_nothing_wrong_with_a_good_platform() {
    let mut platform = Plan::default().start();
    platform.start("optimus");
    platform.wait_for_redis();
    // Stock programs are not replaced in a private instance: that is a warning, and nothing else is told.
    until(LONG, "no error", || platform.optimus(&["check"]).0).unwrap();
    let (_, text) = platform.optimus(&["check"]);
    assert!(text.lines().all(|line| line.contains("is not OPTIMUS's")), "{text}");
}

#[test]
fn check_tells_all_that_is_wrong_at_once() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.redis_cli(&["CONFIG", "SET", "appendfsync", "everysec", "maxmemory-policy", "allkeys-lru"]);
    let config = platform.postfix.config_dir().to_owned();
    let master_cf = std::fs::read_to_string(config.join("master.cf")).unwrap();
    let broken = master_cf.replace("optimus unix - - n - 1 pickup-rs", "optimus unix n - y - 5 pickup-rs");
    assert_ne!(broken, master_cf);
    std::fs::write(config.join("master.cf"), broken).unwrap();
    let password = config.join("password");
    std::fs::write(&password, "secret\n").unwrap();
    platform.redis_cli(&["CONFIG", "SET", "requirepass", "secret"]);
    std::fs::set_permissions(&password, PermissionsExt::from_mode(0o644)).unwrap();
    let toml = std::fs::read_to_string(config.join("optimus.toml")).unwrap();
    let with_password = toml.replace("[redis]\n", &format!("[redis]\npassword_file = {password:?}\n"));
    std::fs::write(config.join("optimus.toml"), with_password).unwrap();
    let (is_fine, text) = platform.optimus(&["check"]);
    assert!(!is_fine);
    for what in
        ["appendfsync is everysec", "allkeys-lru", "private must be", "chroot must be", "maxproc must be"]
    {
        assert!(text.contains(what), "{what}: {text}");
    }
    assert!(text.contains("can be read by everybody"), "{text}");
    platform.redis.take();
    let (is_fine, text) = platform.optimus(&["check"]);
    assert!(!is_fine && text.contains("error: redis at"), "{text}");
}

#[test]
fn a_broken_optimus_toml_is_named_with_its_line() {
    let platform = Plan { settings: "[lots]\nsiez = 3\n", ..Plan::default() }.start();
    for words in [&["run"][..], &["status"], &["config"], &["check"]] {
        let (is_fine, text) = platform.optimus(words);
        assert!(!is_fine, "{words:?}: {text}");
        let about_it: Vec<&str> = text.lines().filter(|line| !line.contains("is not OPTIMUS's")).collect();
        // One line, without a stack, whatever the environment asks for.
        let [line] = about_it[..] else { panic!("{words:?}: {text}") };
        assert!(line.contains("optimus.toml:2:1: ") && line.contains("siez"), "{words:?}: {text}");
    }
}

#[test]
fn config_prints_what_is_in_force() {
    let platform = Plan { settings: "[lots]\nsize = 3\n", ..Plan::default() }.start();
    let (is_fine, text) = platform.optimus(&["config"]);
    assert!(is_fine && text.contains("lots.size = 3\n") && text.contains("mail.window = 2000\n"), "{text}");
}

#[test]
fn without_redis_server_optimus_run_says_what_to_install() {
    let platform = Plan::default().start();
    let output = platform.command("optimus").arg("run").env("PATH", "/nonexistent").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("redis-server: not found; install Redis"), "{text}");
}
