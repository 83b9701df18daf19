//! The keys that sign tokens: the newest signs, all of them verify. A new one may join at any time; tokens of the older
//! ones stay good until they expire.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// What a key's block begins and ends with.
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// A line before a block: when the key was made.
const MADE: &str = "made ";

/// How long one key signs.
const SIGNS_S: i64 = 90 * 24 * 3600;
/// How long a key verifies after it was made: a token may live for a year after the last signature.
const VERIFIES_S: i64 = SIGNS_S + 366 * 24 * 3600;

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("line {line}: {why}")]
    Text { line: usize, why: &'static str },
    #[error("there is no key")]
    None,
    #[error("a key cannot be made")]
    Making,
}

/// The keys of a server, newest first. Cheap to clone; all clones see a key that joins.
#[derive(Clone)]
pub struct Keys(Arc<RwLock<Vec<Arc<Key>>>>);

/// One key.
pub(super) struct Key {
    made_s: i64,
    pkcs8: Vec<u8>,
    pair: EcdsaKeyPair,
    id: String,
}

impl Key {
    fn make(now_s: i64) -> Result<Self, KeysError> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        Self::open(made.map_err(|_| KeysError::Making)?.as_ref(), now_s).ok_or(KeysError::Making)
    }

    fn open(pkcs8: &[u8], made_s: i64) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, public.as_ref()));
        Some(Self { made_s, pkcs8: pkcs8.to_vec(), pair, id })
    }

    /// Upstream's name of a key: the digest of its public half.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.pair.sign(&SystemRandom::new(), message).ok().map(|signature| signature.as_ref().to_vec())
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        public.verify(message, signature).is_ok()
    }

    /// The coordinates of the public half, each of 32 bytes.
    pub(super) fn coordinates(&self) -> (&[u8], &[u8]) {
        // An uncompressed point: the byte 4, then both.
        self.pair.public_key().as_ref()[1..].split_at(32)
    }
}

impl Keys {
    /// A first key.
    pub fn make(now_s: i64) -> Result<Self, KeysError> {
        Ok(Self::of(vec![Arc::new(Key::make(now_s)?)]))
    }

    fn of(keys: Vec<Arc<Key>>) -> Self {
        Self(Arc::new(RwLock::new(keys)))
    }

    /// Reads what [`Keys::text`] wrote.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let (mut keys, mut made_s, mut block) = (Vec::new(), 0, None::<String>);
        for (index, line) in text.lines().enumerate() {
            let wrong = |why| KeysError::Text { line: index + 1, why };
            match (line.trim(), &mut block) {
                (BEGIN, None) => block = Some(String::new()),
                (END, Some(base64)) => {
                    let der = STANDARD.decode(base64.as_bytes()).map_err(|_| wrong("the key is no base64"))?;
                    keys.push(Arc::new(Key::open(&der, made_s).ok_or_else(|| wrong("no key of P-256"))?));
                    block = None;
                }
                (part, Some(base64)) => base64.push_str(part),
                (line, None) => {
                    if let Some(time) = line.strip_prefix(MADE) {
                        made_s = time.parse().map_err(|_| wrong("no time in seconds"))?;
                    }
                }
            }
        }
        if keys.is_empty() { Err(KeysError::None) } else { Ok(Self::of(keys)) }
    }

    /// All keys, to be kept where nobody else reads them.
    pub fn text(&self) -> String {
        let block = |key: &Arc<Key>| {
            let base64 = STANDARD.encode(&key.pkcs8);
            let lines: Vec<&str> =
                base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
            format!("{MADE}{}\n{BEGIN}\n{}\n{END}\n", key.made_s, lines.join("\n"))
        };
        self.all().iter().map(block).collect()
    }

    /// These keys with a new one in front and without those that nobody needs any more, if it is time for that.
    pub fn renewed(&self, now_s: i64) -> Result<Option<Self>, KeysError> {
        let mut keys = self.all();
        if keys.first().is_some_and(|newest| now_s - newest.made_s < SIGNS_S) {
            return Ok(None);
        }
        keys.retain(|key| now_s - key.made_s < VERIFIES_S);
        keys.insert(0, Arc::new(Key::make(now_s)?));
        Ok(Some(Self::of(keys)))
    }

    /// Takes over other keys, for all clones at once.
    pub fn replace(&self, with: &Self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = with.all();
    }

    pub(super) fn all(&self) -> Vec<Arc<Key>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn newest(&self) -> Arc<Key> {
        self.all().into_iter().next().expect("there is always a key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_renewed_in_time() {
        let keys = Keys::make(1_000).expect("made");
        let again = Keys::parse(&keys.text()).expect("read");
        assert_eq!(again.newest().id(), keys.newest().id());
        let signature = keys.newest().sign(b"m").expect("signed");
        assert!(again.newest().verifies(b"m", &signature) && !again.newest().verifies(b"n", &signature));

        assert!(keys.renewed(1_000 + SIGNS_S - 1).expect("looked").is_none(), "not yet");
        let renewed = keys.renewed(1_000 + SIGNS_S).expect("looked").expect("renewed");
        let clone = keys.clone();
        keys.replace(&renewed);
        assert_eq!(clone.all().len(), 2);
        assert!(clone.all().iter().any(|key| key.verifies(b"m", &signature)), "the old one still verifies");
        assert!(!clone.newest().verifies(b"m", &signature), "the new one signs");
        let later = renewed.renewed(1_000 + VERIFIES_S).expect("looked").expect("renewed");
        assert!(!later.all().iter().any(|key| key.verifies(b"m", &signature)), "the oldest has gone");
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_line() {
        let refused = |text: &str| Keys::parse(text).err().expect("refused").to_string();
        assert_eq!(refused(""), "there is no key");
        assert_eq!(refused(&format!("{BEGIN}\nAAAA\n{END}\n")), "line 3: no key of P-256");
        assert_eq!(refused(&format!("made soon\n{BEGIN}\n")), "line 1: no time in seconds");
    }
}
