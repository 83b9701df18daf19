//! Encryption on the way to the store: what is to be encrypted never reaches the store in plain text.

use bytes::Bytes;

/// Turns an object's bytes into what the store keeps, and back. `resource` is the stored resource's qualified name
/// (`deployments.apps`), by which an implementation decides whether to encrypt; `key` is the store's key and is to be
/// authenticated with the bytes, so that a value cannot be moved to another object.
pub trait Sealer: Send + Sync {
    fn seal(&self, resource: &str, key: &[u8], plain: Bytes) -> Result<Bytes, SealError>;

    fn open(&self, resource: &str, key: &[u8], sealed: Bytes) -> Result<Bytes, SealError>;
}

/// Why bytes could not be sealed or opened; never contains any of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SealError(pub String);

/// Keeps everything in plain text.
pub struct Plain;

impl Sealer for Plain {
    fn seal(&self, _resource: &str, _key: &[u8], plain: Bytes) -> Result<Bytes, SealError> {
        Ok(plain)
    }

    fn open(&self, _resource: &str, _key: &[u8], sealed: Bytes) -> Result<Bytes, SealError> {
        Ok(sealed)
    }
}
