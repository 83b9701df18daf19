//! What a frame of the store carries, behind its checksum: a store that somebody has made, or damage that the checksum
//! happens to fit.

use corten_store::embedded::read_payload;

pub(crate) fn payload(bytes: &[u8]) {
    // Each record has a byte at least.
    assert!(read_payload(bytes) <= 2 * bytes.len());
}
