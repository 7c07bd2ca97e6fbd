use super::*;
use crate::postconf::{folder_with, postconf, words};
use proptest::prelude::*;

fn parse(text: &str) -> Result<MasterCf, MasterCfError> {
    MasterCf::parse(text, Path::new("/etc/postfix/master.cf"))
}

const SAMPLE: &str = "\
# comment
smtp      inet  n       -       y       -       -       smtpd
pickup    unix  n       -       y       60      1       pickup
optimus   unix  -       n       n       300?    1       pickup-rs
  -o syslog_name=postfix/optimus
# between
  -o { non_smtpd_milters = inet:a:1, inet:b:2 } -v
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -o x=y
";

#[test]
fn a_sample() {
    let master_cf = parse(SAMPLE).unwrap();
    assert_eq!(master_cf.services().len(), 4);
    let optimus = master_cf.find("optimus", ServiceType::Unix).unwrap();
    assert_eq!((optimus.line, optimus.private, optimus.unprivileged), (4, true, false));
    assert_eq!(
        (optimus.chroot, optimus.wakeup_s, optimus.wakeup_if_used),
        (Some(false), 300, true)
    );
    assert_eq!(optimus.process_limit, Some(1));
    let expected =
        ["-o", "syslog_name=postfix/optimus", "-o", "non_smtpd_milters = inet:a:1, inet:b:2", "-v"];
    assert_eq!(optimus.args, expected);
    assert_eq!(
        optimus.overrides(),
        [
            ("syslog_name".to_owned(), "postfix/optimus".to_owned()),
            ("non_smtpd_milters".to_owned(), "inet:a:1, inet:b:2".to_owned()),
        ]
    );
    assert_eq!(optimus.socket().unwrap(), Path::new("private/optimus"));
}

#[test]
fn an_argument_of_the_command_is_no_override() {
    let master_cf = parse(SAMPLE).unwrap();
    assert_eq!(master_cf.find("maildrop", ServiceType::Unix).unwrap().overrides(), []);
}

#[test]
fn errors_name_line_and_field() {
    for (text, expected) in [
        ("a unix - - - -", "line 1: missing \"max_proc\" field"),
        ("\n\na unix - x - - - c", "line 3: field \"unprivileged\": bad value: \"x\""),
        ("a tcp - - - - - c", "field \"transport type\": bad value: \"tcp\""),
        ("a unix - - - -1 - c", "field \"wakeup_time\": bad value: \"-1\""),
        ("a unix - - - - - c -o {a=b", "bad value: \"{a=b\""),
        ("25 inet - - - - - smtpd", "field \"private\""),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_service_s_configuration_has_its_overrides() {
    let main_cf = MainCf::parse("syslog_name = x", Path::new("/etc/postfix"), "h").unwrap();
    let master_cf = parse(SAMPLE).unwrap();
    let optimus = master_cf.find("optimus", ServiceType::Unix).unwrap();
    let seen = master_cf.configuration_of(optimus, &main_cf).unwrap();
    assert_eq!(seen.get("syslog_name").unwrap(), "postfix/optimus");
    assert_eq!(main_cf.get("syslog_name").unwrap(), "x");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_arguments_are_read_or_refused(arguments in "[-{}o= ,a$é]{0,40}") {
        if let Ok(master_cf) = parse(&format!("a unix - - - - - c {arguments}")) {
            for service in master_cf.services() {
                let _ = service.overrides();
            }
        }
    }
}

/// Returns a service's fields as `postconf -F` shows them.
fn shown(service: &MasterService) -> Vec<(&'static str, String)> {
    let yes_no = |yes: bool| if yes { "y" } else { "n" }.to_owned();
    let wakeup = format!("{}{}", service.wakeup_s, if service.wakeup_if_used { "?" } else { "" });
    vec![
        ("private", yes_no(service.private)),
        ("unprivileged", yes_no(service.unprivileged)),
        ("chroot", service.chroot.map_or("-".to_owned(), yes_no)),
        ("wakeup", wakeup),
        ("process_limit", service.process_limit.map_or("-".to_owned(), |limit| limit.to_string())),
    ]
}

#[test]
fn fields_are_those_of_postfix() {
    let folder = folder_with("", SAMPLE);
    let theirs = postconf(folder.path(), ["-F"]).unwrap();
    let ours = MasterCf::load(folder.path()).unwrap();
    for service in ours.services() {
        let kind = if service.service_type == ServiceType::Inet { "inet" } else { "unix" };
        for (field, value) in shown(service) {
            let their = &theirs[&format!("{}/{kind}/{field}", service.name)];
            // postconf shows the file's text, in which `-` stands for the default.
            let default = if field == "wakeup" { "0" } else { "y" };
            let their = if their == "-" && value == default { default } else { their };
            assert_eq!(value, their, "{} {field}", service.name);
        }
    }
}

/// Returns a strategy for arguments, some in braces, some broken.
fn arguments() -> impl Strategy<Value = String> {
    let argument = prop_oneof![
        4 => "-o [a-c]{1,2}=[a-z0-9,=]{0,5}",
        2 => "-o \\{ ?[a-c]{1,2} ?= ?[a-z ,=]{0,8}\\}",
        1 => "-o \\{[a-c]=\\{[a-z ]{0,4}\\} x\\}",
        1 => "-o[a-c]=x",
        1 => "-v",
        1 => "-x",
        1 => "-o [a-c]?",
        1 => "x",
    ];
    prop::collection::vec(argument, 0..5).prop_map(|arguments| arguments.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn overrides_are_those_of_postfix(arguments in arguments()) {
        let text = format!("s unix - - - - - c {arguments}\n");
        let ours = parse(&text).unwrap();
        let folder = folder_with("", &text);
        let theirs = postconf(folder.path(), ["-P"]).unwrap();
        let ours: std::collections::HashMap<_, _> =
            ours.services()[0].overrides().iter()
                .map(|(name, value)| (format!("s/unix/{name}"), words(value)))
                .collect();
        prop_assert_eq!(ours, theirs, "{}", text);
    }
}
