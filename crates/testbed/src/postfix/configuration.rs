//! `main.cf` and `master.cf` of an instance.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::layout::Layout;

/// Services of Debian, unchrooted, without the listeners on TCP ports.
const SERVICES: &str = "\
pickup     unix       n - n 60    1 pickup
cleanup    unix       n - n -     0 cleanup
qmgr       unix       n - n 300   1 qmgr
tlsmgr     unix       - - n 1000? 1 tlsmgr
rewrite    unix       - - n -     - trivial-rewrite
bounce     unix       - - n -     0 bounce
defer      unix       - - n -     0 bounce
trace      unix       - - n -     0 bounce
verify     unix       - - n -     1 verify
flush      unix       n - n 1000? 0 flush
proxymap   unix       - - n -     - proxymap
proxywrite unix       - - n -     1 proxymap
smtp       unix       - - n -     - smtp
relay      unix       - - n -     - smtp
showq      unix       n - n -     - showq
error      unix       - - n -     - error
retry      unix       - - n -     - error
discard    unix       - - n -     - discard
local      unix       - n n -     - local
virtual    unix       - n n -     - virtual
lmtp       unix       - - n -     - lmtp
anvil      unix       - - n -     1 anvil
scache     unix       - - n -     1 scache
postlog    unix-dgram n - n -     1 postlogd
";

/// Age of `main.cf` by its modification time.
const AGE: Duration = Duration::from_secs(10);

/// Settings by name, each only once, because Postfix warns of repeated ones.
#[derive(Debug, Default)]
pub(super) struct MainCf(BTreeMap<String, String>);

impl MainCf {
    /// Returns the configuration that every instance starts from.
    pub(super) fn standard(layout: &Layout) -> Self {
        let mut main = Self::default();
        let places = [
            ("queue_directory", &layout.queue),
            ("data_directory", &layout.data),
            ("daemon_directory", &layout.daemons),
            ("maillog_file_prefixes", &layout.log),
        ];
        for (name, path) in places {
            main.0.insert(name.to_owned(), path.display().to_string());
        }
        main.0.insert("maillog_file".to_owned(), layout.log.join("maillog").display().to_string());
        for (name, value) in STANDARD {
            main.0.insert((*name).to_owned(), (*value).to_owned());
        }
        main
    }

    /// Sets a parameter by `name = value`.
    pub(super) fn set(&mut self, line: &str) -> Result<()> {
        let (name, value) =
            line.split_once('=').with_context(|| format!("main.cf: not `name = value`: {line}"))?;
        self.0.insert(name.trim().to_owned(), value.trim().to_owned());
        Ok(())
    }

    fn read(folder: &Path) -> Result<Self> {
        let mut main = Self::default();
        std::fs::read_to_string(folder.join("main.cf"))?
            .lines()
            .try_for_each(|line| main.set(line))?;
        Ok(main)
    }

    /// Writes `main.cf` in `folder`, under another name first, because daemons may read it at any
    /// time.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let text: String =
            self.0.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        std::fs::write(folder.join("main.cf.new"), text)?;
        // Postfix's programs wait up to 2 s for a file whose mtime shows that it may still be
        // written.
        let past = SystemTime::now() - AGE;
        File::options().write(true).open(folder.join("main.cf.new"))?.set_modified(past)?;
        std::fs::rename(folder.join("main.cf.new"), folder.join("main.cf"))
            .context("main.cf: not replaced")
    }
}

/// Standard settings: mail goes only to the relay, there is no DNS, and a service that a test
/// killed starts again after 1 s instead of a minute.
const STANDARD: &[(&str, &str)] = &[
    ("compatibility_level", "3.6"),
    ("mail_owner", "postfix"),
    ("setgid_group", "postdrop"),
    ("myhostname", "testbed.example.org"),
    ("mydestination", ""),
    ("alias_maps", ""),
    ("alias_database", ""),
    ("inet_interfaces", "loopback-only"),
    ("inet_protocols", "ipv4"),
    ("disable_dns_lookups", "yes"),
    ("smtp_host_lookup", "native"),
    ("relayhost", "[127.0.0.1]:1"),
    ("service_throttle_time", "1s"),
];

/// Changes settings of an existing instance.
pub(super) fn change_main(folder: &Path, lines: &[&str]) -> Result<()> {
    let mut main = MainCf::read(folder)?;
    lines.iter().try_for_each(|line| main.set(line))?;
    main.write(folder)
}

/// Returns the standard services; a line of `added` replaces one of the same name and type.
pub(super) fn master_cf(added: &[String]) -> Result<String> {
    let mut lines: Vec<&str> = SERVICES.lines().collect();
    for line in added {
        let key = key(line).with_context(|| format!("master.cf: not a service: {line}"))?;
        lines.retain(|other| self::key(other) != Some(key));
        lines.push(line);
    }
    Ok(lines.join("\n") + "\n")
}

fn key(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_ascii_whitespace();
    Some((words.next()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_replaces_its_namesake_and_no_other() {
        let text =
            master_cf(&["smtp unix - - n - 2 smtp".into(), "smtp inet n - n - - smtpd".into()])
                .unwrap();
        let smtp: Vec<&str> = text.lines().filter(|line| line.starts_with("smtp ")).collect();
        assert_eq!(smtp, ["smtp unix - - n - 2 smtp", "smtp inet n - n - - smtpd"]);
        assert!(text.contains("pickup     unix"));
    }

    #[test]
    fn a_setting_can_be_changed_later() {
        let folder = tempfile::tempdir().unwrap();
        let mut main = MainCf::default();
        main.set("a = 1").unwrap();
        main.set("b = x = y").unwrap();
        main.write(folder.path()).unwrap();
        change_main(folder.path(), &["a=2"]).unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.path().join("main.cf")).unwrap(),
            "a = 2\nb = x = y\n"
        );
    }
}
