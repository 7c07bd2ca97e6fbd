//! Texts as `main.cf`: each text gives a configuration or an error, in bounded time. Each
//! configuration has a value for every parameter that Postfix's programs need.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use postfix_wire::MainCf;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (option, file) = text.split_once('\n').unwrap_or_default();
    let Ok(mut main_cf) = MainCf::parse(file, Path::new("/etc/postfix"), "host") else { return };
    for name in ["myhostname", "syslog_name", "header_checks", "smtputf8_enable"] {
        assert!(
            main_cf.try_get(name).is_ok()
                || main_cf.is_set("myhostname")
                || main_cf.is_set("mydomain"),
            "{name}"
        );
    }
    assert!(main_cf.get_time_s("max_idle").is_ok() && main_cf.get_path("queue_directory").is_ok());
    let _ = main_cf.expand(option);
    let _ = main_cf.override_with(option);
});
