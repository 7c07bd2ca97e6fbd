//! Redis: it must be there, be new enough, and never forget mail that it has acknowledged.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agents::daemon::Instance;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use settings::Settings;
use spool::{Address, Effect, LibraryState, SpoolError, Vitals};

use super::Problem;

/// First major version of Redis with functions.
const OLDEST_MAJOR_VERSION: u32 = 7;
const READ_BY_OTHERS: u32 = 0o004;
/// Type of a ramfs, from Linux's `magic.h`; nix has no name for it.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
/// Part of the memory limit from which on an operator is warned, in percent.
const NEARLY_FULL_PERCENT: u64 = 80;

/// Returns the problems of settings, and of files and programs that only root can change.
pub(super) fn configured(instance: &Instance) -> Vec<Problem> {
    let mut problems: Vec<Problem> = password_files(&instance.settings);
    problems.extend(submitter(&instance.settings));
    if instance.settings.redis.url.is_none() {
        problems.extend(embedded_program(&std::env::var("PATH").unwrap_or_default()));
    }
    problems
}

/// Returns the problems of the Redis that answers. Must be called without root's rights.
pub(super) async fn check(instance: &Instance) -> Vec<Problem> {
    let (is_embedded, mut problems) = (instance.settings.redis.url.is_none(), Vec::new());
    if is_embedded {
        problems.extend(embedded_socket(instance));
    }
    let (spool, place) = (instance.looking(), format!("redis at {}", instance.server.address));
    let looked = async {
        let (vitals, state) = (spool.vitals().await?, spool.library().await?);
        Ok::<_, SpoolError>((vitals, state, spool.earlier_keys().await?))
    };
    match looked.await {
        Ok((vitals, state, earlier)) => {
            problems.extend(judge(&vitals, &place));
            problems.extend(earlier.into_iter().map(|key| of_earlier_schema(key, &place)));
            let folder = folder(&vitals, &instance.server.address);
            problems.extend(folder.map(|it| Problem::error(format!("{place}: {it}"))));
            problems.extend(library(&state, &place));
            match crate::served::mismatch(instance, &spool).await {
                Ok(mismatch) => {
                    problems.extend(mismatch.map(|it| Problem::error(format!("{place}: {it}"))));
                }
                Err(error) => problems.push(Problem::error(format!("{place}: {error}"))),
            }
        }
        Err(error) if is_embedded => {
            problems
                .push(Problem::error(format!("{place}: {error}; `optimus run` starts this Redis")));
        }
        Err(error) => problems.push(Problem::error(format!("{place}: {error}"))),
    }
    problems
}

/// Returns the problem of a key that only an earlier OPTIMUS looks at.
fn of_earlier_schema((earlier, name): (&str, &str), place: &str) -> Problem {
    Problem::error(format!(
        "{place}: key {earlier} is of an earlier OPTIMUS: nothing looks at the mail that it names; \
            run `redis-cli RENAMENX {earlier} {name}`"
    ))
}

/// Checks the function library. The first agent loads it, and so does an agent of a later version
/// when it connects.
fn library(state: &LibraryState, place: &str) -> Option<Problem> {
    match state {
        LibraryState::Ours => None,
        LibraryState::Missing => {
            Some(Problem::warning(format!("{place}: {}", SpoolError::NoLibrary)))
        }
        LibraryState::Other { loaded, ours } => Some(Problem::error(format!(
            "{place}: has the functions of another OPTIMUS ({loaded}, here {ours}); start all \
                agents again with one version"
        ))),
    }
}

fn judge(vitals: &Vitals, place: &str) -> Vec<Problem> {
    let version = vitals.fact("redis_version");
    let major = version.split('.').next().and_then(|it| it.parse().ok()).unwrap_or(0_u32);
    let (used, limit) = (vitals.number("used_memory"), vitals.number("maxmemory"));
    let is_nearly_full = limit > 0 && used * 100 > limit * NEARLY_FULL_PERCENT;
    let error = |text: String| Problem::error(format!("{place}: {text}"));
    let warning = |text: String| Problem::warning(format!("{place}: {text}"));
    let too_old = (major < OLDEST_MAJOR_VERSION)
        .then(|| error(format!("version {version}: too old; install Redis 7.0 or newer")));
    let nearly_full = is_nearly_full.then(|| {
        warning(format!(
            "{used} of {limit} bytes of memory used: when memory is full, submissions wait in the \
                maildrop; raise maxmemory"
        ))
    });
    let weaknesses = vitals.weaknesses().into_iter().map(|it| match it.effect {
        Effect::LosesMail => error(it.to_string()),
        Effect::Unknown | Effect::StopsMail => warning(it.to_string()),
    });
    too_old.into_iter().chain(weaknesses).chain(nearly_full).collect()
}

/// Returns a problem where the append-only file lies in memory. Its folder can be looked at only
/// where the server is on this machine.
fn folder(vitals: &Vitals, server: &Address) -> Option<String> {
    let is_here = match server {
        Address::Unix(_) => true,
        Address::Tcp(host, _) => matches!(host.as_str(), "127.0.0.1" | "::1" | "localhost"),
    };
    let folder = Path::new(vitals.setting("dir").filter(|_| is_here)?);
    let kind = statfs(folder).ok()?.filesystem_type();
    let is_in_memory = [TMPFS_MAGIC, RAMFS_MAGIC].contains(&kind);
    is_in_memory.then(|| {
        let folder = folder.display();
        format!(
            "dir is {folder}, in memory: all mail is lost when the machine ends; move it to a disk"
        )
    })
}

fn password_files(Settings { redis, submit, .. }: &Settings) -> Vec<Problem> {
    let files = [
        ("redis.password_file", &redis.password_file),
        ("submit.password_file", &submit.password_file),
    ];
    files.into_iter().filter_map(|(setting, path)| password_file(setting, path.as_ref()?)).collect()
}

fn password_file(setting: &str, path: &Path) -> Option<Problem> {
    let text = match path.metadata() {
        Ok(it) if it.mode() & READ_BY_OTHERS == 0 => return None,
        Ok(_) => format!("can be read by everybody; chmod o-r {}", path.display()),
        Err(error) => error.to_string(),
    };
    Some(Problem::error(format!("{setting}: {}: {text}", path.display())))
}

/// Returns a problem where Redis has users, and none of them is for submission.
fn submitter(settings: &Settings) -> Option<Problem> {
    let has_users = settings.redis.user.is_some() || settings.redis.password_file.is_some();
    let text = "submit.user: not set: sendmail may change everything in Redis that agents may; \
        see `optimus acl`";
    (has_users && !settings.has_submitter()).then(|| Problem::warning(text))
}

fn embedded_program(path: &str) -> Option<Problem> {
    let is_program =
        |file: PathBuf| file.metadata().is_ok_and(|it| it.is_file() && it.mode() & 0o111 != 0);
    let found = std::env::split_paths(path).any(|folder| is_program(folder.join("redis-server")));
    (!found).then(|| {
        Problem::error(
            "redis-server: not installed, and redis.url not set; install Redis, or set redis.url",
        )
    })
}

/// Checks the socket of the embedded Redis, which only `mail_owner` and `setgid_group` may use.
fn embedded_socket(instance: &Instance) -> Option<Problem> {
    let path = instance.places.redis_socket();
    let it = path.symlink_metadata().ok()?;
    if !it.file_type().is_socket() {
        return Some(Problem::error(format!("{}: not a socket; remove that file", path.display())));
    }
    let group = instance.setgid_group().ok()?.gid;
    let (mode, has_group) = (it.permissions().mode() & 0o777, it.gid() == group.as_raw());
    socket_problem(&path, mode, has_group)
}

fn socket_problem(path: &Path, mode: u32, has_group: bool) -> Option<Problem> {
    let text = match (mode, has_group) {
        (0o770, true) => return None,
        (0o770, false) => {
            "not of setgid_group, so sendmail can't use it; restart `optimus run`".to_owned()
        }
        (mode, _) => format!("has mode {mode:o}, not 770; restart `optimus run`"),
    };
    Some(Problem::error(format!("{}: {text}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Vitals {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let info = [
            ("redis_version", "7.0.15"),
            ("aof_enabled", "1"),
            ("maxmemory_policy", "noeviction"),
            ("maxmemory", "100"),
            ("used_memory", "1"),
        ];
        Vitals { info: info.map(own).into(), settings: [("appendfsync", "always")].map(own).into() }
    }

    fn with(name: &str, value: &str) -> Vitals {
        let mut vitals = good();
        let facts = if vitals.settings.contains_key(name) {
            &mut vitals.settings
        } else {
            &mut vitals.info
        };
        facts.insert(name.to_owned(), value.to_owned());
        vitals
    }

    fn told(vitals: &Vitals) -> String {
        judge(vitals, "redis").iter().map(|it| format!("{it}\n")).collect()
    }

    #[test]
    fn a_durable_redis_is_fine() {
        assert_eq!(told(&good()), "");
    }

    #[test]
    fn each_way_to_lose_mail_is_an_error_of_its_own() {
        for (name, value, text) in [
            ("appendfsync", "everysec", "appendfsync is everysec"),
            ("aof_enabled", "0", "appendonly"),
            ("maxmemory_policy", "allkeys-lru", "maxmemory-policy"),
            ("redis_version", "6.2.1", "version 6.2.1"),
            ("aof_last_write_status", "err", "the last write"),
        ] {
            let told = told(&with(name, value));
            assert!(told.contains(&format!("error: redis: {text}")), "{told}");
        }
    }

    #[test]
    fn a_weakness_that_loses_no_mail_is_a_warning() {
        assert!(
            told(&Vitals { settings: Default::default(), ..good() })
                .contains("warning: redis: appendfsync")
        );
        assert!(told(&with("maxmemory", "0")).contains("warning: redis: maxmemory is 0"));
        assert!(told(&with("used_memory", "90")).contains("warning: redis: 90 of 100 bytes"));
        assert_eq!(told(&with("used_memory", "80")), "");
    }

    #[test]
    fn mail_in_memory_is_an_error_where_the_folder_can_be_looked_at() {
        let mut vitals = good();
        vitals.settings.insert("dir".to_owned(), "/dev/shm".to_owned());
        let here = Address::Unix("/socket".into());
        assert!(
            folder(&vitals, &here).is_some_and(|it| it.starts_with("dir is /dev/shm, in memory"))
        );
        assert_eq!(folder(&vitals, &Address::Tcp("192.0.2.1".to_owned(), 6379)), None);
        vitals.settings.insert("dir".to_owned(), "/".to_owned());
        assert_eq!(folder(&vitals, &here), None);
    }

    #[test]
    fn a_redis_with_users_should_have_one_for_submission() {
        let mut settings = Settings::default();
        assert!(submitter(&settings).is_none());
        settings.redis.user = Some("agent".to_owned());
        assert!(submitter(&settings).unwrap().to_string().contains("warning: submit.user"));
        settings.submit.user = Some("mail".to_owned());
        assert!(submitter(&settings).is_none());
    }

    #[test]
    fn functions_of_another_version_are_an_error_and_none_are_a_warning() {
        let told = |state| library(&state, "redis").map(|it| it.to_string()).unwrap_or_default();
        assert_eq!(told(LibraryState::Ours), "");
        assert!(told(LibraryState::Missing).starts_with("optimus: warning: redis: "));
        let other = LibraryState::Other { loaded: "1.x".to_owned(), ours: "1.y".to_owned() };
        assert!(
            told(other)
                .contains("error: redis: has the functions of another OPTIMUS (1.x, here 1.y)")
        );
    }

    #[test]
    fn the_socket_is_open_to_the_group_and_to_nobody_else() {
        let text =
            |mode, group| socket_problem(Path::new("/s"), mode, group).map(|it| it.to_string());
        assert_eq!(text(0o770, true), None);
        assert!(text(0o777, true).unwrap().contains("mode 777"));
        assert!(text(0o770, false).unwrap().contains("setgid_group"));
    }

    #[test]
    fn a_missing_redis_server_is_an_error() {
        assert!(embedded_program("/nonexistent").is_some());
    }
}
