//! Leftovers of an uninstallation: mail in Redis, which nobody would deliver, and files, which do
//! no harm.
//!
//! Mail that Postfix has taken is Postfix's. Mail that still needs OPTIMUS to get that far counts.
//! This is mail in Redis, also in quarantine, submissions in doubt, undecided prepared files, and
//! the mail of `sendmail` processes that began before stock ones were put back. Where other nodes
//! share the Redis, they send its backlog, which then stops no uninstallation.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use settings::{FILE_NAME, Settings};
use spool::AgentKind;
use status::{Output, Seen, Status};

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
        Left::Unknown(why) => format!("mail that is left: not counted: {why}"),
    };
    bail!(
        "{what}: nobody would deliver this mail; let the agents finish (see `optimus status`; \
            `optimus uninstall --wait` puts stock sendmail back and waits), or uninstall with \
            --force, which leaves the mail in place"
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
    let status: Output = serde_json::from_slice(&output.stdout).with_context(|| {
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
fn judge(Output { redis, seen, .. }: &Output) -> Left {
    // Before any agent has run, the inbox is all that is known of Redis.
    let (backlog, quarantined) = match seen {
        Seen::All(status) if others_send(status) => (0, 0),
        Seen::All(status) => (status.backlog, status.quarantine_total),
        Seen::Part(part) => (part.inbox, 0),
        Seen::Host(_) => {
            let error = redis.error.as_deref().unwrap_or_default();
            return Left::Unknown(format!("{}: {error}", redis.server));
        }
    };
    let queue = seen.queue();
    let undecided = if queue.error.is_none() { queue.undecided.len() } else { queue.prepared };
    let kinds = [
        (backlog, "in Redis, not yet sent"),
        (quarantined, "in quarantine (see `optimus quarantine`)"),
        (queue.in_doubt as u64, "in the maildrop, in doubt"),
        (queue.stranded as u64, "in the maildrop, which no pickup service reads"),
        (undecided as u64, "in the queue directory, not yet decided about"),
    ];
    let found = kinds.iter().filter(|(count, _)| *count > 0);
    let found: Vec<String> = found.map(|(count, place)| format!("{count} {place}")).collect();
    if found.is_empty() {
        Left::Nothing
    } else {
        Left::Mail(format!("mail is left: {}", found.join("; ")))
    }
}

fn others_send(status: &Status) -> bool {
    status.agents.iter().any(|it| {
        it.kind == AgentKind::Mail
            && it.lease_left_ms > 0
            && status.queue.node.as_ref() != Some(&it.agent)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use status::{AgentStatus, Part};

    use super::*;

    /// Returns the output of a command that found no mail.
    fn nothing() -> Value {
        let queue = json!({
            "node": "n", "undecided": [], "destinations": [],
            "prepared": 0, "in_doubt": 0, "stranded": 0,
        });
        let agent = json!({
            "kind": "mail", "agent": "n", "host": "mx", "number": 0, "lease_left_ms": 9,
        });
        let inbox = json!({ "entries": 0, "malformed": 0, "next_lot": 1 });
        json!({
            "state": "ok", "reasons": [], "redis": { "server": "unix:/x", "reachable": true },
            "now_ms": 1, "agents": [agent], "nodes": [], "copies": [], "backlog": 0,
            "lots": { "inbox": inbox, "ready_total": 0, "ready": [], "assigned_total": 0 },
            "parked": 0, "lanes": [], "deferred": { "total": 0 }, "on_hold": 0,
            "standing": { "held": 0, "ordered": 0, "ordered_at_nodes": 0, "at_nodes": [] },
            "quarantine_total": 0, "quarantine_bytes": 0, "quarantine": [], "waiting": [],
            "queue": queue, "counts": {},
        })
    }

    fn status() -> (Output, Box<Status>) {
        let output: Output = serde_json::from_value(nothing()).unwrap();
        let Seen::All(status) = output.seen.clone() else { panic!("{output:?}") };
        (output, status)
    }

    fn judged(status: Status) -> Left {
        judge(&Output { seen: Seen::All(Box::new(status)), ..self::status().0 })
    }

    #[test]
    fn mail_that_is_left_is_named_by_its_place() {
        let (output, status) = status();
        assert_eq!(judge(&output), Left::Nothing);
        let mut full = Status { backlog: 7, quarantine_total: 2, ..*status };
        full.queue.undecided = ["a", "b", "c"].map(str::to_owned).into();
        let Left::Mail(text) = judged(full) else { panic!() };
        assert!(
            text.contains("7 in Redis")
                && text.contains("2 in quarantine")
                && text.contains("3 in the queue directory"),
            "{text}"
        );
    }

    #[test]
    fn a_redis_without_functions_has_an_inbox_all_the_same() {
        let (output, status) = status();
        let part = Part { inbox: 3, queue: status.queue, counts: status.counts };
        let Left::Mail(text) = judge(&Output { seen: Seen::Part(part), ..output }) else {
            panic!()
        };
        assert!(text.contains("3 in Redis"), "{text}");
    }

    #[test]
    fn a_backlog_stops_no_uninstallation_where_other_nodes_send() {
        let (_, status) = status();
        let mut shared = Status { backlog: 7, ..*status };
        shared.agents.push(AgentStatus { agent: "m".to_owned(), ..shared.agents[0].clone() });
        assert_eq!(judged(shared.clone()), Left::Nothing);
        shared.agents[1].lease_left_ms = -1;
        assert!(matches!(judged(shared), Left::Mail(_)));
    }

    #[test]
    fn an_unknown_amount_of_mail_isn_t_taken_for_none() {
        let (_, status) = status();
        let away = json!({
            "state": "critical", "reasons": [], "queue": status.queue,
            "redis": { "reachable": false, "server": "unix:/x", "error": "gone" },
        });
        let away = serde_json::from_value(away).unwrap();
        assert_eq!(judge(&away), Left::Unknown("unix:/x: gone".to_owned()));
        let mut without_pickup = *status;
        without_pickup.queue.error = Some("away".to_owned());
        assert_eq!(judged(without_pickup.clone()), Left::Nothing);
        without_pickup.queue.prepared = 2;
        assert!(matches!(judged(without_pickup), Left::Mail(_)));
    }
}
