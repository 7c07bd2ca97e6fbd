//! The sender's address as log lines show it.
//!
//! Postfix keeps addresses unquoted in memory, and quotes the local part in the mail that it sends.
//! `info_log_address_format` says which form the log shows. Source: `quote_822_local(3)`,
//! `info_log_addr_form(3)`.

/// Returns the address in the form that the log shows: quoted unless `internal`. Bytes that are not
/// UTF-8 become U+FFFD.
pub(crate) fn for_log(address: &[u8], internal: bool) -> String {
    let address = String::from_utf8_lossy(address);
    if address.is_empty() || internal { address.into_owned() } else { quoted(&address) }
}

fn quoted(address: &str) -> String {
    let (route, mailbox) = split_route(address);
    let (local, domain) = mailbox.split_at(mailbox.rfind('@').unwrap_or(mailbox.len()));
    if is_dot_string(local) {
        address.to_owned()
    } else {
        format!("{route}{}{domain}", quoted_string(local))
    }
}

/// Splits an address into its source route, `@a,@b:`, and the rest.
fn split_route(address: &str) -> (&str, &str) {
    match address.find(':') {
        Some(colon) if address.starts_with('@') => address.split_at(colon + 1),
        _ => ("", address),
    }
}

fn is_dot_string(local: &str) -> bool {
    let plain = |ch: char| !ch.is_ascii_control() && !" ()<>@,;:\\\"[]".contains(ch);
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(plain))
}

fn quoted_string(local: &str) -> String {
    let mut quoted = String::from('"');
    for ch in local.chars() {
        if matches!(ch, '"' | '\\' | '\r') {
            quoted.push('\\');
        }
        quoted.push(ch);
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_local_part_that_needs_quotes_gets_them() {
        for (address, expected) in [
            ("", ""),
            ("alice", "alice"),
            ("alice@example.org", "alice@example.org"),
            ("a.b+c@example.org", "a.b+c@example.org"),
            ("jörg@example.org", "jörg@example.org"),
            ("two words@example.org", "\"two words\"@example.org"),
            ("a..b@example.org", "\"a..b\"@example.org"),
            ("a.@example.org", "\"a.\"@example.org"),
            ("a@b@example.org", "\"a@b\"@example.org"),
            ("say \"hi\"\\@example.org", "\"say \\\"hi\\\"\\\\\"@example.org"),
            ("@example.org", "\"\"@example.org"),
            ("@relay:two words@example.org", "@relay:\"two words\"@example.org"),
        ] {
            assert_eq!(for_log(address.as_bytes(), false), expected);
            assert_eq!(for_log(address.as_bytes(), true), address);
        }
    }
}
