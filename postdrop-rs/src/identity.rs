//! The sender when nobody names one: login name and full name.
//!
//! One look into the user database serves both, and none is made when `-f` and `-F` (or `NAME`) say
//! it all. The local file is enough for who is in it. A site that overrides a local user's name by
//! another service gets the local one, as a default that any user can override with `-f`; who *may*
//! submit is asked of the name service, always.
//!
//! Source: Postfix `username(3)`, `fullname(3)`.

/// An entry of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The login name.
    pub name: Vec<u8>,
    /// The comment field, as it is there.
    pub gecos: Vec<u8>,
}

impl Login {
    /// The entry of a user, if there is one. A name service that can't answer knows none.
    pub fn of(uid: u32) -> Option<Self> {
        let user = names::user_or_local(uid).ok().flatten()?;
        Some(Self { name: user.name, gecos: user.gecos })
    }

    /// The full name: the comment up to the first `,`, `;` or `%`, each `&` the login name with a
    /// capital.
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
