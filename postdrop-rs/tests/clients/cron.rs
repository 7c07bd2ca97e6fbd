//! Test with the real cron daemon, which mails the output of a job.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};

use spool::keys;
use testbed::until;

use crate::machine::{Daemon, LIMIT, Machine, needs};
use crate::support::installed::{USER, user};

/// Shell commands that give cron its own table and lock, and no memory of an earlier start.
const PLACES: &str = r#"
mount -t tmpfs none /run && mount --bind "$home/crontabs" /var/spool/cron/crontabs && mount --bind "$home/empty" /etc/cron.d &&
    mount --bind /dev/null /etc/crontab && mount --bind "$home/pam" /etc/pam.d/cron"#;

#[test]
fn cron_mails_the_output_of_a_job() {
    needs("cron", "/usr/sbin/cron");
    let mut machine = Machine::new();
    for folder in ["crontabs", "empty"] {
        let folder = machine.home.join(folder);
        std::fs::create_dir(&folder).unwrap();
        chown(&folder, Some(0), Some(0)).unwrap();
    }
    // The kernel must not record the sessions of containers.
    machine.write(
        "pam",
        "auth required pam_permit.so\naccount required pam_permit.so\n\
            session required pam_permit.so\n",
    );
    let job = "@reboot echo one; echo .; echo two\n";
    let table = machine
        .write(&format!("crontabs/{USER}"), &format!("HOME=/\nMAILTO=bob@example.org\n{job}"));
    std::fs::set_permissions(&table, Permissions::from_mode(0o600)).unwrap();
    chown(&table, Some(user().uid.as_raw()), None).unwrap();

    let _daemon = Daemon::start(&mut machine.command_as("--clear-groups", PLACES, &["cron", "-f"]));
    let redis = machine.installed.site.redis.as_ref().unwrap();
    until(LIMIT, "cron's mail", || redis.cli(&["EXISTS", keys::INBOX]).unwrap() == "1").unwrap();
    let mail = machine.take_one();
    assert_eq!(mail.sender, USER);
    assert_eq!(mail.recipients, ["bob@example.org"]);
    assert!(
        mail.header("Subject").unwrap().contains("echo one; echo .; echo two"),
        "{}",
        mail.content
    );
    assert_eq!(mail.body(), "one\n.\ntwo\n");
}
