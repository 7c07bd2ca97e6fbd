//! Users, groups and hosts by name, for programs that are linked statically.
//!
//! The C library finds names through modules that it loads at run time: local files, LDAP, DNS, as
//! `/etc/nsswitch.conf` says. A static program can't load them: it would crash, or need the very
//! library that it was linked with. So getent(1), which every Debian has, asks the name service.
//! Each question costs a process. So the local file is read instead, where its answer is as good.
//!
//! Where getent is missing, as in a small container, the local files are read. A name that isn't in
//! them doesn't exist, if `/etc/nsswitch.conf` names no other source. Otherwise there is no answer.
//!
//! The calling program may run set-group-id. Its caller must not influence the answer, which
//! decides who may submit mail and where a password is sent. So getent keeps the group, as the same
//! code in a dynamic program would. To the kernel the process is then another user's, and the
//! caller can't reach its memory and descriptors (ptrace(2), proc(5)). Without the group the
//! process would be the caller's own, and the caller could forge the answer. The process has an
//! empty environment. See `docs/decisions/0013-*`.

mod getent;

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::{Duration, Instant};

pub use getent::NameError;
use getent::getent;

/// File of local users.
const PASSWD: &str = "/etc/passwd";
/// File of the name service's sources.
const SWITCH: &str = "/etc/nsswitch.conf";
/// File of local groups.
const GROUP: &str = "/etc/group";
/// Time limit of an answer: no directory service is so slow.
const LIMIT: Duration = Duration::from_secs(30);

/// An entry of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: Vec<u8>,
    /// Number of the user.
    pub uid: u32,
    /// Number of the user's group.
    pub gid: u32,
    /// Comment field, unchanged.
    pub gecos: Vec<u8>,
}

/// Returns this user from the name service, if there is one.
pub fn user(uid: u32) -> Result<Option<User>, NameError> {
    let lines = ask(&Database::USERS, &uid.to_string())?;
    Ok(user_in(&lines, uid))
}

/// Returns this user from the local file, at a thousandth of the cost, or else from the name
/// service.
pub fn user_or_local(uid: u32) -> Result<Option<User>, NameError> {
    let local = std::fs::read(PASSWD).ok().and_then(|passwd| user_in(&passwd, uid));
    local.map_or_else(|| user(uid), |user| Ok(Some(user)))
}

/// Returns the number of this group from the local file, or else from the name service, if there is
/// one.
pub fn group_or_local(name: &str) -> Result<Option<u32>, NameError> {
    if let Some(gid) = std::fs::read(GROUP).ok().and_then(|group| group_in(&group, name)) {
        return Ok(Some(gid));
    }
    Ok(group_in(&ask(&Database::GROUPS, name)?, name))
}

/// A database of the name service that has a local file.
struct Database {
    name: &'static str,
    file: &'static str,
    /// Whether the file's content has an entry for the key.
    has: fn(&[u8], &str) -> bool,
}

impl Database {
    const USERS: Self =
        Self { name: "passwd", file: PASSWD, has: |file, key| user_in_named(file, key) };
    const GROUPS: Self =
        Self { name: "group", file: GROUP, has: |file, key| group_in(file, key).is_some() };
}

fn user_in_named(passwd: &[u8], uid: &str) -> bool {
    uid.parse().is_ok_and(|uid| user_in(passwd, uid).is_some())
}

/// Returns the entries for `key` from the name service, or from the local file where there is no
/// way to ask the name service.
fn ask(database: &Database, key: &str) -> Result<Vec<u8>, NameError> {
    let missing = match getent(database.name, key, Instant::now() + LIMIT) {
        Err(error) if error.is_missing => error,
        answer => return answer,
    };
    let Ok(entries) = std::fs::read(database.file) else { return Err(missing) };
    let is_final = || match std::fs::read_to_string(SWITCH) {
        Ok(switch) => is_files_alone(&switch, database.name),
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    if (database.has)(&entries, key) || is_final() { Ok(entries) } else { Err(missing) }
}

/// Whether `/etc/nsswitch.conf` has the local file as the only source. That is so, too,
/// without a line for the database (`nsswitch.conf(5)`).
fn is_files_alone(switch: &str, database: &str) -> bool {
    let line = |line: &str| {
        let (name, sources) = line.split('#').next()?.split_once(':')?;
        (name.trim() == database).then(|| sources.to_owned())
    };
    let sources = switch.lines().find_map(line).unwrap_or_else(|| "files".to_owned());
    sources.split_ascii_whitespace().all(|source| source == "files" || source.starts_with('['))
}

/// Returns the addresses of a host, in the order for trying them; an unknown host has none.
pub fn addresses(host: &str, deadline: Instant) -> Result<Vec<IpAddr>, NameError> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let lines = getent("ahosts", host, deadline)?;
    let mut addresses = Vec::new();
    for line in String::from_utf8_lossy(&lines).lines() {
        let address = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        // There is one line for each kind of socket.
        addresses.extend(address.filter(|address| !addresses.contains(address)));
    }
    Ok(addresses)
}

/// Finds a user in lines of `name:password:uid:gid:comment:…`.
fn user_in(passwd: &[u8], uid: u32) -> Option<User> {
    entries(passwd).find_map(|fields| match fields[..] {
        [name, _, number, gid, gecos, ..] if parsed(number) == Some(uid) => {
            Some(User { name: name.to_vec(), uid, gid: parsed(gid)?, gecos: gecos.to_vec() })
        }
        _ => None,
    })
}

/// Finds a group's number in lines of `name:password:gid:…`.
fn group_in(group: &[u8], wanted: &str) -> Option<u32> {
    entries(group).find_map(|fields| match fields[..] {
        [name, _, gid, ..] if name == wanted.as_bytes() => parsed(gid),
        _ => None,
    })
}

/// Returns the entries. Lines that begin with `+` or `-` are directives of NIS, and are skipped.
fn entries(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let is_entry = |line: &&[u8]| !matches!(line.first(), None | Some(b'+' | b'-' | b'#'));
    file.split(|&byte| byte == b'\n')
        .filter(is_entry)
        .map(|line| line.split(|&byte| byte == b':').collect())
}

fn parsed(number: &[u8]) -> Option<u32> {
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_and_the_name_service_agree_on_local_users() {
        for uid in [0, 1, 65534] {
            let local = user_in(&std::fs::read(PASSWD).unwrap(), uid);
            assert!(local.is_some());
            assert_eq!(local, user(uid).unwrap());
        }
        let daemon = group_in(&std::fs::read(GROUP).unwrap(), "daemon");
        assert_eq!((daemon, group_or_local("daemon").unwrap()), (Some(1), Some(1)));
    }

    #[test]
    fn a_missing_user_is_no_error() {
        assert_eq!(user_or_local(u32::MAX - 7).unwrap(), None);
        assert_eq!(group_or_local("no-such-group").unwrap(), None);
        let soon = Instant::now() + LIMIT;
        assert_eq!(addresses("no-such-host.invalid", soon).unwrap(), Vec::<IpAddr>::new());
    }

    #[test]
    fn the_local_file_is_final_where_it_is_the_only_source() {
        for (switch, is_final) in [
            ("passwd: files\n", true),
            ("# passwd: ldap\n passwd:\tfiles # ldap\n", true),
            ("group: ldap\n", true),
            ("passwd: files [NOTFOUND=return]", true),
            ("passwd: files systemd", false),
            ("passwd: ldap files", false),
            ("passwd: compat", false),
        ] {
            assert_eq!(is_files_alone(switch, "passwd"), is_final, "{switch:?}");
        }
    }

    #[test]
    fn a_host_has_addresses() {
        let soon = Instant::now() + LIMIT;
        let local = addresses("localhost", soon).unwrap();
        assert!(!local.is_empty() && local.iter().all(IpAddr::is_loopback), "{local:?}");
        assert_eq!(
            addresses("192.0.2.7", Instant::now()).unwrap(),
            ["192.0.2.7".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn lines_that_are_no_users_are_skipped() {
        let passwd = b"#x:x:7:7:no:/:/\n+nis:x:7:7:no:/:/\n\nshort:x\nann:x:17:7:no:/:/\n\
                bob:x:7:8:Bob B:/:/\n";
        let bob = user_in(passwd, 7).unwrap();
        assert_eq!((&bob.name[..], bob.gid, &bob.gecos[..]), (&b"bob"[..], 8, &b"Bob B"[..]));
        assert_eq!(user_in(passwd, 8), None);
    }
}
