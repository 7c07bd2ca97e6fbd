//! Tests that `optimus check`, run by root, finds problems that only users, agents or pickup-rs
//! have.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::common::{LONG, Plan, Platform};
use spool::keys;
use testbed::until;

/// A file with another mode or owner, whose own is restored when this value is dropped.
struct Changed {
    path: PathBuf,
    mode: u32,
    owner: (u32, u32),
}

impl Changed {
    fn mode(path: &Path, mode: u32) -> Self {
        let it = path.metadata().unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        Self { path: path.to_owned(), mode: it.mode() & 0o7777, owner: (it.uid(), it.gid()) }
    }

    fn owner(path: &Path, uid: u32, gid: u32, mode: u32) -> Self {
        let changed = Self::mode(path, mode);
        chown(path, Some(uid), Some(gid)).unwrap();
        changed
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        chown(&self.path, Some(self.owner.0), Some(self.owner.1)).unwrap();
        std::fs::set_permissions(&self.path, PermissionsExt::from_mode(self.mode)).unwrap();
    }
}

fn complaints(platform: &Platform) -> Vec<String> {
    let (_, text) = platform.optimus(&["check"]);
    let roles = ["users: ", "sendmail of a user: ", "agents: ", "pickup-rs: "];
    let of_roles = text.lines().filter_map(|line| line.strip_prefix("optimus: error: "));
    of_roles
        .filter(|line| roles.iter().any(|role| line.starts_with(role)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn check_tries_as_users_agents_and_pickup() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    ["info-agent", "scheduler-agent", "mail-agent"].iter().for_each(|name| platform.start(name));
    platform.submit(1);
    platform.expect_all_once();
    let config = platform.postfix.config_dir().to_owned();
    let queue = platform.postfix.queue_dir().to_owned();
    let group = queue.join("maildrop").metadata().unwrap().gid();
    // The owner and the group are those that optimus.toml(5) demands.
    chown(config.join("secret"), None, Some(group)).unwrap();
    until(LONG, "nothing to complain of", || complaints(&platform).is_empty())
        .unwrap_or_else(|error| panic!("{error}: {:?}", complaints(&platform)));

    let file = |name: &str| config.join(name);
    let socket = platform.redis_socket();
    type Change = Box<dyn Fn() -> Changed>;
    let mode = |path: PathBuf, mode| -> Change { Box::new(move || Changed::mode(&path, mode)) };
    let root_s =
        |path: PathBuf, mode| -> Change { Box::new(move || Changed::owner(&path, 0, 0, mode)) };
    let cases: [(Change, &str, &str); 9] = [
        (mode(file("optimus.toml"), 0o600), "sendmail of a user: ", "optimus.toml: can't be read"),
        (mode(file("main.cf"), 0o600), "sendmail of a user: ", "main.cf: can't be read"),
        (mode(config.clone(), 0o700), "sendmail of a user: ", "may not be entered, on the way to"),
        (root_s(file("secret"), 0o640), "sendmail of a user: ", "mail goes to the maildrop"),
        (root_s(queue.join("maildrop"), 0o700), "sendmail of a user: ", "maildrop: can't be"),
        (root_s(queue.join("public"), 0o700), "sendmail of a user: ", "public: can't be entered"),
        (root_s(socket.clone(), 0o700), "agents: ", "socket: can't be"),
        (root_s(socket, 0o700), "pickup-rs: ", "socket: can't be"),
        (root_s(queue.join("deferred"), 0o700), "pickup-rs: ", "deferred: can't be"),
    ];
    for (change, role, text) in cases {
        let changed = change();
        let told = complaints(&platform);
        assert!(
            told.iter().any(|it| it.starts_with(role) && it.contains(text)),
            "{role}{text}: {told:?}"
        );
        drop(changed);
    }
    assert_eq!(complaints(&platform), Vec::<String>::new());
}

#[test]
fn check_tries_the_login_of_submission() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.submit(1);
    let config = platform.postfix.config_dir().to_owned();
    let settings = std::fs::read_to_string(config.join("optimus.toml")).unwrap();
    std::fs::write(config.join("optimus.toml"), settings.replace("\"mail\"", "\"nobody\""))
        .unwrap();
    chown(
        config.join("secret"),
        None,
        Some(platform.postfix.queue_dir().join("maildrop").metadata().unwrap().gid()),
    )
    .unwrap();
    let told = complaints(&platform);
    let [line] = &told[..] else { panic!("{told:?}") };
    assert!(
        line.starts_with("sendmail of a user: redis at ")
            && line.contains("Password authentication failed"),
        "{line}"
    );
}

#[test]
fn check_names_keys_of_an_earlier_schema_and_their_remedy() {
    let platform = Plan { redis: true, ..Plan::default() }.start();
    let named = || {
        let (_, text) = platform.optimus(&["check"]);
        let lines = text.lines().filter(|line| line.contains("earlier OPTIMUS"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(named(), Vec::<String>::new());
    for (earlier, name) in keys::EARLIER {
        platform.redis_cli(&["SET", earlier, "x"]);
        let told = named();
        let [line] = &told[..] else { panic!("{told:?}") };
        let remedy = format!("RENAMENX {earlier} {name}");
        assert!(line.contains(&remedy), "{line}");
        platform.redis_cli(&remedy.split(' ').collect::<Vec<_>>());
        platform.redis_cli(&["DEL", name]);
    }
    assert_eq!(named(), Vec::<String>::new());
}
