//! Short names made of contents, for objects of which a workload has one for each form of its template.

/// Letters of a hash in names and labels: none that make words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name of up to ten letters (FNV-1a of 32 bits); `collisions` makes another one of the same contents.
pub(crate) fn name_hash(contents: Vec<u8>, collisions: i64) -> String {
    let mut text = contents;
    text.extend(collisions.to_le_bytes());
    let hash = text.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}
