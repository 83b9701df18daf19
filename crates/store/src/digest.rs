//! The content hash of a store: equal content gives an equal hash on every engine and after every restart.

use crate::Entry;

/// FNV-1a over 64-bit words. It tells equal from different; it is no defence against intent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Takes in one entry; the caller goes in key order.
    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.bytes(&entry.key);
        self.bytes(&entry.value);
        self.word(entry.create_revision);
        self.word(entry.mod_revision);
        self.word(entry.version);
        // "Never" is told apart from every time by its own word.
        self.word(u64::from(entry.expires_at_ms.is_some()));
        self.word(entry.expires_at_ms.unwrap_or(0));
    }

    pub(crate) fn finish(self) -> u64 {
        self.0
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn word(&mut self, word: u64) {
        // The rotation spreads the high bits, which a plain multiplication would never move down.
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
}
