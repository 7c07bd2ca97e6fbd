//! Choice of the hand-off that a site needs.
//!
//! In the two-phase hand-off, cleanup puts every message on hold. Two phases fail where the site's
//! own rules put mail on hold too, because cleanup doesn't say which rule did. Header and body
//! checks are such rules, and Milters (`cleanup_message.c`, `cleanup_milter.c`). Where they apply
//! to mail from OPTIMUS, messages are handed over directly. See `docs/decisions/0004-*`.

use handoff::protocol::Handoff;
use postfix_wire::{CleanupFlags, MainCf};

/// Parameters that can put mail on hold, each with the flag without which cleanup ignores it.
const CONTENT_RULES: [(&str, CleanupFlags); 5] = [
    ("header_checks", CleanupFlags::FILTER),
    ("mime_header_checks", CleanupFlags::FILTER),
    ("nested_header_checks", CleanupFlags::FILTER),
    ("body_checks", CleanupFlags::FILTER),
    ("non_smtpd_milters", CleanupFlags::MILTER),
];

/// Returns the content rules that apply to mail fed with `flags`, in cleanup's configuration.
pub(crate) fn content_rules(cleanup: &MainCf, flags: CleanupFlags) -> Vec<&'static str> {
    let is_set = |name| cleanup.get(name).is_some_and(|value| !value.trim().is_empty());
    let applies =
        |&&(name, flag): &&(&'static str, CleanupFlags)| flags.contains(flag) && is_set(name);
    CONTENT_RULES.iter().filter(applies).map(|(name, _)| *name).collect()
}

/// Returns the hand-off for a site with these content rules.
pub(crate) fn choose(content_rules: &[&str]) -> Handoff {
    if content_rules.is_empty() { Handoff::Hold } else { Handoff::Direct }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn rules(main_cf: &str, flags: CleanupFlags) -> Vec<&'static str> {
        content_rules(&MainCf::parse(main_cf, Path::new("/etc/postfix"), "host").unwrap(), flags)
    }

    const ALL: CleanupFlags = CleanupFlags::EXTERNAL;

    #[test]
    fn without_content_rules_only_pickup_rs_holds_mail() {
        for main_cf in
            ["", "header_checks =", "smtpd_milters = inet:x", "milter_header_checks = pcre:/x"]
        {
            assert_eq!(choose(&rules(main_cf, ALL)), Handoff::Hold, "{main_cf}");
        }
    }

    #[test]
    fn each_content_rule_needs_the_direct_hand_off() {
        for name in
            ["mime_header_checks", "nested_header_checks", "body_checks", "non_smtpd_milters"]
        {
            assert_eq!(rules(&format!("{name} = $x\nx = regexp:/y"), ALL), [name]);
        }
        // The default of the other two parameters is `$header_checks`.
        let all_three = ["header_checks", "mime_header_checks", "nested_header_checks"];
        assert_eq!(rules("header_checks = regexp:/x", ALL), all_three);
        assert_eq!(choose(&all_three), Handoff::Direct);
    }

    #[test]
    fn rules_that_are_switched_off_for_local_mail_do_not_count() {
        let main_cf = "header_checks = regexp:/x\nnon_smtpd_milters = inet:y";
        assert_eq!(rules(main_cf, ALL.without(CleanupFlags::FILTER)), ["non_smtpd_milters"]);
        assert_eq!(
            rules(main_cf, ALL.without(CleanupFlags::FILTER | CleanupFlags::MILTER)),
            [""; 0]
        );
    }
}
