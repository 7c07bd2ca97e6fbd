//! The keyed hash at the end of every packet.
//!
//! The hash is SipHash-2-4 with 128 bits of output, under keys that BLAKE3 derives from the secret.
//! Long packets, which only a machine's own sockets carry, have 128 bits of keyed BLAKE3, which
//! takes 3.6 µs for 32 KiB, where SipHash takes 11. Each direction has its own keys, so that a
//! packet can't be reflected to its sender. Without a secret there is no hash. Only loopback and
//! Unix sockets may do without, since the kernel keeps packets whole there, and the machine keeps
//! strangers out.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use constant_time_eq::constant_time_eq_16;
use siphasher::sip128::SipHasher24;
use thiserror::Error;

/// Bytes of hash at the end of every packet.
pub(crate) const TAG_BYTES: usize = 16;
/// Least size of a key file, bytes.
const MIN_KEY_FILE_BYTES: usize = 32;
/// Limit of a key file, bytes; no secret is as long.
const MAX_KEY_FILE_BYTES: u64 = 64 << 10;
/// Permissions that a key file must not grant: any to others, and writing to its group.
const FORBIDDEN_MODE: u32 = 0o027;

/// Reason for which a key file isn't used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file can't be read.
    #[error("key file {path}: not read: {source}; make the file, or let this user read it")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other users may know the key, or set it.
    #[error(
        "key file {path}: not used: mode {mode:03o} lets others in; let at most the owner write \
            and the group read (640)"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The file's mode.
        mode: u32,
    },
    /// The file has too few bytes for a secret.
    #[error(
        "key file {path}: not used: {bytes} bytes are too short; write at least \
            {MIN_KEY_FILE_BYTES}"
    )]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Bytes in the file, without white space at its end.
        bytes: usize,
    },
    /// The file is too large for a key file.
    #[error(
        "key file {path}: not used: {MAX_KEY_FILE_BYTES} bytes or more are too long; write fewer"
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// The secret that only client and server know.
#[derive(Clone)]
pub struct Key(Option<Pair>);

#[derive(Clone, Copy)]
struct Pair {
    questions: Keys,
    answers: Keys,
}

/// Keys of one direction, for short packets and for long ones.
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

/// Length from which packets count as long: BLAKE3 is faster from here.
const LONG_BYTES: usize = 8 << 10;

impl Key {
    /// Derives a key from secret bytes of any length.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        let questions = derive(QUESTIONS, secret);
        let answers = derive(ANSWERS, secret);
        Self(Some(Pair { questions, answers }))
    }

    /// Returns the key that stands for no secret: packets carry no hash.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Reads the secret from a file; white space at its end doesn't count. Only the file's owner
    /// and its group may be able to read the file.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Io { path: path.to_owned(), source };
        let file = host::file::open_of_any_mode(path).map_err(failed)?;
        // The mode must be that of the opened file: its name may lead to another file now.
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

    /// Returns whether the key keeps strangers out.
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

/// The keys of one direction.
#[derive(Clone, Copy)]
pub(crate) struct Seal(Option<Keys>);

impl Seal {
    /// Appends the hash of the packet so far.
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
