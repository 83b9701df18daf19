//! Encryption at rest: AES-256-GCM around a stored value, before its first byte reaches the store.
//!
//! A sealed value is `corten:aesgcm:v1:ID:` + nonce (12 bytes) + ciphertext with tag. The store's key and the prefix are
//! authenticated with it, so a value cannot be moved to another key. Several keys can be read, the newest writes. A
//! value that cannot be opened is an error that names the key's id; it is never taken for an absent object.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use corten_apiserver::registry::seal::{self, Sealer};
use corten_stdx::random::Random;

const PREFIX: &str = "corten:aesgcm:v1:";
const KEY_BYTES: usize = 32;
const ID_BYTES_MAX: usize = 32;

/// Seals the objects of some resources, and keeps all others in plain text.
pub struct Sealing {
    keys: Keyring,
    /// Qualified names: `secrets`, `things.example.com`.
    resources: Vec<String>,
}

impl Sealing {
    pub fn new(keys: Keyring, resources: &[&str]) -> Self {
        Self { keys, resources: resources.iter().map(ToString::to_string).collect() }
    }

    fn seals(&self, resource: &str) -> bool {
        self.resources.iter().any(|own| own == resource)
    }
}

impl Sealer for Sealing {
    fn seal(&self, resource: &str, key: &[u8], plain: Bytes) -> Result<Bytes, seal::SealError> {
        if !self.seals(resource) {
            return Ok(plain);
        }
        self.keys.seal(key, &plain).map_err(|error| seal::SealError(error.to_string()))
    }

    fn open(&self, resource: &str, key: &[u8], sealed: Bytes) -> Result<Bytes, seal::SealError> {
        if !self.seals(resource) {
            return Ok(sealed);
        }
        self.keys.open(key, &sealed).map_err(|error| seal::SealError(error.to_string()))
    }
}

/// The master keys, oldest first.
pub struct Keyring {
    keys: Vec<(String, RandomizedNonceKey)>,
}

/// A key file that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    #[error("line {line} is no key: expected an id of letters and digits, a space, and 32 bytes in base64")]
    Malformed { line: usize },
    #[error("the key id {id} stands twice")]
    Duplicate { id: String },
    #[error("there is no key in it")]
    Empty,
}

/// A stored value that cannot be opened, or a new one that cannot be sealed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error(
        "the value of {key} is sealed with the master key {id}, which is not among the keys; add it to the key file"
    )]
    UnknownKey { key: String, id: String },
    #[error("the value of {key} cannot be opened with the master key {id}: it is damaged or belongs to another key")]
    Refused { key: String, id: String },
    #[error("the value of {key} should be sealed, but is not")]
    NotSealed { key: String },
    #[error("the value of {key} cannot be sealed")]
    Failed { key: String },
}

impl Keyring {
    /// Reads a key file: a line per key, `ID BASE64`, the newest last.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let mut keys: Vec<(String, RandomizedNonceKey)> = Vec::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let (id, key) = parse_line(line).ok_or(KeyringError::Malformed { line: at + 1 })?;
            if keys.iter().any(|(known, _)| *known == id) {
                return Err(KeyringError::Duplicate { id });
            }
            keys.push((id, key));
        }
        if keys.is_empty() { Err(KeyringError::Empty) } else { Ok(Self { keys }) }
    }

    /// A line with a new key, to be put at the end of a key file.
    pub fn new_line(random: &Random) -> String {
        let (mut id, mut key) = ([0; 4], [0; KEY_BYTES]);
        random.fill(&mut id);
        random.fill(&mut key);
        format!("{:08x} {}\n", u32::from_be_bytes(id), STANDARD.encode(key))
    }

    /// Seals a value for its place in the store.
    pub fn seal(&self, key: &[u8], plain: &[u8]) -> Result<Bytes, SealError> {
        let (id, cipher) = self.keys.last().expect("parse refuses an empty key ring");
        let prefix = format!("{PREFIX}{id}:");
        let mut text = plain.to_vec();
        let nonce = cipher
            .seal_in_place_append_tag(Aad::from(authenticated(&prefix, key)), &mut text)
            .map_err(|_| SealError::Failed { key: shown(key) })?;
        let mut sealed = Vec::with_capacity(prefix.len() + NONCE_LEN + text.len());
        sealed.extend_from_slice(prefix.as_bytes());
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        Ok(sealed.into())
    }

    /// Opens a sealed value from its place in the store.
    pub fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Bytes, SealError> {
        let not_sealed = || SealError::NotSealed { key: shown(key) };
        let (id, body) = split(sealed).ok_or_else(not_sealed)?;
        let refused = || SealError::Refused { key: shown(key), id: id.to_owned() };
        let Some((_, cipher)) = self.keys.iter().find(|(known, _)| known == id) else {
            return Err(SealError::UnknownKey { key: shown(key), id: id.to_owned() });
        };
        let (nonce, text) = body.split_at_checked(NONCE_LEN).ok_or_else(refused)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refused())?;
        let mut text = text.to_vec();
        let aad = Aad::from(authenticated(&format!("{PREFIX}{id}:"), key));
        let plain = cipher.open_in_place(nonce, aad, &mut text).map_err(|_| refused())?.len();
        text.truncate(plain);
        Ok(text.into())
    }
}

fn parse_line(line: &str) -> Option<(String, RandomizedNonceKey)> {
    let (id, key) = line.trim().split_once(' ')?;
    let readable = (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let key = STANDARD.decode(key.trim()).ok()?;
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, &key).ok()?;
    readable.then(|| (id.to_owned(), cipher))
}

/// The id of the key that sealed a value, and what follows it.
fn split(sealed: &[u8]) -> Option<(&str, &[u8])> {
    let rest = sealed.strip_prefix(PREFIX.as_bytes())?;
    let end = rest.iter().take(ID_BYTES_MAX + 1).position(|byte| *byte == b':')?;
    Some((std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]))
}

fn authenticated(prefix: &str, key: &[u8]) -> Vec<u8> {
    [prefix.as_bytes(), key].concat()
}

fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"/registry/secrets/shop/db";

    fn ring(seeds: &[u64]) -> Keyring {
        let lines: String = seeds.iter().map(|seed| Keyring::new_line(&Random::seeded(*seed))).collect();
        Keyring::parse(&lines).expect("lines that were just made")
    }

    #[test]
    fn what_is_sealed_is_hidden_and_comes_back() {
        let plain = b"the password is swordfish";
        let sealed = ring(&[1]).seal(KEY, plain).expect("seals");
        assert!(!sealed.windows(9).any(|part| part == b"swordfish"));
        assert_eq!(ring(&[1]).open(KEY, &sealed).expect("opens"), &plain[..]);
        assert_ne!(sealed, ring(&[1]).seal(KEY, plain).expect("seals"), "each time another nonce");
        assert_eq!(ring(&[1]).open(KEY, &ring(&[1]).seal(KEY, b"").expect("seals")).expect("opens"), &b""[..]);
    }

    #[test]
    fn the_newest_key_writes_and_older_ones_read() {
        let old = ring(&[1]).seal(KEY, b"old").expect("seals");
        let new = ring(&[1, 2]).seal(KEY, b"new").expect("seals");
        assert_eq!(ring(&[1, 2]).open(KEY, &old).expect("opens"), &b"old"[..]);
        let Err(SealError::UnknownKey { id, .. }) = ring(&[1]).open(KEY, &new) else { panic!("an unknown key") };
        assert!(String::from_utf8_lossy(&new).contains(&format!(":{id}:")), "the error names the key's id");
    }

    #[test]
    fn a_value_that_was_moved_or_changed_is_refused() {
        let sealed = ring(&[1]).seal(KEY, b"secret").expect("seals");
        assert!(matches!(ring(&[1]).open(b"/registry/secrets/shop/other", &sealed), Err(SealError::Refused { .. })));
        for at in 0..sealed.len() {
            let mut bent = sealed.to_vec();
            bent[at] ^= 1;
            assert!(ring(&[1]).open(KEY, &bent).is_err(), "byte {at}");
            assert!(ring(&[1]).open(KEY, &sealed[..at]).is_err(), "cut at {at}");
        }
        assert!(matches!(ring(&[1]).open(KEY, b"{\"kind\":"), Err(SealError::NotSealed { .. })));
    }

    #[test]
    fn a_bad_key_file_is_refused() {
        let check = |text: &str, expect: KeyringError| assert_eq!(Keyring::parse(text).err(), Some(expect), "{text:?}");
        let line = Keyring::new_line(&Random::seeded(1));
        check("", KeyringError::Empty);
        check("a AAAA\n", KeyringError::Malformed { line: 1 });
        check(&format!("{line}nonsense"), KeyringError::Malformed { line: 2 });
        let id = line[..8].to_owned();
        check(&format!("{line}{line}"), KeyringError::Duplicate { id });
    }
}
