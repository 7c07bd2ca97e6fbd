//! Leftovers of an uninstallation: mail in Redis, which nobody would deliver, and files, which do
//! no harm.
//!
//! Mail that Postfix has taken is Postfix's. Mail that still needs OPTIMUS to get that far counts.
//! This is mail in Redis, also in quarantine, submissions in doubt, undecided prepared files, and
//! the mail of `sendmail` processes that began before stock ones were put back. Where other nodes
//! share the Redis, they send its backlog, so it keeps nobody here.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use settings::{FILE_NAME, Settings};

use super::site::Site;
use super::units::POSTDROPD;
use super::{command, late};
use crate::say;

const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Left {
    Nothing,
    /// Mail that is left, in words.
    Mail(String),
    Unknown(String),
}

pub(super) fn refuse_while_mail_is_left(site: &Site) -> Result<()> {
    let what = match look(site)? {
        Left::Nothing => return Ok(()),
        Left::Mail(what) => what,
        Left::Unknown(why) => format!("how much mail is left can't be told: {why}"),
    };
    bail!(
        "{what}. Nobody would deliver it: let the agents finish (see `optimus status`; `optimus \
            uninstall --wait` puts stock sendmail back and waits), or uninstall with --force, \
            which leaves it where it is"
    )
}

pub(super) fn wait_until_none_is_left(site: &Site) -> Result<()> {
    let mut told = Left::Nothing;
    loop {
        let left = look(site)?;
        if left == Left::Nothing {
            return Ok(());
        }
        if left != told {
            let (Left::Mail(what) | Left::Unknown(what)) = &left else { continue };
            say(format!("waiting: {what}"));
            told = left;
        }
        sleep(BETWEEN_LOOKS);
    }
}

/// Names the files that stay. Settings are the administrator's, and the rest is needed when OPTIMUS
/// is installed again.
pub(super) fn tell_what_stays(site: &Site) {
    let places = site.places();
    let files =
        [site.config_directory.join(FILE_NAME), places.node_directory(), places.redis_directory()];
    let there: Vec<String> =
        files.iter().filter(|it| it.exists()).map(|it| it.display().to_string()).collect();
    if !there.is_empty() {
        say(format!("left for you to keep or remove: {}", there.join(", ")));
    }
}

fn look(site: &Site) -> Result<Left> {
    let settings = Settings::load(&site.config_directory)?;
    let places = site.places();
    if settings.redis.url.is_none() && !places.redis_directory().exists() {
        return Ok(Left::Nothing);
    }
    // A child asks, because it gives up root's rights before it talks to Redis.
    let words =
        ["status".as_ref(), "--json".as_ref(), "-c".as_ref(), site.config_directory.as_os_str()];
    let output = command::output(std::env::current_exe()?, words)?;
    let status: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("optimus status: {}", String::from_utf8_lossy(&output.stderr).trim())
    })?;
    Ok(match judge(&status) {
        Left::Nothing => coming_in(site),
        mail => mail,
    })
}

fn coming_in(site: &Site) -> Left {
    let postdropd = site.folders.prefix.join(POSTDROPD);
    match &late::submissions(&[&site.sendmail, &site.command("postdrop"), &postdropd])[..] {
        [] => Left::Nothing,
        running => {
            Left::Mail(format!("mail is coming in by replaced programs: {}", running.join(", ")))
        }
    }
}

/// Judges the output of `optimus status --json`. Without pickup-rs nobody can say how many prepared
/// files are undecided, so all of them count.
fn judge(status: &Value) -> Left {
    if status["redis"]["reachable"] == false {
        let error = status["redis"]["error"].as_str().unwrap_or_default();
        return Left::Unknown(format!(
            "{}: {error}",
            status["redis"]["server"].as_str().unwrap_or("redis")
        ));
    }
    let queue = &status["queue"];
    let undecided = match &queue["error"] {
        Value::Null => queue["undecided"].as_array().map_or(0, |it| it.len() as u64),
        _ => queue["prepared"].as_u64().unwrap_or(0),
    };
    let others = others_send(status);
    let counted = |value: &Value| value.as_u64().unwrap_or(0);
    // Before any agent has run, the inbox is all that is known of Redis.
    let backlog = status["backlog"].as_u64().unwrap_or_else(|| counted(&status["inbox"]));
    let kinds = [
        (if others { 0 } else { backlog }, "in Redis, not yet sent"),
        (
            if others { 0 } else { counted(&status["quarantine_total"]) },
            "in quarantine (see `optimus quarantine`)",
        ),
        (counted(&queue["in_doubt"]), "in the maildrop, in doubt"),
        (counted(&queue["stranded"]), "in the maildrop, which no pickup service reads"),
        (undecided, "in the queue directory, not yet decided about"),
    ];
    let found = kinds.iter().filter(|(count, _)| *count > 0);
    let found: Vec<String> = found.map(|(count, place)| format!("{count} {place}")).collect();
    if found.is_empty() {
        Left::Nothing
    } else {
        Left::Mail(format!("mail is left: {}", found.join("; ")))
    }
}

fn others_send(status: &Value) -> bool {
    let agents = status["agents"].as_array().map_or(&[][..], Vec::as_slice);
    agents.iter().any(|it| {
        it["kind"] == "mail"
            && it["lease_left_ms"].as_i64() > Some(0)
            && it["agent"] != status["queue"]["node"]
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> Value {
        let queue = json!({ "error": null, "node": "n", "undecided": [], "in_doubt": 0 });
        let agents = json!([{ "kind": "mail", "agent": "n", "lease_left_ms": 9 }]);
        json!({
            "redis": { "reachable": true }, "backlog": 0, "quarantine_total": 0,
            "queue": queue, "agents": agents,
        })
    }

    #[test]
    fn mail_that_is_left_is_named_by_its_place() {
        assert_eq!(judge(&status()), Left::Nothing);
        let mut full = status();
        full["backlog"] = 7.into();
        full["quarantine_total"] = 2.into();
        full["queue"]["undecided"] = json!(["a", "b", "c"]);
        let Left::Mail(text) = judge(&full) else { panic!() };
        assert!(
            text.contains("7 in Redis")
                && text.contains("2 in quarantine")
                && text.contains("3 in the queue directory"),
            "{text}"
        );
    }

    #[test]
    fn a_redis_without_functions_has_an_inbox_all_the_same() {
        let new = json!({ "redis": { "reachable": true }, "inbox": 3, "queue": { "error": null } });
        let Left::Mail(text) = judge(&new) else { panic!() };
        assert!(text.contains("3 in Redis"), "{text}");
    }

    #[test]
    fn a_backlog_keeps_nobody_where_other_nodes_send() {
        let mut shared = status();
        shared["backlog"] = 7.into();
        let other = json!({ "kind": "mail", "agent": "m", "lease_left_ms": 9 });
        shared["agents"].as_array_mut().unwrap().push(other);
        assert_eq!(judge(&shared), Left::Nothing);
        shared["agents"][1]["lease_left_ms"] = (-1).into();
        assert!(matches!(judge(&shared), Left::Mail(_)));
    }

    #[test]
    fn an_unknown_amount_of_mail_isn_t_taken_for_none() {
        let away = json!({ "redis": { "reachable": false, "server": "unix:/x", "error": "gone" } });
        assert_eq!(judge(&away), Left::Unknown("unix:/x: gone".to_owned()));
        let mut without_pickup = status();
        without_pickup["queue"]["error"] = "away".into();
        assert_eq!(judge(&without_pickup), Left::Nothing);
        without_pickup["queue"]["prepared"] = 2.into();
        assert!(matches!(judge(&without_pickup), Left::Mail(_)));
    }
}
