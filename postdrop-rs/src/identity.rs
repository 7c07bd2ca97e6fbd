//! Who the sender is when nobody says: login name and full name.
//!
//! One look into the user database serves both, and none is made when `-f` and `-F` (or `NAME`) say it all. `/etc/passwd`
//! is read here; only for users who aren't in it is glibc's name service asked, because to set that up costs as much as
//! the rest of a submission's own work. A site that overrides a local user's name by another service gets the local
//! one, as a default that any user can override with `-f`; who *may* submit is asked of the name service, always.
//!
//! Source: Postfix `username(3)`, `fullname(3)`.

use nix::unistd::{Uid, User};

/// Where local users are.
const PASSWD: &str = "/etc/passwd";

/// An entry of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The login name.
    pub name: Vec<u8>,
    /// The comment field, as it is there.
    pub gecos: Vec<u8>,
}

impl Login {
    /// The entry of a user, if there is one.
    pub fn of(uid: u32) -> Option<Self> {
        let passwd = std::fs::read(PASSWD).unwrap_or_default();
        Self::in_passwd(&passwd, uid).or_else(|| Self::from_name_service(uid))
    }

    /// `name:password:uid:gid:comment:…`
    fn in_passwd(passwd: &[u8], uid: u32) -> Option<Self> {
        let uid = uid.to_string();
        passwd.split(|&byte| byte == b'\n').find_map(|line| {
            let mut fields = line.split(|&byte| byte == b':');
            // `+` and `-` are not users but NIS.
            let name =
                fields.next().filter(|name| !matches!(name.first(), None | Some(b'+' | b'-' | b'#')))?;
            (fields.nth(1)? == uid.as_bytes()).then_some(())?;
            Some(Self { name: name.to_vec(), gecos: fields.nth(1)?.to_vec() })
        })
    }

    fn from_name_service(uid: u32) -> Option<Self> {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
        Some(Self { name: user.name.into_bytes(), gecos: user.gecos.into_bytes() })
    }

    /// The full name: the comment up to the first `,`, `;` or `%`, each `&` the login name with a capital.
    pub fn full_name(&self) -> Vec<u8> {
        let mut full_name = Vec::new();
        for &byte in self.gecos.iter().take_while(|byte| !matches!(byte, b',' | b';' | b'%')) {
            match (byte, self.name.split_first()) {
                (b'&', Some((first, rest))) => {
                    full_name.push(first.to_ascii_uppercase());
                    full_name.extend_from_slice(rest);
                }
                (b'&', None) => {}
                _ => full_name.push(byte),
            }
        }
        full_name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_and_the_name_service_agree_on_local_users() {
        let passwd = std::fs::read(PASSWD).unwrap();
        for uid in [0, 1, 65534] {
            let local = Login::in_passwd(&passwd, uid);
            assert!(local.is_some());
            assert_eq!(local, Login::from_name_service(uid));
        }
        assert_eq!(Login::of(u32::MAX - 7), None);
    }

    #[test]
    fn lines_that_are_no_users_are_passed_over() {
        let passwd =
            b"#x:x:7:7:no:/:/\n+nis:x:7:7:no:/:/\n\nshort:x\nann:x:17:7:no:/:/\nbob:x:7:8:Bob B:/:/\n";
        let login = Login::in_passwd(passwd, 7).unwrap();
        assert_eq!((&login.name[..], &login.gecos[..]), (&b"bob"[..], &b"Bob B"[..]));
        assert_eq!(Login::in_passwd(passwd, 8), None);
    }

    #[test]
    fn the_full_name_is_the_first_part_of_the_comment() {
        let full_name = |gecos: &str| {
            let login = Login { name: b"ann".to_vec(), gecos: gecos.into() };
            String::from_utf8(login.full_name()).unwrap()
        };
        assert_eq!(full_name("Ann B,Room 1,555"), "Ann B");
        assert_eq!(full_name("& of & Co;x"), "Ann of Ann Co");
        assert_eq!(full_name(""), "");
    }
}
