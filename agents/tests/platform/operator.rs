//! Tests of `optimus status`, `check`, `config` and `quarantine`, and of their errors.

use std::os::unix::fs::PermissionsExt;

use super::common::{LONG, Plan, Platform};
use serde_json::Value;
use spool::keys;
use testbed::until;

#[test]
fn status_shows_agents_lots_and_counts() {
    let mut platform = Plan::default().start();
    platform.start("optimus");
    platform.wait_for_redis();
    platform.until_status("all agents", |status| {
        status["agents"].as_array().is_some_and(|it| it.len() == 3)
    });
    platform.submit(3);
    platform.expect_all_once();
    let status = platform.until_status("all settled", |status| status["counts"]["settled"] == 3);
    assert_eq!(
        (&status["backlog"], &status["quarantine_total"]),
        (&0.into(), &0.into()),
        "{status:#}"
    );
    assert_eq!(status["queue"]["handoff"], "hold", "{status:#}");
    assert_eq!(status["nodes"][0]["credit"], 20000, "{status:#}");
    let (is_fine, text) = platform.optimus(&["status"]);
    assert!(
        is_fine && text.contains("backlog    0 messages") && text.contains("settled 3"),
        "{text}"
    );
}

#[test]
fn status_without_redis_says_so() {
    let platform = Plan::default().start();
    let (is_fine, text) = platform.optimus(&["status"]);
    assert!(!is_fine && text.contains("optimus-redis"), "{text}");
    assert_eq!(platform.status()["redis"]["reachable"], false);
}

#[test]
fn looking_leaves_the_functions_in_redis_as_they_are() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    let functions = |platform: &Platform| platform.redis_cli(&["FUNCTION", "LIST"]);
    // The first look has started pickup-rs, which loads the functions.
    platform.status();
    until(LONG, "pickup-rs to load them", || !functions(&platform).is_empty()).unwrap();
    assert_eq!(platform.status()["queue"]["handoff"], "hold");
    // A running pickup-rs would load the functions again.
    platform.postfix.stop().unwrap();
    platform.redis_cli(&["FUNCTION", "FLUSH"]);
    for words in [&["status"][..], &["quarantine"]] {
        let (is_fine, text) = platform.optimus(words);
        assert!(!is_fine && text.contains("function library missing"), "{text}");
    }
    let (_, text) = platform.optimus(&["check"]);
    assert!(
        text.contains("warning: redis at") && text.contains("function library missing"),
        "{text}"
    );
    assert_eq!(platform.status()["redis"]["library"]["state"], "missing");
    assert_eq!(functions(&platform), "");

    let other = spool::library().replace(&spool::library_version(), "1.00000000");
    platform.redis_cli(&["FUNCTION", "LOAD", &other]);
    let (is_fine, text) = platform.optimus(&["status"]);
    assert!(
        !is_fine && text.contains("backlog    0 messages") && text.contains("another OPTIMUS"),
        "{text}"
    );
    assert_eq!(platform.status()["redis"]["library"]["loaded"], "1.00000000");
    let (is_fine, text) = platform.optimus(&["check"]);
    assert!(
        !is_fine && text.contains("error: redis at") && text.contains("another OPTIMUS"),
        "{text}"
    );
    assert_eq!(platform.redis_cli(&["FCALL", "optimus_version", "0"]), "1.00000000");

    // The commands can't read the answers of this library.
    platform.redis_cli(&["FUNCTION", "LOAD", "REPLACE", &another_library()]);
    let (is_fine, text) = platform.optimus(&["status"]);
    assert!(!is_fine && text.contains("pickup-rs  ") && text.contains("another OPTIMUS"), "{text}");
    let (is_fine, text) = platform.optimus(&["quarantine"]);
    assert!(!is_fine && text.contains("another OPTIMUS"), "{text}");

    platform.redis_cli(&["FUNCTION", "FLUSH"]);
    platform.submit(1);
    let status = platform.status();
    assert_eq!(
        (&status["redis"]["library"]["state"], &status["inbox"]),
        (&"missing".into(), &1.into())
    );
    platform.start("info-agent");
    platform
        .until_status("an agent loads it", |status| status["redis"]["library"]["state"] == "ours");
    let says = || platform.optimus(&["status"]).1;
    until(LONG, "it to register", || {
        says().starts_with("OPTIMUS CRITICAL: no scheduler agent is alive")
    })
    .unwrap_or_else(|error| panic!("{error}: {}", says()));
}

/// Returns a library whose every function answers "9.9".
fn another_library() -> String {
    let names = ["version", "overview", "quarantine", "directory"];
    let function = |name: &str| {
        format!("redis.register_function('optimus_{name}', function() return '9.9' end)\n")
    };
    std::iter::once("#!lua name=optimus\n".to_owned()).chain(names.map(function)).collect()
}

/// Puts three damaged messages into quarantine. Returns their ids.
fn three_quarantined(platform: &mut Platform) -> Vec<String> {
    platform.submit(3);
    let keys = platform.cut_lots();
    for key in keys.lines() {
        platform.redis_cli(&["SETRANGE", key, "2", "00000000"]);
    }
    ["info-agent", "scheduler-agent", "mail-agent"].iter().for_each(|name| platform.start(name));
    platform.until_status("they are in quarantine", |status| status["quarantine_total"] == 3);
    let mut ids: Vec<String> =
        keys.lines().map(|key| key.rsplit(':').next().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn quarantined_mail_is_listed_shown_retried_and_dropped() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    let (is_fine, text) = platform.optimus(&["quarantine"]);
    assert!(!is_fine, "{text}");
    let ids = three_quarantined(&mut platform);
    let [first, second, third] = &ids[..] else { panic!("{ids:?}") };

    let (is_fine, text) = platform.optimus(&["quarantine"]);
    assert!(is_fine && ids.iter().all(|id| text.contains(id)), "{text}");
    assert!(text.contains("<from@example.org>") && text.contains("checksum mismatch"), "{text}");
    let (_, text) = platform.optimus(&["quarantine", "--json"]);
    let listed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(listed["quarantine"].as_array().map(Vec::len), Some(3), "{listed:#}");
    assert_eq!(listed["quarantine"][0]["sender"], "from@example.org", "{listed:#}");
    let (is_fine, text) = platform.optimus(&["quarantine", "show", first]);
    assert!(
        is_fine && text.contains("recipient: to@example.org\n") && text.contains("\nHello.\n"),
        "{text}"
    );

    // A mended message is sent, but a damaged one would come back.
    mend(&platform, first);
    let (is_fine, text) = platform.optimus(&["quarantine", "retry", first]);
    assert!(is_fine && text.contains("waits in a lot"), "{text}");
    platform.until_status("it is sent", |status| status["counts"]["settled"] == 1);
    assert_eq!(platform.sink.count(), 1);
    let (is_fine, text) = platform.optimus(&["quarantine", "drop", second, first]);
    assert!(is_fine && text.contains(&format!("{second}: dropped")), "{text}");
    let (is_fine, text) = platform.optimus(&["quarantine", "retry", "--all", "--json"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({ "messages": [{ "id": third, "outcome": "retried" }] });
    assert!(is_fine && told == expected, "{text}");
    platform.until_status("it is back", |status| {
        status["quarantine_total"] == 1 && status["backlog"] == 0
    });
    let (is_fine, text) = platform.optimus(&["quarantine", "drop", "--all"]);
    assert!(is_fine && text.contains(third), "{text}");
    assert_eq!(
        platform.optimus(&["quarantine", "drop", "--all"]),
        (true, "the quarantine is empty\n".to_owned())
    );
    platform.expect_rest();
    assert_eq!(platform.sink.count(), 1);
}

/// Writes the right checksum into a message.
fn mend(platform: &Platform, id: &str) {
    let key = keys::message(id);
    let (_, text) = platform.optimus(&["quarantine", "--json"]);
    let listed: Value = serde_json::from_str(&text).unwrap();
    let entries = listed["quarantine"].as_array().unwrap();
    let reason = entries.iter().find(|it| it["id"] == id).unwrap()["reason"].as_str().unwrap();
    let (_, computed) = reason.split_once("computed ").unwrap();
    platform.redis_cli(&["SETRANGE", &key, "2", &computed[..8]]);
}

#[test]
fn wrong_or_unknown_ids_are_named() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.submit(1);
    let unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for word in ["retry", "drop"] {
        let (is_fine, text) = platform.optimus(&["quarantine", word, unknown]);
        assert!(
            !is_fine && text.contains(&format!("{unknown}: Redis knows no message of this id")),
            "{text}"
        );
        let (is_fine, text) = platform.optimus(&["quarantine", word, "nonsense"]);
        assert!(!is_fine && text.contains("nonsense"), "{text}");
        assert!(!platform.optimus(&["quarantine", word]).0);
    }
    let (is_fine, text) = platform.optimus(&["quarantine", "show", unknown]);
    assert!(!is_fine && text.contains(unknown) && text.contains("no such message"), "{text}");
    let key = platform.cut_lots();
    let (is_fine, text) =
        platform.optimus(&["quarantine", "drop", key.rsplit(':').next().unwrap()]);
    assert!(!is_fine && text.contains("not in quarantine, but on its way"), "{text}");
    assert_eq!(platform.status()["backlog"], 1);
}

#[test]
fn a_damaged_message_goes_to_quarantine_and_shown() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.submit(1);
    let key = platform.cut_lots();
    platform.redis_cli(&["SETRANGE", &key, "60", "#"]);
    ["info-agent", "scheduler-agent", "mail-agent"].iter().for_each(|name| platform.start(name));
    let status =
        platform.until_status("it is in quarantine", |status| status["quarantine_total"] == 1);
    let shown = status["quarantine"][0].to_string();
    assert!(
        shown.contains("checksum") && shown.contains(key.rsplit(':').next().unwrap()),
        "{shown}"
    );
    let (_, text) = platform.optimus(&["status"]);
    assert!(text.contains("quarantine 1 message") && text.contains("checksum"), "{text}");
    assert_eq!(platform.sink.count(), 0);
}

#[test]
fn deferred_mail_is_shown_with_its_next_attempt() {
    let plan =
        Plan { redis: true, postfix: |it| it.main("relayhost = [127.0.0.1]:1"), ..Plan::default() };
    let mut platform = plan.start();
    ["info-agent", "scheduler-agent", "mail-agent"].iter().for_each(|name| platform.start(name));
    platform.submit(2);
    let status = platform.until_status("it is deferred", |status| status["deferred"]["total"] == 2);
    assert!(
        status["deferred"]["next_attempt_ms"].as_u64() > status["now_ms"].as_u64(),
        "{status:#}"
    );
    assert_eq!(status["nodes"][0]["load"], 0, "deferred mail is not load: {status:#}");
}

#[test]
fn check_finds_nothing_wrong_with_a_good_platform() {
    let mut platform = Plan::default().start();
    platform.start("optimus");
    platform.wait_for_redis();
    // Stock programs are not replaced in a private instance, which is the only warning.
    let fine = || {
        let (is_fine, text) = platform.optimus(&["check"]);
        is_fine && text.lines().all(|line| line.contains("not OPTIMUS's"))
    };
    until(LONG, "nothing wrong", fine).unwrap();
}

#[test]
fn check_names_all_problems_at_once() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.redis_cli(&[
        "CONFIG",
        "SET",
        "appendfsync",
        "everysec",
        "maxmemory-policy",
        "allkeys-lru",
    ]);
    let config = platform.postfix.config_dir().to_owned();
    let master_cf = std::fs::read_to_string(config.join("master.cf")).unwrap();
    let broken =
        master_cf.replace("optimus unix - - n - 1 pickup-rs", "optimus unix n - y - 5 pickup-rs");
    assert_ne!(broken, master_cf);
    std::fs::write(config.join("master.cf"), broken).unwrap();
    std::fs::set_permissions(config.join("secret"), PermissionsExt::from_mode(0o644)).unwrap();
    let (is_fine, text) = platform.optimus(&["check"]);
    assert!(!is_fine);
    for what in [
        "appendfsync is everysec",
        "allkeys-lru",
        "private must be",
        "chroot must be",
        "maxproc must be",
    ] {
        assert!(text.contains(what), "{what}: {text}");
    }
    for setting in ["redis.password_file", "submit.password_file"] {
        assert!(
            text.contains(&format!("{setting}: {}/secret: can be read by", config.display())),
            "{text}"
        );
    }
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
        let about_it: Vec<&str> =
            text.lines().filter(|line| !line.contains("not OPTIMUS's")).collect();
        // The error is one line, even where the environment asks for a backtrace.
        let [line] = about_it[..] else { panic!("{words:?}: {text}") };
        assert!(line.contains("optimus.toml:2:1: ") && line.contains("siez"), "{words:?}: {text}");
    }
    for name in ["info-agent", "scheduler-agent", "mail-agent"] {
        let output = platform.command(name).env("RUST_BACKTRACE", "1").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let start = format!("{name}: fatal: ");
        assert!(
            output.status.code() == Some(1)
                && text.starts_with(&start)
                && text.lines().count() == 1,
            "{text}"
        );
    }
}

#[test]
fn config_prints_the_settings_in_force() {
    let platform = Plan { settings: "[lots]\nsize = 3\n", ..Plan::default() }.start();
    let (is_fine, text) = platform.optimus(&["config"]);
    assert!(
        is_fine && text.contains("lots.size = 3\n") && text.contains("mail.window = 20000\n"),
        "{text}"
    );
}

#[test]
fn without_redis_server_optimus_run_says_what_to_install() {
    let platform = Plan::default().start();
    let output =
        platform.command("optimus").arg("run").env("PATH", "/nonexistent").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && text.contains("redis-server: not found; install Redis"),
        "{text}"
    );
}
