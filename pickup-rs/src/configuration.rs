//! Settings that pickup-rs takes from `main.cf`, `master.cf`, `optimus.toml` and its command line.
//!
//! Mail from OPTIMUS must be treated as mail from stock pickup. So parameters are applied in this
//! order, later ones over earlier ones:
//!
//! 1. `main.cf`;
//! 2. the `-o` options of stock pickup's entry in `master.cf`, where sites switch off content
//!    filters and checks for local mail;
//! 3. the `-o` options of pickup-rs's own entry.
//!
//! Cleanup's own entry matters as well, because it says which content rules cleanup applies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use handoff::protocol::Handoff;
use postfix_wire::cleanup::apply_receive_override_options;
use postfix_wire::master_cf::ServiceType;
use postfix_wire::{CleanupFlags, MainCf, MasterArgs, MasterCf, QueueLayout};
use settings::{Places, Settings};
use spool::Server;

use crate::message::Site;

/// Settings of one pickup-rs process, fixed from its start to its end. After a reload the process
/// exits, and the next one reads the settings anew.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) places: Places,
    pub(crate) settings: Settings,
    /// Server and login, with the password.
    pub(crate) redis: Server,
    pub(crate) site: Site,
    pub(crate) layout: QueueLayout,
    pub(crate) handoff: Handoff,
    /// Parameters because of which the hand-off is direct.
    pub(crate) content_rules: Vec<&'static str>,
    /// Flags for cleanup, without the hold flag.
    pub(crate) flags: CleanupFlags,
    pub(crate) cleanup_socket: PathBuf,
    pub(crate) qmgr_socket: PathBuf,
    pub(crate) stock_pickup_socket: PathBuf,
    /// Whether the log shows senders unquoted.
    pub(crate) internal_addresses: bool,
    /// Longest wait for any Postfix service.
    pub(crate) ipc_timeout: Duration,
}

impl Configuration {
    /// Reads the files in `config_directory`. `main_cf` is its `main.cf` without any service's
    /// options. Only root can read some of these files.
    pub(crate) fn load(
        config_directory: &Path,
        main_cf: &MainCf,
        args: &MasterArgs,
    ) -> Result<Self> {
        let settings = Settings::load(config_directory)?;
        let master_cf = MasterCf::load(config_directory)?;
        let own = own_view(main_cf, &master_cf, args)?;
        Self::new(config_directory, settings, &master_cf, main_cf, &own)
    }

    fn new(
        config_directory: &Path,
        settings: Settings,
        master_cf: &MasterCf,
        main_cf: &MainCf,
        own: &MainCf,
    ) -> Result<Self> {
        let places = Places::of(config_directory, own)?;
        let flags = cleanup_flags(own)?;
        let cleanup_service = text(own, "cleanup_service_name");
        let cleanup = view_of(main_cf, master_cf, &cleanup_service)?;
        let content_rules = crate::handoff::content_rules(&cleanup, flags);
        let public = |service: &str| places.queue_directory.join("public").join(service);
        Ok(Self {
            handoff: crate::handoff::choose(&content_rules),
            content_rules,
            flags,
            site: site(own, &cleanup)?,
            layout: QueueLayout::of(own)?,
            redis: Server::of_daemons(&places, &settings)?,
            cleanup_socket: public(&cleanup_service),
            qmgr_socket: public(&text(own, "queue_service_name")),
            stock_pickup_socket: public(&text(own, "pickup_service_name")),
            internal_addresses: text(own, "info_log_address_format") == "internal",
            ipc_timeout: Duration::from_secs(own.get_time_s("ipc_timeout")?),
            places,
            settings,
        })
    }

    /// Returns the flags for cleanup, with the hold flag if the hand-off needs it.
    pub(crate) fn flags_in_force(&self) -> CleanupFlags {
        match self.handoff {
            Handoff::Hold => self.flags.with(CleanupFlags::HOLD),
            Handoff::Direct => self.flags,
        }
    }
}

/// Returns `main.cf` with the options of stock pickup's entry, then those of pickup-rs's own.
fn own_view(main_cf: &MainCf, master_cf: &MasterCf, args: &MasterArgs) -> Result<MainCf> {
    let mut own = view_of(main_cf, master_cf, &text(main_cf, "pickup_service_name"))?;
    args.configure(&mut own).context("master.cf: options of pickup-rs")?;
    Ok(own)
}

/// Returns `main.cf` with the options of a service's entry, or unchanged if there is no such entry.
fn view_of(main_cf: &MainCf, master_cf: &MasterCf, service: &str) -> Result<MainCf> {
    let entry = [ServiceType::Unix, ServiceType::Fifo]
        .iter()
        .find_map(|kind| master_cf.find(service, *kind));
    match entry {
        None => Ok(main_cf.clone()),
        Some(entry) => master_cf
            .configuration_of(entry, main_cf)
            .with_context(|| format!("master.cf: line {}: options of {service}", entry.line)),
    }
}

/// Returns the flags that stock pickup sends (`pickup.c`), without the hold flag.
fn cleanup_flags(own: &MainCf) -> Result<CleanupFlags> {
    let all = CleanupFlags::BOUNCE | CleanupFlags::EXTERNAL;
    let flags = apply_receive_override_options(all, &text(own, "receive_override_options"))?;
    let classes = text(own, "smtputf8_autodetect_classes");
    let autodetect = classes
        .split(|ch: char| ch == ',' || ch.is_ascii_whitespace())
        .any(|class| matches!(class.to_ascii_lowercase().as_str(), "sendmail" | "all"));
    Ok(if autodetect { flags.with(CleanupFlags::AUTOUTF8) } else { flags })
}

fn site(own: &MainCf, cleanup: &MainCf) -> Result<Site> {
    Ok(Site {
        hostname: text(own, "myhostname"),
        mail_name: text(own, "mail_name"),
        content_filter: text(own, "content_filter"),
        line_limit_bytes: usize::try_from(own.get_int("line_length_limit")?)?,
        completes_remote_headers: cleanup.get_bool("always_add_missing_headers")?
            || !text(cleanup, "remote_header_rewrite_domain").is_empty(),
    })
}

fn text(main_cf: &MainCf, name: &str) -> String {
    main_cf.get(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER_CF: &str = "\
cleanup   unix n - n - 0 cleanup
pickup    unix n - n 60 1 pickup
optimus   unix - - n - 1 pickup-rs
";

    fn load(main_cf: &str, master_cf: &str, options: &str) -> Configuration {
        let etc = Path::new("/etc/postfix");
        let main_cf = MainCf::parse(main_cf, etc, "host.example.org").unwrap();
        let master_cf = MasterCf::parse(master_cf, etc).unwrap();
        let args = MasterArgs::parse(format!("pickup-rs {options}").split_whitespace()).unwrap();
        let own = own_view(&main_cf, &master_cf, &args).unwrap();
        Configuration::new(etc, Settings::default(), &master_cf, &main_cf, &own).unwrap()
    }

    #[test]
    fn without_settings_cleanup_gets_stock_pickup_s_flags_and_hold() {
        let configuration = load("", MASTER_CF, "");
        assert_eq!(configuration.handoff, Handoff::Hold);
        let expected = CleanupFlags::BOUNCE | CleanupFlags::EXTERNAL | CleanupFlags::AUTOUTF8;
        assert_eq!(configuration.flags_in_force(), expected | CleanupFlags::HOLD);
        assert_eq!(configuration.cleanup_socket, Path::new("/var/spool/postfix/public/cleanup"));
    }

    #[test]
    fn options_of_stock_pickup_apply_and_own_options_override_them() {
        let master_cf = MASTER_CF.replace(
            "60 1 pickup",
            "60 1 pickup -o content_filter=a: -o mail_name=Stock -o \
                receive_override_options=no_milters",
        );
        let configuration = load("content_filter = b:", &master_cf, "-o mail_name=Ours");
        assert_eq!(configuration.site.content_filter, "a:");
        assert_eq!(configuration.site.mail_name, "Ours");
        assert!(!configuration.flags.contains(CleanupFlags::MILTER));
    }

    #[test]
    fn cleanup_s_own_entry_says_whether_it_completes_headers_of_mail_from_elsewhere() {
        let completes =
            |main_cf, master_cf: &str| load(main_cf, master_cf, "").site.completes_remote_headers;
        assert!(!completes("", MASTER_CF));
        assert!(completes("remote_header_rewrite_domain = x.invalid", MASTER_CF));
        assert!(completes("always_add_missing_headers = yes", MASTER_CF));
        let with = |option| MASTER_CF.replace("0 cleanup", &format!("0 cleanup -o {option}"));
        assert!(completes("", &with("always_add_missing_headers=yes")));
        assert!(!completes(
            "always_add_missing_headers = yes",
            &with("always_add_missing_headers=no")
        ));
    }

    #[test]
    fn cleanup_s_own_entry_says_which_content_rules_it_applies() {
        let main_cf = "header_checks = regexp:/x";
        assert_eq!(load(main_cf, MASTER_CF, "").handoff, Handoff::Direct);
        let without = MASTER_CF.replace("0 cleanup", "0 cleanup -o header_checks=");
        assert_eq!(load(main_cf, &without, "").handoff, Handoff::Hold);
        let with = MASTER_CF.replace("0 cleanup", "0 cleanup -o body_checks=regexp:/x");
        let direct = load("", &with, "");
        assert_eq!((direct.handoff, direct.content_rules), (Handoff::Direct, vec!["body_checks"]));
        assert!(!direct.flags.contains(CleanupFlags::HOLD));
    }

    #[test]
    fn another_cleanup_for_local_mail_is_the_one_that_counts() {
        let master_cf = format!(
            "{}pre unix n - n - 0 cleanup -o header_checks=regexp:/x\n",
            MASTER_CF.replace("60 1 pickup", "60 1 pickup -o cleanup_service_name=pre")
        );
        let configuration = load("", &master_cf, "");
        assert_eq!(configuration.cleanup_socket, Path::new("/var/spool/postfix/public/pre"));
        assert_eq!(configuration.handoff, Handoff::Direct);
    }

    #[test]
    fn checks_switched_off_for_local_mail_leave_the_hold_queue_to_us() {
        let main_cf = "header_checks = regexp:/x\nreceive_override_options = no_header_body_checks";
        assert_eq!(load(main_cf, MASTER_CF, "").handoff, Handoff::Hold);
    }
}
