//! `optimus acl`: the Redis users of OPTIMUS, as lines for Redis's own configuration.

use agents::daemon::Options;
use anyhow::{Context, Result};
use settings::Settings;
use spool::Server;
use spool::acl::{self, Proof};

use crate::say;

/// Placeholder for a password.
const BLANK: &str = "PASSWORD";

pub(crate) fn print(options: &Options) -> Result<()> {
    lines(&Settings::load(&options.config_directory)?)?.iter().for_each(say);
    Ok(())
}

/// Returns the lines, with the names and the database that `optimus.toml` sets. Passwords are left
/// out, since a terminal must not show them.
fn lines(settings: &Settings) -> Result<Vec<String>> {
    let url = settings.redis.url.as_deref();
    let database = url
        .map(Server::parse)
        .transpose()
        .context("redis.url")?
        .map_or(0, |server| server.database);
    let submitter = settings.submit.user.as_deref().unwrap_or("optimus-submit");
    let agent = settings.redis.user.as_deref().unwrap_or("optimus");
    let blank = Proof::Password(BLANK);
    let comments = [
        format!(
            "# For Redis's aclfile, followed by ACL LOAD, or for redis.conf. Fill in each {BLANK}."
        ),
        format!(
            "# sendmail and postdrop: [submit] user = \"{submitter}\", password_file = ... \
                (root:postdrop, 0640)"
        ),
        acl::submitter(submitter, blank, database),
        format!(
            "# agents and pickup-rs: [redis] user = \"{agent}\", password_file = ... (root, \
            0600)"
        ),
        acl::agent(agent, blank, database),
        "# Keep other users out where only OPTIMUS uses this Redis. Never take rights from the \
            default user: Redis 7.0"
            .to_owned(),
        "# replays its append-only file with that user's rights, and skips forbidden commands."
            .to_owned(),
        format!("# {}", acl::NOBODY),
    ];
    Ok(comments.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_have_the_two_users_by_their_names_in_the_settings() {
        let users = |settings: &Settings| -> Vec<String> {
            let lines = lines(settings).unwrap().into_iter().filter(|line| !line.starts_with('#'));
            lines.map(|line| line.split(" resetkeys").next().unwrap().to_owned()).collect()
        };
        let mut settings = Settings::default();
        let by_default =
            ["user optimus-submit on resetpass >PASSWORD", "user optimus on resetpass >PASSWORD"];
        assert_eq!(users(&settings), by_default);
        (settings.submit.user, settings.redis.user) = (Some("a".to_owned()), Some("b".to_owned()));
        settings.redis.url = Some("redis://h/3".to_owned());
        assert_eq!(users(&settings)[1], "user b on resetpass >PASSWORD");
        assert!(
            lines(&settings).unwrap().iter().filter(|line| line.ends_with(" +select")).count() == 2
        );
    }
}
