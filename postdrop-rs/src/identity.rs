//! Default sender: the caller's login name and full name.
//!
//! One look-up in the user database serves both names. `sendmail` makes no look-up when `-f` and
//! `-F` (or `NAME`) give both names. A local user is looked up in the local file alone, even if a
//! site overrides that name by another service. The name is only a default, and any user can
//! override it with `-f`. The right to submit is always checked with the name service.
//!
//! Source: Postfix `username(3)`, `fullname(3)`.

/// Entry of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Login name.
    pub name: Vec<u8>,
    /// Comment field, unchanged.
    pub gecos: Vec<u8>,
}

impl Login {
    /// Returns the entry of a user, or `None` if there is none or the name service can't answer.
    pub fn of(uid: u32) -> Option<Self> {
        let user = names::user_or_local(uid).ok().flatten()?;
        Some(Self { name: user.name, gecos: user.gecos })
    }

    /// Returns the full name: the comment up to the first `,`, `;` or `%`. Each `&` becomes the
    /// login name with a capital.
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
