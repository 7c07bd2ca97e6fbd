//! Texts as `master.cf`: each text gives a list of services or an error, and each service's socket
//! stays in its directory.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use postfix_wire::MasterCf;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let Ok(master_cf) = MasterCf::parse(&text, Path::new("/etc/postfix/master.cf")) else { return };
    for service in master_cf.services() {
        assert!(!service.name.is_empty() && !service.command.is_empty());
        assert!(service.overrides().len() <= service.args.len());
        assert_eq!(
            master_cf.find(&service.name, service.service_type).map(|found| &found.name),
            Some(&service.name)
        );
    }
});
