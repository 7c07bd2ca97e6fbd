//! The keyed hash that every packet ends with.
//!
//! BLAKE3 in keyed mode, cut to 128 bits. Each direction has a key of its own, so that a packet can't be reflected at its sender. Without a key
//! file the key is a published constant: the hash then only finds damage, which is why that is allowed on
//! loopback and Unix sockets alone.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use blake3::Hasher;
use constant_time_eq::constant_time_eq_16;

/// Bytes of hash at the end of every packet.
pub(crate) const TAG_BYTES: usize = 16;
/// Shorter key files are refused.
const MIN_KEY_FILE_BYTES: usize = 32;

/// What client and server share, and nobody else knows.
#[derive(Clone)]
pub struct Key {
    questions: [u8; 32],
    answers: [u8; 32],
    secret: bool,
}

impl Key {
    /// From secret bytes of any length.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        Self::derive(secret, true)
    }

    /// The key of those who have none: finds damage, keeps nobody out.
    #[must_use]
    pub fn public() -> Self {
        Self::derive(b"", false)
    }

    /// From a file, all of which is the secret except white space at its end.
    ///
    /// # Errors
    /// The file can't be read, or holds less than 32 bytes.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("key file {}: {error}", path.display()));
        let content = fs::read(path).map_err(named)?;
        let secret = content.trim_ascii_end();
        if secret.len() < MIN_KEY_FILE_BYTES {
            let problem = format!("{} bytes, where at least {MIN_KEY_FILE_BYTES} are needed", secret.len());
            return Err(named(io::Error::new(io::ErrorKind::InvalidData, problem)));
        }
        Ok(Self::from_secret(secret))
    }

    /// Whether it keeps others out.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    pub(crate) fn questions(&self) -> Seal {
        Seal(self.questions)
    }

    pub(crate) fn answers(&self) -> Seal {
        Seal(self.answers)
    }

    fn derive(secret: &[u8], is_secret: bool) -> Self {
        Self {
            questions: blake3::derive_key("OPTIMUS rpc 1: client to server", secret),
            answers: blake3::derive_key("OPTIMUS rpc 1: server to client", secret),
            secret: is_secret,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secret { "Key(secret)" } else { "Key(public)" })
    }
}

/// The key of one direction.
#[derive(Clone)]
pub(crate) struct Seal([u8; 32]);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    pub(crate) fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Appends the hash of what is there.
    pub(crate) fn close(&self, packet: &mut Vec<u8>) {
        let tag = self.tag(packet);
        packet.extend_from_slice(&tag);
    }

    /// What the hash covers, if it is right.
    pub(crate) fn open<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let (content, tag) = packet.split_last_chunk::<TAG_BYTES>()?;
        constant_time_eq_16(&self.tag(content), tag).then_some(content)
    }

    /// A number that only the holder of the key can tell.
    pub(crate) fn proof(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = Hasher::new_keyed(&self.0);
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        let mut proof = [0; 8];
        hasher.finalize_xof().fill(&mut proof);
        u64::from_be_bytes(proof)
    }

    fn tag(&self, content: &[u8]) -> [u8; TAG_BYTES] {
        let hash = blake3::keyed_hash(&self.0, content);
        hash.as_bytes().first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
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
    fn a_key_file_that_is_missing_or_short_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rpc.key");
        assert!(Key::from_file(&path).unwrap_err().to_string().contains("rpc.key"));
        fs::write(&path, "short\n").unwrap();
        assert!(Key::from_file(&path).unwrap_err().to_string().contains("5 bytes"));
        fs::write(&path, [b'k'; 32]).unwrap();
        assert!(Key::from_file(&path).unwrap().is_secret());
    }
}
