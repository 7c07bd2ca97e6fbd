//! The keyed hash that every packet ends with.
//!
//! SipHash-2-4 with 128 bits of output, under keys that BLAKE3 derives from the secret; for long
//! packets, which only a machine's own sockets carry, 128 bits of keyed BLAKE3, which hashes many
//! pieces at once: 3.6 µs for 32 KiB, where SipHash takes 11. Each direction has a key of its own,
//! so that a packet can't be reflected at its sender. Without a secret there is no hash at all,
//! which is why that is allowed on loopback and Unix sockets alone: there the kernel keeps packets
//! whole, and the machine keeps others out.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use constant_time_eq::constant_time_eq_16;
use siphasher::sip128::SipHasher24;
use thiserror::Error;

/// Bytes of hash at the end of every packet.
pub(crate) const TAG_BYTES: usize = 16;
/// Shorter key files are refused.
const MIN_KEY_FILE_BYTES: usize = 32;
/// No secret is as long as this.
const MAX_KEY_FILE_BYTES: u64 = 64 << 10;
/// Rights that nobody may have to a key file: others anything, its group write.
const FORBIDDEN_MODE: u32 = 0o027;

/// A key file isn't used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file can't be read.
    #[error("key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Others may know the key, or set it.
    #[error(
        "key file {path}: its mode {mode:03o} lets others in; at most its owner may write and its \
            group read it (640)"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The file's mode.
        mode: u32,
    },
    /// Too little to be a secret.
    #[error("key file {path}: {bytes} bytes, where at least {MIN_KEY_FILE_BYTES} are needed")]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Bytes in the file, without white space at its end.
        bytes: usize,
    },
    /// Not a key file by its size.
    #[error("key file {path}: {MAX_KEY_FILE_BYTES} bytes or more, too long for a key")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// The secret that client and server share, and nobody else knows.
#[derive(Clone)]
pub struct Key(Option<Pair>);

#[derive(Clone, Copy)]
struct Pair {
    questions: Keys,
    answers: Keys,
}

/// Keys of one direction: for short packets, and for long ones.
#[derive(Clone, Copy)]
struct Keys {
    short: [u8; 16],
    long: [u8; 32],
}

/// The purposes for which the keys of a direction are derived.
const QUESTIONS: [&str; 2] =
    ["OPTIMUS rpc 1: client to server", "OPTIMUS rpc 1: client to server, long packets"];
const ANSWERS: [&str; 2] =
    ["OPTIMUS rpc 1: server to client", "OPTIMUS rpc 1: server to client, long packets"];

/// Packets from this length on are long: where BLAKE3 begins to be faster.
const LONG_BYTES: usize = 8 << 10;

impl Key {
    /// From secret bytes of any length.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        let questions = derive(QUESTIONS, secret);
        let answers = derive(ANSWERS, secret);
        Self(Some(Pair { questions, answers }))
    }

    /// The key of those who have none: packets carry no hash.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// From a file, all of which is the secret except white space at its end. Its group may read
    /// it, nobody else.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Io { path: path.to_owned(), source };
        let file = host::file::open_of_any_mode(path).map_err(failed)?;
        // Of the file that was opened, whatever the name leads to now.
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
        if mode & FORBIDDEN_MODE != 0 {
            return Err(KeyError::Open { path: path.to_owned(), mode });
        }
        let mut content = Vec::new();
        file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut content).map_err(failed)?;
        if content.len() as u64 == MAX_KEY_FILE_BYTES {
            return Err(KeyError::TooLong { path: path.to_owned() });
        }
        let secret = content.trim_ascii_end();
        if secret.len() < MIN_KEY_FILE_BYTES {
            return Err(KeyError::TooShort { path: path.to_owned(), bytes: secret.len() });
        }
        Ok(Self::from_secret(secret))
    }

    /// Whether it keeps others out.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn questions(&self) -> Seal {
        Seal(self.0.map(|pair| pair.questions))
    }

    pub(crate) fn answers(&self) -> Seal {
        Seal(self.0.map(|pair| pair.answers))
    }
}

fn derive([short, long]: [&str; 2], secret: &[u8]) -> Keys {
    let short = blake3::derive_key(short, secret).first_chunk().copied().unwrap_or_default();
    Keys { short, long: blake3::derive_key(long, secret) }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_secret() { "Key(secret)" } else { "Key(none)" })
    }
}

/// The key of one direction.
#[derive(Clone, Copy)]
pub(crate) struct Seal(Option<Keys>);

impl Seal {
    /// Appends the hash of what is there.
    pub(crate) fn close(self, packet: &mut Vec<u8>) {
        if let Some(keys) = &self.0 {
            let tag = tag(keys, packet);
            packet.extend_from_slice(&tag);
        }
    }

    /// Returns the bytes that the hash covers, if it is right.
    pub(crate) fn open(self, packet: &[u8]) -> Option<&[u8]> {
        let Some(keys) = &self.0 else { return Some(packet) };
        let (content, found) = packet.split_last_chunk::<TAG_BYTES>()?;
        constant_time_eq_16(&tag(keys, content), found).then_some(content)
    }
}

fn tag(keys: &Keys, content: &[u8]) -> [u8; TAG_BYTES] {
    if content.len() < LONG_BYTES {
        SipHasher24::new_with_key(&keys.short).hash(content).as_bytes()
    } else {
        blake3::keyed_hash(&keys.long, content)
            .as_bytes()
            .first_chunk()
            .copied()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_changed_bit_is_found_and_directions_differ() {
        let key = Key::from_secret(b"secret");
        let mut packet = b"content".to_vec();
        key.questions().close(&mut packet);
        assert_eq!(key.questions().open(&packet), Some(&b"content"[..]));
        assert_eq!(key.answers().open(&packet), None);
        for bit in 0..packet.len() * 8 {
            let mut changed = packet.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.questions().open(&changed), None, "bit {bit}");
        }
    }

    #[test]
    fn a_changed_bit_is_found_in_packets_of_both_lengths() {
        let key = Key::from_secret(b"secret");
        for length in [LONG_BYTES - 1, LONG_BYTES, 4 * LONG_BYTES] {
            let mut packet = vec![7; length];
            key.questions().close(&mut packet);
            assert_eq!(packet.len(), length + TAG_BYTES);
            assert_eq!(key.questions().open(&packet), Some(&vec![7; length][..]));
            assert_eq!(key.answers().open(&packet), None);
            for at in [0, length / 2, length - 1, length, length + TAG_BYTES - 1] {
                let mut changed = packet.clone();
                changed[at] ^= 1;
                assert_eq!(key.questions().open(&changed), None, "byte {at} of {length}");
            }
        }
    }

    #[test]
    fn a_key_file_that_is_missing_or_short_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rpc.key");
        assert!(Key::from_file(&path).unwrap_err().to_string().contains("rpc.key"));
        write(&path, b"short\n", 0o600);
        assert!(Key::from_file(&path).unwrap_err().to_string().contains("5 bytes"));
        write(&path, &[b'k'; 32], 0o600);
        assert!(Key::from_file(&path).unwrap().is_secret());
    }

    #[test]
    fn a_key_file_that_others_can_get_at_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rpc.key");
        for mode in [0o600, 0o400, 0o640, 0o440] {
            write(&path, &[b'k'; 32], mode);
            assert!(Key::from_file(&path).is_ok(), "{mode:o}");
        }
        for mode in [0o644, 0o604, 0o602, 0o660, 0o601] {
            write(&path, &[b'k'; 32], mode);
            let error = Key::from_file(&path).unwrap_err();
            assert!(matches!(error, KeyError::Open { .. }), "{mode:o}");
            assert!(error.to_string().contains(&format!("{mode:o}")), "{error}");
        }
    }

    fn write(path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}
