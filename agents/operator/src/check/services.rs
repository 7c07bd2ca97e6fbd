//! `master.cf`: it must have the entry for pickup-rs, and still that for stock pickup.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use postfix_wire::master_cf::{MasterService, ServiceType};
use postfix_wire::{MainCf, MasterCf};

use super::Problem;

pub(crate) const SERVICE: &str = "optimus";
pub(crate) const PROGRAM: &str = "pickup-rs";
/// The entry that `optimus install` makes.
pub(crate) const ENTRY: &str = "optimus unix - - n - 1 pickup-rs";

pub(super) fn check(config_directory: &Path, main_cf: &MainCf) -> Vec<Problem> {
    let place = config_directory.join("master.cf").display().to_string();
    // `check` reports an unreadable file by itself.
    let Ok(master_cf) = MasterCf::load(config_directory) else { return Vec::new() };
    let mut problems = entry(&master_cf, &place);
    problems.extend(stock_pickup(&master_cf, &place));
    problems.extend(program(main_cf));
    problems
}

pub(crate) fn entry(master_cf: &MasterCf, place: &str) -> Vec<Problem> {
    if let Some(service) = master_cf.find(SERVICE, ServiceType::Unix) {
        return fields(service)
            .iter()
            .map(|text| Problem::error(format!("{place}: line {}: {text}", service.line)))
            .collect();
    }
    let other = master_cf.services().iter().find(|it| it.name == SERVICE);
    vec![Problem::error(match other {
        Some(it) => {
            format!("{place}: line {}: {SERVICE}: type must be unix, as in {ENTRY:?}", it.line)
        }
        None => format!("{place}: no entry for pickup-rs; add {ENTRY:?}"),
    })]
}

fn fields(service: &MasterService) -> Vec<String> {
    let wrong = [
        (!service.private, "private", "y, or only set-group-id programs can reach it"),
        (
            service.chroot != Some(false),
            "chroot",
            "n: pickup-rs reads optimus.toml and reaches Redis",
        ),
        (service.process_limit != Some(1), "maxproc", "1: one process watches the queue for all"),
        (service.command != PROGRAM, "command", PROGRAM),
    ];
    wrong
        .into_iter()
        .filter(|(is_wrong, ..)| *is_wrong)
        .map(|(_, field, must)| format!("{SERVICE}: {field} must be {must}"))
        .collect()
}

/// Returns a problem where stock pickup has no entry. Stock pickup delivers the mail that went to
/// the maildrop while Redis was away.
fn stock_pickup(master_cf: &MasterCf, place: &str) -> Option<Problem> {
    let is_pickup = |it: &&MasterService| {
        it.name == "pickup" && matches!(it.service_type, ServiceType::Unix | ServiceType::Fifo)
    };
    let there = master_cf.services().iter().any(|it| is_pickup(&it) && it.command == "pickup");
    let text = "no entry for stock pickup: mail sent while Redis is away would stay in the \
        maildrop; put the entry back";
    (!there).then(|| Problem::error(format!("{place}: {text}")))
}

fn program(main_cf: &MainCf) -> Option<Problem> {
    let path = main_cf.get_path("daemon_directory").ok()?.join(PROGRAM);
    let text = match path.metadata() {
        Ok(it) if it.is_file() && it.mode() & 0o111 != 0 => return None,
        Ok(_) => "not a program; run `optimus install`".to_owned(),
        Err(error) => error.to_string(),
    };
    Some(Problem::error(format!("{}: {text}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let master_cf = MasterCf::parse(text, Path::new("master.cf")).unwrap();
        let problems =
            entry(&master_cf, "master.cf").into_iter().chain(stock_pickup(&master_cf, "master.cf"));
        problems.map(|it| format!("{it}\n")).collect()
    }

    const PICKUP: &str = "pickup unix n - y 60 1 pickup\n";

    #[test]
    fn the_entry_that_the_remedy_names_is_right() {
        assert_eq!(told(&format!("{PICKUP}{ENTRY}\n")), "");
    }

    #[test]
    fn a_missing_entry_is_named_with_its_remedy() {
        assert!(told(PICKUP).contains(ENTRY));
        assert!(
            told(&format!("{PICKUP}optimus inet n - n - 1 pickup-rs\n"))
                .contains("line 2: optimus: type")
        );
    }

    #[test]
    fn each_wrong_field_is_named_with_its_line() {
        let told = told(&format!("{PICKUP}optimus unix n - y - - pickup\n"));
        for field in ["private", "chroot", "maxproc", "command"] {
            assert!(
                told.contains(&format!("master.cf: line 2: optimus: {field} must be")),
                "{told}"
            );
        }
    }

    #[test]
    fn a_missing_entry_for_stock_pickup_is_an_error() {
        assert!(told(&format!("{ENTRY}\n")).contains("stock pickup"));
    }
}
