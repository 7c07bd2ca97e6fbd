//! Comparison of OPTIMUS's reader of `main.cf` with the installed Postfix's `postconf`.
//!
//! `postconf` prints values with collapsed blanks, so the tests compare values in that form.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::postconf::{folder_with, postconf, words};

/// Returns every parameter whose default doesn't depend on the installed Postfix, as the version
/// does.
fn known() -> Vec<&'static str> {
    let special = ["config_directory", "myhostname", "mydomain"];
    let table = defaults::PARAMETERS.iter().map(|parameter| parameter.name);
    table
        .chain(special)
        .filter(|name| !matches!(*name, "mail_version" | "mail_release_date"))
        .collect()
}

#[test]
fn defaults_are_those_of_postfix() {
    let folder = folder_with("", "");
    let theirs = postconf(folder.path(), ["-d"]).unwrap();
    for parameter in defaults::PARAMETERS {
        if parameter.name != "mail_version" && parameter.name != "mail_release_date" {
            assert_eq!(
                theirs.get(parameter.name),
                Some(&words(parameter.default)),
                "{}",
                parameter.name
            );
        }
    }
}

const SAMPLES: &[&str] = &[
    "",
    "compatibility_level = 3.6\n",
    "compatibility_level = 0\n# x\n\nmyhostname = a.b.c\n",
    "mydomain = example.net\n",
    "myhostname = host.example.org\nmyorigin = $mydomain\n",
    "myhostname = host.$mydomain\nmydomain = example.org\n",
    "multi_instance_name = postfix-out\nmulti_instance_enable = yes\n",
    "queue_directory = /srv/$multi_instance_name/spool\nmulti_instance_name = mta-2\n",
    "header_checks = pcre:/a,\n\tregexp:/b\n# comment between\n  pcre:${config_directory}/c\n",
    "body_checks = a\n   \n  b\n\n  c\nmail_name=x\n",
    "mail_name\t=\tTabbed\tName  \n",
    "mail_name = first\nmail_name = second\n",
    "mail_name = with # sign\n",
    "mail_name = $$dollar $${x} $(mail_owner) ${ mail_owner }\n",
    "always_bcc = ${mail_owner?set} ${nothing?set} ${nothing:unset} ${mail_owner:unset}\n",
    "always_bcc = ${mail_owner?{a}:{b}} ${nothing?{a}:{b}} ${nothing ? {a b} : {c d}}\n",
    "always_bcc = ${mail_owner??foo:{b}ar} ${nothing:?foo:{b}ar}\n",
    "always_bcc = ${{$mail_owner} == {postfix} ? {is} : {is not}}\n",
    "always_bcc = ${{$mail_owner} != {postfix}} and ${{1}<{10}} ${{10} < {9}} ${{10x} < {9}}\n",
    "always_bcc = ${{3.10} >level {3.9}?yes} ${{3} ==level {3.0.0}:no}\n",
    "x = $y\ny = $z\nz =\nalways_bcc = ${x?raw value counts}\n",
    "x = ${y?{$z}}\ny = 1\nz = deep $y\nalways_bcc = $x\n",
    "content_filter = smtp:[127.0.0.1]:10025\nreceive_override_options = no_address_mappings\n",
    "enable_long_queue_ids = yes\nhash_queue_depth = 2\nhash_queue_names = deferred, defer, hold\n",
    "non_smtpd_milters = inet:localhost:8891, { unix:/run/m, command_timeout=3s }\n",
    "smtputf8_enable = no\nmessage_size_limit = 0\nmaillog_file = /dev/stdout\n",
    "  stray continuation\n  more\nmail_name = after\n",
    "mail_name = a\r\nmail_owner = postfix\r\n",
    "syslog_name = ${multi_instance_name?{$multi_instance_name}:{pf}}/$mail_name\n",
    "mail_name = no newline at the end",
    "mail_name = caf\u{e9}\n",
    "queue_run_delay = 5m\nmaximal_backoff_time = ${queue_run_delay}\n",
    "# only\n   # comments\n",
];

#[test]
fn samples_have_postfix_s_values() {
    for text in SAMPLES {
        let folder = folder_with(text, "");
        let theirs = postconf(folder.path(), std::iter::once("-x").chain(known())).unwrap();
        let ours = MainCf::load(folder.path()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        for name in known() {
            let value = ours.get(name).map(|value| words(&value));
            assert_eq!(value.as_ref(), theirs.get(name), "{name} in {text:?}");
        }
    }
}

#[test]
fn overrides_have_postfix_s_values() {
    let folder = folder_with("mail_name = file\nalways_bcc = $mail_name/$config_directory\n", "");
    for assignment in
        ["mail_name=option", "mail_name = a = b", "mail_name=$mail_owner", "always_bcc=", "new=x"]
    {
        let theirs = postconf(folder.path(), ["-x", "-o", assignment, "always_bcc"]).unwrap();
        let mut ours = MainCf::load(folder.path()).unwrap();
        ours.override_with(assignment).unwrap();
        assert_eq!(words(&ours.get("always_bcc").unwrap()), theirs["always_bcc"], "{assignment}");
    }
}

#[test]
fn a_refused_configuration_is_refused_by_postfix() {
    let mut texts = Vec::new();
    for text in [
        "always_bcc\n",
        "= x\n",
        "always_bcc = ${\n",
        "always_bcc = $(x}\n",
        "always_bcc = $ x\n",
        "always_bcc = x$\n",
        "always_bcc = ${}\n",
        "always_bcc = ${a b}\n",
        "always_bcc = ${a-b}\n",
        "always_bcc = ${mail_owner?{a}b}\n",
        "always_bcc = ${{a} = {b}}\n",
        "always_bcc = ${{a} == b}\n",
        "always_bcc = ${{a} ==nosuch {b}}\n",
        "always_bcc = ${{x} <level {1}}\n",
        "always_bcc = ${{a} == {a} x}\n",
        "always_bcc = ${mail_owner?{a}:{b}c}\n",
        "always_bcc = $always_bcc\n",
    ] {
        assert!(MainCf::parse(text, Path::new("/etc/postfix"), "h").is_err(), "{text:?}");
        texts.push(text.to_owned());
    }
    assert_eq!(accepted_by_postconf(&texts), [""; 0]);
}

/// Returns the texts that postconf accepts as a `main.cf`. All texts are tried at once, because
/// postconf sleeps for a second when it refuses one.
fn accepted_by_postconf(texts: &[String]) -> Vec<&str> {
    let accepts = |text: &str| postconf(folder_with(text, "").path(), ["-x", "always_bcc"]).is_ok();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            texts.iter().map(|text| (text, scope.spawn(|| accepts(text)))).collect();
        let accepted = threads
            .into_iter()
            .filter_map(|(text, thread)| thread.join().unwrap().then_some(text.as_str()));
        accepted.collect()
    })
}

/// Free-text parameters in which expressions are tried.
const SLOTS: [&str; 8] = [
    "always_bcc",
    "body_checks",
    "content_filter",
    "header_checks",
    "non_smtpd_milters",
    "recipient_delimiter",
    "alternate_config_directories",
    "multi_instance_wrapper",
];

const SURROUNDINGS: &str = "set = x\nempty =\nref = $set\nhollow = $empty\nten = 10\nnine = 9\n";

/// Returns expressions, mostly well-formed ones.
fn expression() -> impl Strategy<Value = String> {
    let name =
        prop::sample::select(vec!["set", "empty", "ref", "hollow", "ten", "nine", "undefined", ""]);
    let blank = prop::sample::select(vec!["", "", " ", "\t"]);
    let leaf = prop_oneof![
        4 => "[a-z0-9 .:?=-]{0,6}",
        3 => name.clone().prop_map(|name| format!("${name}")),
        3 => name.clone().prop_map(|name| format!("${{{name}}}")),
        1 => Just("$$".to_owned()),
        1 => "[${}()?:<=> a]{1,4}",
    ];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        let operator = prop::sample::select(vec![
            "==", "!=", "<", "<=", ">=", ">", "==level", "<level", "=", "=~",
        ]);
        let blank = blank.clone();
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}{b}")),
            (name.clone(), inner.clone()).prop_map(|(n, a)| format!("${{{n}?{a}}}")),
            (name.clone(), inner.clone()).prop_map(|(n, a)| format!("$({n}:{a})")),
            (name.clone(), blank.clone(), inner.clone(), inner.clone())
                .prop_map(|(n, s, a, b)| format!("${{{s}{n}{s}?{s}{{{a}}}{s}:{s}{{{b}}}{s}}}")),
            (inner.clone(), operator, inner.clone(), blank, inner.clone(), inner).prop_map(
                |(l, o, r, s, a, b)| format!("${{{{{l}}}{s}{o}{s}{{{r}}}{s}?{{{a}}}:{{{b}}}}}")
            ),
        ]
    })
}

fn surroundings() -> MainCf {
    MainCf::parse(SURROUNDINGS, Path::new("/etc/postfix"), "h").unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_expanded_expression_has_postfix_s_value(
        expressions in prop::collection::vec(expression(), SLOTS.len()),
    ) {
        let main_cf = surroundings();
        let ours: Vec<_> = expressions
            .iter()
            .filter_map(|text| Some((text, main_cf.expand(text.trim()).ok()?)))
            .collect();
        let lines = ours.iter().zip(SLOTS).map(|((text, _), slot)| format!("{slot} = {text}\n"));
        let folder = folder_with(&(SURROUNDINGS.to_owned() + &lines.collect::<String>()), "");
        let theirs = postconf(folder.path(), std::iter::once("-x").chain(SLOTS)).unwrap();
        for ((text, value), slot) in ours.iter().zip(SLOTS) {
            prop_assert_eq!(&words(value), &theirs[slot], "{:?}", text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2))]

    #[test]
    fn an_expression_that_is_not_expanded_is_refused_by_postfix(
        expressions in prop::collection::vec(expression(), 300),
    ) {
        let main_cf = surroundings();
        let refused = expressions.iter().filter(|text| main_cf.expand(text.trim()).is_err());
        let texts: Vec<_> = refused.take(60).map(|text| format!("{SURROUNDINGS}always_bcc = \
            {text}\n")).collect();
        prop_assert_eq!(accepted_by_postconf(&texts), [""; 0]);
    }
}
