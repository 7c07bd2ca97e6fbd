use std::path::Path;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> MainCf {
    try_parse(text).unwrap()
}

fn try_parse(text: &str) -> Result<MainCf, MainCfError> {
    MainCf::parse(text, Path::new("/etc/postfix"), "mail.example.com")
}

#[test]
fn the_table_is_sorted_by_name() {
    assert!(defaults::PARAMETERS.is_sorted_by(|a, b| a.name < b.name));
    for parameter in defaults::PARAMETERS {
        assert_eq!(defaults::find(parameter.name).map(|found| found.name), Some(parameter.name));
    }
}

#[test]
fn the_last_value_given_counts() {
    let mut main_cf = parse("mail_name = a\nmail_name = b\n");
    assert_eq!(main_cf.get("mail_name").unwrap(), "b");
    main_cf.override_with(" mail_name = c d ").unwrap();
    assert_eq!(main_cf.get("mail_name").unwrap(), "c d");
}

#[test]
fn an_override_changes_values_that_refer_to_it() {
    let mut main_cf = parse("syslog_name = postfix/$service_name\n");
    main_cf.set("service_name", "optimus");
    assert_eq!(main_cf.get("syslog_name").unwrap(), "postfix/optimus");
}

#[test]
fn defaults_come_from_the_machine_s_name() {
    let name = |text, host| {
        let main_cf = MainCf::parse(text, Path::new("/etc/postfix"), host).unwrap();
        (main_cf.get("myhostname").unwrap(), main_cf.get("mydomain").unwrap())
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(name("", "mail.example.com"), pair("mail.example.com", "example.com"));
    assert_eq!(name("", "mail"), pair("mail.localdomain", "localdomain"));
    assert_eq!(name("mydomain = a.b", "mail"), pair("mail.a.b", "a.b"));
    assert_eq!(name("myhostname = x.y.z", "mail"), pair("x.y.z", "y.z"));
    assert_eq!(name("myhostname = x.$mydomain\nmydomain = y", "mail"), pair("x.y", "y"));
}

#[test]
fn values() {
    let main_cf = parse(
        "soft_bounce = YES\nmax_use = 7\nmax_idle = 2h\nipc_idle = 9\nmaximal_queue_lifetime = 3\n",
    );
    assert!(main_cf.get_bool("soft_bounce").unwrap());
    assert_eq!(main_cf.get_int("max_use").unwrap(), 7);
    assert_eq!(main_cf.get_time_s("max_idle").unwrap(), 7_200);
    assert_eq!(main_cf.get_time_s("ipc_idle").unwrap(), 9);
    assert_eq!(main_cf.get_time_s("maximal_queue_lifetime").unwrap(), 3 * 86_400);
    assert_eq!(main_cf.get_path("queue_directory").unwrap(), Path::new("/var/spool/postfix"));
}

#[test]
fn times_have_units() {
    let cases = [
        ("10", Some(10)),
        ("10s", Some(10)),
        ("1m", Some(60)),
        (" +1h", Some(3_600)),
        ("2d", Some(172_800)),
        ("1w", Some(604_800)),
        ("2147483647s", Some(2_147_483_647)),
        ("2147483648s", None),
        ("35791394m", None),
        ("-1s", None),
        ("", None),
        ("s", None),
        ("1y", None),
        ("1.5h", None),
    ];
    for (text, seconds) in cases {
        assert_eq!(value::parse_time_s(text, 's'), seconds, "{text:?}");
    }
}

#[test]
fn an_error_names_file_and_line() {
    for (text, expected) in [
        (
            "\n\nmail_name\n",
            "/etc/postfix/main.cf, line 3: missing '=' after attribute name: \"mail_name\"",
        ),
        (
            "# x\nmax_use = many\n",
            "/etc/postfix/main.cf, line 2: parameter max_use: value \"many\" is not a number",
        ),
        ("soft_bounce = maybe\n", "parameter soft_bounce: value \"maybe\" must be yes or no"),
        ("max_use = 0\n", "is less than 1"),
        ("in_flow_delay = 1m\n", "is more than 10s"),
        ("max_use = 2147483648\n", "is more than 2147483647"),
        ("max_idle = 5y\n", "is not a time"),
        ("mail_owner =\n", "must not be empty"),
        ("mail_name = ${x\n", "line 1: parameter mail_name: truncated macro reference"),
    ] {
        let error = try_parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = parse("").override_with("max_use=x").unwrap_err().to_string();
    assert!(error.contains("option -o max_use=x: parameter max_use"), "{error}");
}

#[test]
fn a_missing_file_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    let error = MainCf::load(empty.path()).unwrap_err();
    assert!(
        matches!(&error, MainCfError::Read { .. }) && error.to_string().contains("main.cf"),
        "{error}"
    );
}

#[test]
fn a_parameter_that_is_not_set_is_an_error() {
    let main_cf = parse("mine = x\n");
    assert_eq!(main_cf.get("mine").as_deref(), Some("x"));
    assert_eq!(main_cf.get("nobodys"), None);
    assert!(matches!(main_cf.get_int("nobodys"), Err(MainCfError::NotSet(_))));
}

#[test]
fn the_origin_may_be_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mailname");
    std::fs::write(&path, " origin.example \nsecond\n").unwrap();
    let main_cf = parse(&format!("myorigin = {}\n", path.display()));
    assert_eq!(main_cf.get("myorigin").unwrap(), "origin.example");
    std::fs::write(&path, "\n").unwrap();
    assert!(main_cf.try_get("myorigin").is_err());
}

#[test]
fn recursion_has_limits() {
    let depth = |text: &str| parse(text).try_get("a");
    assert!(matches!(
        depth("a = $a"),
        Err(MainCfError::Expand { source: ExpandError::Depth(_), .. })
    ));
    assert!(matches!(
        depth("a = ${{$a} == {x}?y}"),
        Err(MainCfError::Expand { source: ExpandError::Depth(_), .. })
    ));
    let doubling: String = (0..90).map(|n| format!("a{n} = $a{m}$a{m}\n", m = n + 1)).collect();
    let bomb = format!("{doubling}a = $a0\na90 =");
    assert!(matches!(depth(&bomb), Err(MainCfError::Expand { source: ExpandError::Size, .. })));
    let long = format!("a = $b$b\nb = {}", "x".repeat(expand::MAX_EXPANDED_BYTES / 2 + 1));
    assert!(matches!(depth(&long), Err(MainCfError::Expand { source: ExpandError::Size, .. })));
}

#[test]
fn a_file_may_have_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let text = "# comment\n".repeat(600_000) + "myhostname = a.b\nmail_name = last\n";
    std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
    assert_eq!(MainCf::load(folder.path()).unwrap().get("mail_name").unwrap(), "last");
}

#[test]
fn a_name_that_is_no_host_name_is_refused() {
    let parsed = |text: &str, host| MainCf::parse(text, Path::new("/etc/postfix"), host);
    for host in ["a b", "1.2.3.4", "a..b", "", "(none)", ".a", "::1"] {
        assert!(matches!(parsed("", host), Err(MainCfError::MachineName { .. })), "{host:?}");
        assert!(parsed("myhostname = a.b", host).is_ok(), "{host:?}");
        let set = format!("myhostname = {host}");
        assert!(matches!(parsed(&set, "mail"), Err(MainCfError::Value { .. })), "{host:?}");
        let domain = format!("myhostname = a.b\nmydomain = {host}");
        assert!(matches!(parsed(&domain, "mail"), Err(MainCfError::Value { .. })), "{host:?}");
    }
    let words = parsed("\nmyhostname = $nothing", "mail").unwrap_err().to_string();
    assert_eq!(
        words,
        "/etc/postfix/main.cf, line 2: parameter myhostname: value \"\" must not be empty"
    );
    let words = parsed("", "(none)").unwrap_err().to_string();
    assert!(
        words.starts_with("the name of this machine, \"(none)\", has other characters"),
        "{words}"
    );
}

#[test]
fn written_values_are_all_and_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let text = "a = $b\nb = x\nwrong\n= y\na =\n  c,\n  d\nmail_name =\n";
    std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
    assert_eq!(written_values(folder.path(), &["a", "b"]).unwrap(), ["$b", "x", "c,  d"]);
    assert!(written_values(Path::new("/nonexistent"), &[]).is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,300}") {
        if let Ok(main_cf) = try_parse(&text) {
            let _ = main_cf.get("mail_name");
        }
    }

    #[test]
    fn any_expression_is_expanded_or_refused(text in "[a-c${}()?:=<>! \t1é]{0,60}") {
        let _ = parse("a = $b\nb = x\nc = ").expand(&text);
    }

    #[test]
    fn text_without_dollars_is_itself(text in "[^$]{0,60}") {
        prop_assert_eq!(parse("").expand(&text).unwrap(), text);
    }
}
