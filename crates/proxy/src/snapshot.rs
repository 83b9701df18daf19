//! The configuration on disk, from which an edge starts while nobody is there to tell it anything. It holds the keys of
//! certificates, so it is sealed: whoever reads the file alone learns nothing, and what was changed is refused.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use corten_stdx::random::Random;

use crate::config::{ConfigError, NodeConfig};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// What a file begins with; the last byte is the version of the seal.
const MAGIC: &[u8; 8] = b"CTNEDGE\x01";

/// Bytes of a file that is read: far more than any configuration has.
pub const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Seals and opens snapshots.
pub struct Seal(LessSafeKey);

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the key has {0} bytes, not {KEY_BYTES}")]
    Key(usize),
    #[error("it is no snapshot that this version reads")]
    Format,
    #[error("it was changed, or sealed with another key")]
    Seal,
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Seal {
    /// # Errors
    /// When the key has another length.
    pub fn new(key: &[u8]) -> Result<Self, SnapshotError> {
        let unbound = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SnapshotError::Key(key.len()))?;
        Ok(Self(LessSafeKey::new(unbound)))
    }

    pub fn seal(&self, config: &NodeConfig, random: &Random) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce);
        let mut sealed = config.encode();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(MAGIC), &mut sealed)
            .expect("a configuration is far shorter than what one nonce may seal");
        [&MAGIC[..], &nonce, &sealed].concat()
    }

    /// # Errors
    /// When it is not what [`Self::seal`] gave with the same key.
    pub fn open(&self, file: &[u8]) -> Result<NodeConfig, SnapshotError> {
        let rest = file.strip_prefix(MAGIC).ok_or(SnapshotError::Format)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SnapshotError::Format)?;
        let mut sealed = sealed.to_vec();
        let opened = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(MAGIC), &mut sealed);
        Ok(NodeConfig::decode(opened.map_err(|_| SnapshotError::Seal)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_it() {
        let seal = Seal::new(&[7; KEY_BYTES]).unwrap();
        let config = NodeConfig { version: crate::config::VERSION, generation: 3, ..NodeConfig::default() };
        let file = seal.seal(&config, &Random::seeded(1));
        assert_eq!(seal.open(&file).unwrap(), config);
        assert!(!file.windows(10).any(|window| window == b"generation"));
        assert!(matches!(Seal::new(&[8; KEY_BYTES]).unwrap().open(&file), Err(SnapshotError::Seal)));
        assert!(matches!(seal.open(b"CTNEDGE"), Err(SnapshotError::Format)));
        for at in [8, 20, file.len() - 1] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(matches!(seal.open(&changed), Err(SnapshotError::Seal)), "byte {at}");
        }
        assert!(matches!(Seal::new(&[0; 5]), Err(SnapshotError::Key(5))));
    }
}
