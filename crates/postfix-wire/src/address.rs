//! Addresses outside of headers, in Postfix's form.

/// Returns the address with its local part quoted where RFC 822 requires quotes. A source route
/// before the local part stays unchanged.
///
/// Source: `quote_822_local(3)`.
pub fn externalize(address: &[u8]) -> Vec<u8> {
    let is_routed = address.first() == Some(&b'@');
    let colon = address.iter().position(|&byte| is_routed && byte == b':');
    let (route, mailbox) = address.split_at(colon.map_or(0, |colon| colon + 1));
    let end = mailbox.iter().rposition(|&byte| byte == b'@').unwrap_or(mailbox.len());
    let (local, domain) = mailbox.split_at(end);
    let local = if is_dot_string(local) { local.to_vec() } else { quoted(local) };
    [route, &local, domain].concat()
}

/// Returns whether a local part is atoms between single dots.
fn is_dot_string(local: &[u8]) -> bool {
    let is_atom_text = |byte: &u8| !byte.is_ascii_control() && !b" ()<>@,;:\\\"[]".contains(byte);
    local.split(|&byte| byte == b'.').all(|atom| !atom.is_empty() && atom.iter().all(is_atom_text))
}

fn quoted(local: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &byte in local {
        if matches!(byte, b'"' | b'\\' | b'\r') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
    out
}
