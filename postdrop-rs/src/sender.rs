//! Senders' addresses that a local user may use: `local_login_sender_maps`.
//!
//! The tables are searched for the login name (`uid:1000` if there is none). An entry is a list of
//! patterns, one of which must match the sender:
//!
//! | pattern | matches |
//! |---|---|
//! | `*` | any sender |
//! | `<>`, or the value of `empty_address_local_login_sender_maps_lookup_key` | the empty sender |
//! | `@domain` | any sender in that domain |
//! | other | that sender, its extension (`recipient_delimiter`) taken off and its local part quoted |
//!
//! All comparisons ignore case. A user without an entry may use no sender. A table that can't
//! answer is a temporary failure.
//!
//! Source: Postfix `login_sender_match(3)`, `split_addr(3)`, `quote_822_local(3)`, `postconf(5)`.

use std::cell::RefCell;

use postfix_wire::CleanupStatus;

use crate::filter::MessageRefusal;
use crate::instance::Instance;
use crate::list::items;
use crate::log::{Log, Severity};
use crate::policy::login_name;
use crate::table::{Folding, Tables};

/// Name of the parameter.
const NAME: &str = "local_login_sender_maps";
/// Default of the parameter: every user may use every sender.
const ANY: &str = "static:*";

/// Addresses that one user may use.
#[derive(Debug)]
pub struct Senders<'a> {
    tables: Tables<'a>,
    uid: u32,
    maps: String,
    /// Answer of the tables; the outer `None` until they were asked, the inner one if they have no
    /// entry.
    patterns: RefCell<Option<Option<String>>>,
}

impl<'a> Senders<'a> {
    /// Returns the addresses of this user, before any table is asked.
    pub fn of(uid: u32, instance: &'a Instance, log: &'a Log) -> Self {
        let maps = instance.text(NAME);
        Self { tables: Tables { instance, log }, uid, maps, patterns: RefCell::new(None) }
    }

    /// Checks that the user may use this sender, which is given unquoted. The tables are asked
    /// once.
    pub fn check(&self, sender: &[u8]) -> Result<(), MessageRefusal> {
        if self.maps == ANY {
            return Ok(());
        }
        let patterns = self.patterns()?;
        let sender = String::from_utf8_lossy(sender);
        let forms = Forms::of(&sender, self.tables.instance);
        if patterns
            .is_some_and(|patterns| items_between_quotes(&patterns).any(|p| forms.match_pattern(p)))
        {
            return Ok(());
        }
        let reason = format!("not authorized to use sender='{sender}'");
        Err(MessageRefusal { status: CleanupStatus::NOPERM, reason })
    }

    fn patterns(&self) -> Result<Option<String>, MessageRefusal> {
        if let Some(patterns) = &*self.patterns.borrow() {
            return Ok(patterns.clone());
        }
        let patterns = self.look_up()?;
        self.patterns.replace(Some(patterns.clone()));
        Ok(patterns)
    }

    fn look_up(&self) -> Result<Option<String>, MessageRefusal> {
        let error = || MessageRefusal {
            status: CleanupStatus::WRITE,
            reason: format!("{NAME} table lookup error for '{}'", self.maps),
        };
        let name = login_name(self.uid).map_err(|_| error())?;
        let key = name.unwrap_or_else(|| format!("uid:{}", self.uid));
        for table in items(&self.maps) {
            match self.tables.lookup(table, &key, Folding::ByTable) {
                Ok(None) => {}
                Ok(Some(empty)) if empty.is_empty() => {
                    self.warn(&format!("{NAME} lookup of {key} returns an empty string result"));
                    self.warn(&format!("{NAME} should return NO RESULT in case of NOT FOUND"));
                    return Err(error());
                }
                Ok(found) => return Ok(found),
                Err(unanswered) => {
                    unanswered.unopened.iter().for_each(|why| self.warn(why));
                    self.warn(&format!("{table} lookup error for \"{key}\""));
                    return Err(error());
                }
            }
        }
        Ok(None)
    }

    fn warn(&self, words: &str) {
        self.tables.log.say(Severity::Warning, words);
    }
}

/// A sender in the forms that patterns are compared with.
struct Forms<'a> {
    sender: &'a str,
    /// Address as it would stand in a header, without extension.
    external: String,
    empty_pattern: String,
}

impl<'a> Forms<'a> {
    fn of(sender: &'a str, instance: &Instance) -> Self {
        let external = externalize(&without_extension(sender, instance));
        let empty_pattern = instance.text("empty_address_local_login_sender_maps_lookup_key");
        Self { sender, external, empty_pattern }
    }

    fn match_pattern(&self, pattern: &str) -> bool {
        if pattern.starts_with('@') {
            let domain = self.sender.rfind('@').map(|at| &self.sender[at..]);
            return domain.is_some_and(|domain| is_same(pattern, domain));
        }
        if pattern == "*" {
            return true;
        }
        if pattern.eq_ignore_ascii_case(&self.empty_pattern) {
            return self.sender.is_empty();
        }
        is_same(pattern, &self.external)
    }
}

fn is_same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// Returns `ann@example.org` for `ann+lists@example.org`.
fn without_extension(sender: &str, instance: &Instance) -> String {
    let (local, domain) = sender.rfind('@').map_or((sender, ""), |at| sender.split_at(at));
    let delimiters = instance.text("recipient_delimiter");
    match local.find(|ch| delimiters.contains(ch)) {
        None | Some(0) => sender.to_owned(),
        Some(_) if is_whole(local, &delimiters, instance) => sender.to_owned(),
        Some(at) => format!("{}{domain}", &local[..at]),
    }
}

/// Returns whether a local part has no extension, even if it has the delimiter.
fn is_whole(local: &str, delimiters: &str, instance: &Instance) -> bool {
    let special = ["postmaster", "mailer-daemon", &instance.text("double_bounce_sender")];
    if special.iter().any(|special| is_same(special, local)) {
        return true;
    }
    let local = local.to_ascii_lowercase();
    let is_list = local.starts_with("owner-")
        || local.strip_suffix("-request").is_some_and(|l| !l.is_empty());
    delimiters.contains('-')
        && is_list
        && !instance.text("owner_request_special").eq_ignore_ascii_case("no")
}

/// Returns the address with its local part quoted, if that is necessary.
fn externalize(address: &str) -> String {
    String::from_utf8_lossy(&postfix_wire::address::externalize(address.as_bytes())).into_owned()
}

/// Returns the items of a list in which double quotes and backslashes protect separators.
fn items_between_quotes(list: &str) -> impl Iterator<Item = &str> {
    let (mut in_quotes, mut is_escaped) = (false, false);
    list.split(move |ch| {
        if std::mem::take(&mut is_escaped) {
            return false;
        }
        is_escaped = ch == '\\';
        in_quotes ^= ch == '"';
        !in_quotes && matches!(ch, ',' | ' ' | '\t' | '\r' | '\n')
    })
    .filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use postfix_wire::main_cf::MainCf;

    use super::*;

    fn is_permitted(patterns: &str, sender: &str, main_cf: &str) -> bool {
        let config_directory = Path::new("/nonexistent");
        let main_cf = MainCf::parse(main_cf, config_directory, "x").unwrap();
        let instance = Instance { config_directory: config_directory.to_owned(), main_cf };
        let forms = Forms::of(sender, &instance);
        items_between_quotes(patterns).any(|pattern| forms.match_pattern(pattern))
    }

    #[test]
    fn a_pattern_is_a_sender_a_domain_or_a_sign() {
        assert!(is_permitted("ann@x, Bob@Y", "bob@y", ""));
        assert!(is_permitted("@x", "a@b@X", ""));
        assert!(is_permitted("*", "", ""));
        assert!(is_permitted("a <>", "", ""));
        assert!(!is_permitted("<>", "a", ""));
        assert!(!is_permitted("@x", "x", ""));
        assert!(!is_permitted("", "", ""));
        assert!(is_permitted(
            "none",
            "",
            "empty_address_local_login_sender_maps_lookup_key = none\n"
        ));
        assert!(is_permitted("\u{c4}@x", "\u{e4}@x", ""));
    }

    #[test]
    fn patterns_ignore_the_extension_and_match_the_quoted_local_part() {
        let plus = "recipient_delimiter = +-\n";
        assert!(is_permitted("ann@x", "ann+y-z@x", plus));
        assert!(!is_permitted("ann@x", "ann+y@x", ""));
        assert!(
            !is_permitted("owner", "owner-list", plus)
                && is_permitted("owner-list", "owner-list", plus)
        );
        assert!(is_permitted("a-request@x", "a-request@x", plus));
        assert!(is_permitted("double-bounce", "Double-Bounce", plus));
        assert!(is_permitted("+x@y", "+x@y", plus));
        assert!(is_permitted("\"a b\"@x,c", "a b@x", ""));
        assert!(is_permitted("\"a\\\"\"@x", "a\"@x", ""));
        assert_eq!(externalize("@r:a..b@x"), "@r:\"a..b\"@x");
    }
}
