//! systemd units, those of all services from one template.
//!
//! The agents start as root, read the password file, and become `mail_owner`: that needs two
//! capabilities and nothing else of root's. They write only to Postfix's queue and data folders.
//! KillMode is mixed, because the embedded Redis must outlive the agents it serves: systemd asks
//! the agents to end, and they end Redis.
//!
//! postdropd becomes any user, and its children then gain the group of postdrop. So it must not
//! have NoNewPrivileges. Its socket is systemd's, and stays while the service is started again.

use std::path::Path;

use anyhow::Result;
use settings::Settings;

use super::UnitChoice;
use super::site::Site;

pub(super) struct Unit {
    pub(super) name: String,
    pub(super) text: String,
    /// Whether mail comes in through the unit.
    pub(super) submits: bool,
}

struct AgentUnit {
    /// Suffix of the unit's name, after `optimus`.
    name: &'static str,
    what: &'static str,
    command: &'static str,
    page: &'static str,
    capabilities: &'static str,
    no_new_privileges: bool,
    submits: bool,
    /// Further lines of the unit's section `[Service]`.
    more: &'static str,
}

const BECOMES_MAIL_OWNER: &str = "CAP_SETUID CAP_SETGID";

const TOGETHER: AgentUnit = AgentUnit {
    name: "",
    what: "all agents, and Redis if none is configured",
    command: "optimus run",
    page: "optimus(1)",
    capabilities: BECOMES_MAIL_OWNER,
    no_new_privileges: true,
    submits: false,
    more: "",
};

const APART: [AgentUnit; 4] = [
    AgentUnit {
        name: "-info",
        what: "info agent",
        command: "info-agent",
        page: "info-agent(8)",
        ..TOGETHER
    },
    AgentUnit {
        name: "-scheduler",
        what: "scheduler agent",
        command: "scheduler-agent",
        page: "scheduler-agent(8)",
        ..TOGETHER
    },
    AgentUnit {
        name: "-mail",
        what: "mail agent",
        command: "mail-agent",
        page: "mail-agent(8)",
        ..TOGETHER
    },
    MAILDROP,
];

/// Service for hosts without `optimus run`, which does the same.
const MAILDROP: AgentUnit = AgentUnit {
    name: "-maildrop",
    what: "submissions in doubt",
    command: "optimus maildrop",
    page: "optimus(1)",
    ..TOGETHER
};

/// Limits of memory. The kernel kills only a postdrop that exceeds them, and its caller gets an
/// error.
const BOUNDED_MEMORY: &str = "MemoryHigh=20%\nMemoryMax=25%\nOOMPolicy=continue\n";

pub(super) const POSTDROPD: &str = "postdropd";

const SUBMISSION: AgentUnit = AgentUnit {
    name: "-postdropd",
    what: "submission socket",
    command: POSTDROPD,
    page: "postdropd(8)",
    capabilities: "CAP_SETUID CAP_SETGID CAP_KILL CAP_DAC_OVERRIDE",
    no_new_privileges: false,
    submits: true,
    more: BOUNDED_MEMORY,
};

pub(super) fn of(site: &Site, agents: UnitChoice, has_postdropd: bool) -> Result<Vec<Unit>> {
    let agents: &[AgentUnit] = match agents {
        UnitChoice::Together => &[TOGETHER],
        UnitChoice::Apart => &APART,
        UnitChoice::None => &[MAILDROP],
    };
    let submission = has_postdropd.then_some(&SUBMISSION);
    let mut units: Vec<Unit> = agents.iter().chain(submission).map(|it| unit(site, it)).collect();
    if has_postdropd {
        units.push(socket(site)?);
    }
    Ok(units)
}

pub(super) fn systemd_is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn unit(site: &Site, service: &AgentUnit) -> Unit {
    let name = format!("optimus{}{}.service", instance(&site.config_directory), service.name);
    Unit { text: text(site, service), name, submits: service.submits }
}

fn socket(site: &Site) -> Result<Unit> {
    let settings = Settings::load(&site.config_directory)?;
    let path = site.places().submit_socket(&settings);
    let name = format!("optimus{}{}.socket", instance(&site.config_directory), SUBMISSION.name);
    let text = format!(
        "# Made by `optimus install`. The path is submit.socket of {}/optimus.toml.
[Unit]
Description=OPTIMUS: submission socket
Documentation=man:postdropd(8)

[Socket]
ListenStream={}
SocketMode=0666
DirectoryMode=0755
Backlog=4096

[Install]
WantedBy=sockets.target
",
        site.config_directory.display(),
        path.display()
    );
    Ok(Unit { name, text, submits: true })
}

/// Returns the suffix of an instance's units; Postfix's default instance has none.
fn instance(config_directory: &Path) -> String {
    match config_directory.file_name() {
        Some(name) if config_directory != Path::new("/etc/postfix") => {
            format!("-{}", name.to_string_lossy())
        }
        _ => String::new(),
    }
}

fn text(site: &Site, service: &AgentUnit) -> String {
    let AgentUnit { what, command, page, capabilities, more, .. } = service;
    let no_new_privileges = if service.no_new_privileges { "yes" } else { "no" };
    let (config, prefix) = (site.config_directory.display(), site.folders.prefix.display());
    let (queue, data) = (site.queue_directory.display(), site.data_directory.display());
    let (program, words) = command.split_once(' ').unwrap_or((command, ""));
    let arguments = format!("{words} -c {config}");
    let arguments = arguments.trim_start();
    format!(
        "# Made by `optimus install`, and anew by each later run. Settings of OPTIMUS are in
# {config}/optimus.toml. Change settings of this unit with `systemctl edit`.
[Unit]
Description=OPTIMUS: {what}
Documentation=man:{page} man:optimus.toml(5)
After=network-online.target postfix.service redis-server.service
Wants=network-online.target

[Service]
ExecStart={prefix}/{program} {arguments}
Restart=on-failure
RestartSec=1
# SIGTERM drains, which is done in seconds unless Redis is away.
KillMode=mixed
TimeoutStopSec=60
LimitNOFILE=65536
{more}
CapabilityBoundingSet={capabilities}
NoNewPrivileges={no_new_privileges}
UMask=0077
ProtectSystem=strict
ReadWritePaths={queue} {data}
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_units_of_its_own() {
        assert_eq!(instance(Path::new("/etc/postfix")), "");
        assert_eq!(instance(Path::new("/etc/postfix-2")), "-postfix-2");
    }
}
