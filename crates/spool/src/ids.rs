//! Names of messages, lots, epochs, nodes and agents.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A text that is no valid name. The caller must correct the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {text:?}: {rule}", in_words(.what))]
pub struct IdError {
    text: String,
    what: &'static str,
    rule: &'static str,
}

impl IdError {
    fn new(text: &str, what: &'static str, rule: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), what, rule }
    }
}

/// Returns a type's name as words: `MessageId` becomes `message id`.
fn in_words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const TEXT_BYTES: usize = 26;
const RANDOM_BITS: u32 = 80;

/// Asks the kernel for random bytes, without a file or a library's help.
///
/// The crate getrandom looks for the C library's function with dlsym(3). A static program finds no
/// such function, and would need `/dev/urandom`, which chroots and small containers lack. The crate
/// is the fallback for kernels that refuse the system call.
fn fill_with_random_bytes(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    match rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(count) if count == bytes.len() => Ok(()),
        // The kernel fills up to 256 bytes whole (getrandom(2)).
        Ok(_) | Err(_) => getrandom::fill(bytes),
    }
}

/// A [ULID](https://github.com/ulid/spec): 48 bits of Unix milliseconds and 80 random bits, so that
/// names need no coordination and sort by age.
macro_rules! ulid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u128);

        impl $name {
            /// Makes a new name. Fails only if the kernel gives no random bytes.
            pub fn new() -> Result<Self, getrandom::Error> {
                let mut random = [0; 16];
                fill_with_random_bytes(&mut random[6..])?;
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Ok(Self::from_parts(since_epoch.as_millis() as u64, u128::from_be_bytes(random)))
            }

            /// Makes a name of the lowest 48 bits of `unix_ms` and the lowest 80 of `random`.
            pub fn from_parts(unix_ms: u64, random: u128) -> Self {
                Self(u128::from(unix_ms) << RANDOM_BITS | random & ((1 << RANDOM_BITS) - 1))
            }

            /// Returns the time at which the name was made, Unix milliseconds by the making
            /// machine's clock.
            pub fn unix_ms(self) -> u64 {
                (self.0 >> RANDOM_BITS) as u64
            }

            /// Returns the random bits.
            pub fn random_bits(self) -> u128 {
                self.0 & ((1 << RANDOM_BITS) - 1)
            }

            /// Returns the text as bytes, without allocating.
            pub fn to_text(self) -> [u8; TEXT_BYTES] {
                std::array::from_fn(|i| {
                    ALPHABET[(self.0 >> (5 * (TEXT_BYTES - 1 - i)) & 31) as usize]
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(std::str::from_utf8(&self.to_text()).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let wrong = || IdError::new(text, stringify!($name), "must be a ULID, 26 \
                    characters in upper case");
                ulid_from_text(text).map(Self).ok_or_else(wrong)
            }
        }

        text_conversions!($name, |id: $name| id.to_string());
    };
}

/// Implements the conversions by which serde writes a name as a string.
macro_rules! text_conversions {
    ($name:ident, $into:expr) => {
        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                $into(name)
            }
        }
    };
}

fn ulid_from_text(text: &str) -> Option<u128> {
    // 26 characters hold 130 bits: the first may use only three of its five.
    if text.len() != TEXT_BYTES || text.as_bytes()[0] > b'7' {
        return None;
    }
    text.bytes().try_fold(0, |value, byte| {
        let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
        Some(value << 5 | digit as u128)
    })
}

ulid! {
    /// One submitted message, named once by the program that submits it.
    ///
    /// The text is 26 characters of Crockford's base 32 in upper case, and no other spelling is
    /// accepted. The text is a key in Redis and an attribute in queue files, where two spellings
    /// would be two messages.
    MessageId
}
ulid! {
    /// Generation of an agent's process, named at its start. A later generation takes an earlier
    /// one's place. The type also serves as the nonce of a queue directory, which tells a copy from
    /// its original.
    Generation
}
ulid! {
    /// Identity of one spool: of all mail that one Redis has kept since its first use. Redis keeps
    /// the identity.
    SpoolId
}

impl Generation {
    /// The absence of a generation: no process of OPTIMUS was started in 1970.
    pub const NONE: Self = Self(0);

    /// Returns a new name that sorts after `last`, even if the clock was set back.
    pub fn new_after(last: Self) -> Result<Self, getrandom::Error> {
        let new = Self::new()?;
        Ok(if new > last { new } else { Self::from_parts(last.unix_ms() + 1, new.random_bits()) })
    }
}

/// Defines the type of a number in Redis: of lots, tenures, starts or commits.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug,
            Clone,
            Copy,
            Default,
            PartialEq,
            Eq,
            PartialOrd,
            Ord,
            Hash,
            Serialize,
            Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let wrong = |_| IdError::new(text, stringify!($name), "must be a whole number");
                text.parse().map(Self).map_err(wrong)
            }
        }
    };
}

number! {
    /// Number of a lot, which is a group of messages that move together. Counted from 1; never used
    /// again.
    LotNumber
}
number! {
    /// Rank of an agent's start among all starts: Redis gives each number out once, above all
    /// earlier ones. The rank orders the agents of a kind, and fences the earlier of two Mail
    /// Agents of one node.
    Start
}
number! {
    /// Number of a lot's tenure, counted from 1 and one higher whenever the lot is taken from a
    /// node. Redis refuses a commit under an old epoch.
    Epoch
}

number! {
    /// Number of a node's commit, counted from 1; 0 stands for none. All commits up to the node's
    /// mark are released.
    CommitNumber
}

/// Defines the type of a name that an administrator chooses, of characters that keys and records
/// can hold.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let rule = "must be 1 to 64 letters, digits, dots, dashes or underscores";
                match is_name(text) {
                    true => Ok(Self(text.to_owned())),
                    false => Err(IdError::new(text, stringify!($name), rule)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        text_conversions!($name, |name: $name| name.0);
    };
}

/// Length limit: enough for a ULID, a UUID or a host name's first label, and short in every key.
const NAME_MAX_BYTES: usize = 64;

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=NAME_MAX_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

name! {
    /// Name of a node, which is one Postfix with its pickup-rs and its Mail Agent. The name lasts
    /// as long as the Postfix instance's queue.
    NodeId
}
name! {
    /// Name of an agent. A Mail Agent has its node's name.
    AgentId
}

/// A destination: the domain of a recipient's address, in lower case.
///
/// Recipients without a domain name or an address literal, such as local users, count together as
/// [`Domain::others`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

/// The longest domain name (RFC 1035, section 2.3.4).
const DOMAIN_MAX_BYTES: usize = 253;
const OTHERS: &str = "*";

impl Domain {
    /// Returns the destination of an address, as it was submitted.
    pub fn of(recipient: &[u8]) -> Self {
        let domain =
            recipient.rsplit(|&byte| byte == b'@').next().filter(|it| it.len() < recipient.len());
        let text = domain.and_then(|it| std::str::from_utf8(it).ok()).unwrap_or_default();
        text.to_ascii_lowercase().parse().unwrap_or_else(|_| Self::others())
    }

    /// Returns the destination that stands for all recipients without a domain.
    pub fn others() -> Self {
        Self(OTHERS.to_owned())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'.' | b'-' | b'_' | b'[' | b']' | b':')
        };
        let is_domain = (1..=DOMAIN_MAX_BYTES).contains(&text.len()) && text.bytes().all(allowed);
        match is_domain || text == OTHERS {
            true => Ok(Self(text.to_owned())),
            false => Err(IdError::new(text, "Domain", "must be a domain name in lower case, or *")),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

text_conversions!(Domain, |domain: Domain| domain.0);

impl From<NodeId> for AgentId {
    fn from(node: NodeId) -> Self {
        Self(node.0)
    }
}

impl From<AgentId> for NodeId {
    fn from(agent: AgentId) -> Self {
        Self(agent.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_is_the_ulid_specification_s() {
        // 01ARZ3NDEKTSV4RRFFQ69G5FAV is the specification's own example; its time is 1469922850259.
        let id: MessageId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        assert_eq!(id.unix_ms(), 1_469_922_850_259);
        assert_eq!(id.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    }

    #[test]
    fn other_spellings_are_other_names_and_refused() {
        for text in [
            "",
            "01arz3ndektsv4rrffq69g5fav",
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
            "01ARZ3NDEKTSV4RRFFQ69G5FAVV",
            "81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01ARZ3NDEKTSV4RRFFQ69G5FAI",
            "01ARZ3NDEKTSV4RRFFQ69G5FÄ",
        ] {
            assert!(text.parse::<MessageId>().is_err(), "{text}");
        }
    }

    #[test]
    fn new_names_differ_and_carry_the_time() {
        let (one, other) = (MessageId::new().unwrap(), MessageId::new().unwrap());
        assert_ne!(one, other);
        assert!(one.unix_ms() > 1_700_000_000_000);
    }

    #[test]
    fn node_names_stay_out_of_key_and_record_syntax() {
        assert!("mx-1.example_org".parse::<NodeId>().is_ok());
        for text in ["", "a b", "a:b", "{a}", "ä", &"x".repeat(65)] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_destination_is_a_domain_in_lower_case_or_one_of_the_others() {
        for (recipient, domain) in [
            ("a@Example.ORG", "example.org"),
            ("\"a@b\"@example.org", "example.org"),
            ("a@[192.0.2.1]", "[192.0.2.1]"),
            ("root", "*"),
            ("a@", "*"),
            ("a@b c", "*"),
            ("a@ex{0}:ample", "*"),
            ("", "*"),
        ] {
            let found = Domain::of(recipient.as_bytes());
            assert_eq!(found.as_str(), domain, "{recipient}");
            assert_eq!(found.to_string().parse(), Ok(found));
        }
        assert_eq!(Domain::of(format!("a@{}", "x".repeat(254)).as_bytes()), Domain::others());
        assert_eq!(Domain::of(b"a@\xff"), Domain::others());
    }

    proptest! {
        #[test]
        fn text_and_value_are_one_to_one(value: u128) {
            let id = MessageId(value);
            prop_assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        }

        #[test]
        fn names_sort_by_age_as_text_too(a: u128, b: u128) {
            let (a, b) = (MessageId(a), MessageId(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}
