//! The form of a backup: named pieces, sealed by a passphrase, in one file.
//!
//! | bytes | what |
//! |---|---|
//! | 14 | `corten backup\n` |
//! | 1 | version of the form |
//! | 4, 4 | Argon2id (RFC 9106): memory in KiB, passes; one lane |
//! | 16 | salt |
//! | 8 | the beginning of SHA-256 over all before it: tells damage from a wrong passphrase |
//! | 32 | HMAC-SHA256 over all before it, under the first half of the derived key: the passphrase is the right one |
//! | … | records: length and a bit that says that it is the last (4), AES-256-GCM of so many bytes under the other half, tag (16) |
//!
//! Numbers are little-endian. A record's nonce is its number, and its head is authenticated; all but the last are of one length, so
//! that records cannot be left out, moved or cut off unnoticed. What is in them is a sequence of pieces: length of the name (2), name,
//! length (4), bytes.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hmac};
use corten_stdx::random::Random;

const MAGIC: &[u8; 14] = b"corten backup\n";
const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
const SUM_BYTES: usize = 8;
const PROOF_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
/// Up to the sum, and the whole head.
const SUMMED: usize = MAGIC.len() + 1 + 4 + 4 + SALT_BYTES;
const HEAD: usize = SUMMED + SUM_BYTES + PROOF_BYTES;
const TAG_BYTES: usize = 16;
const WORD_BYTES: usize = 4;
const RECORD_BYTES: usize = 1 << 20;
const LAST: u32 = 1 << 31;
/// What a file may ask of the machine that opens it.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 16;

/// How much work it is to try one passphrase.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
}

impl Default for Cost {
    /// RFC 9106's second choice, for machines whose memory is not to be had at will.
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3 }
    }
}

/// A named piece of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Why a file is not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    #[error("is no backup of corten")]
    Foreign,
    #[error("was made by a newer corten (form {found}, this one knows {VERSION}); restore it with that version")]
    Newer { found: u8 },
    #[error("ends early: it is only a part of a backup; copy it again from where it was made")]
    Short,
    #[error("is damaged or was changed at byte {at}; take another copy of it")]
    Damaged { at: usize },
    #[error("was sealed with another passphrase; see --passphrase-file and CORTEN_PASSPHRASE")]
    Passphrase,
    #[error("asks for more memory or time than a backup of corten does; take another copy of it")]
    Cost,
    #[error("cannot be sealed or opened here")]
    Crypto,
}

/// Seals pieces. The bytes are the whole file.
pub fn seal<'a>(
    pieces: impl Iterator<Item = (&'a str, &'a [u8])>,
    passphrase: &str,
    cost: Cost,
    random: &Random,
) -> Result<Vec<u8>, SealedError> {
    let mut salt = [0; SALT_BYTES];
    random.fill(&mut salt);
    let mut out = Vec::with_capacity(HEAD);
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&cost.memory_kib.to_le_bytes());
    out.extend_from_slice(&cost.passes.to_le_bytes());
    out.extend_from_slice(&salt);
    out.extend_from_slice(&sum(&out));
    let keys = Keys::derive(passphrase, &salt, cost)?;
    out.extend_from_slice(hmac::sign(&keys.proof, &out).as_ref());
    let mut plain = Vec::new();
    let mut number = 0;
    for (name, bytes) in pieces {
        write_piece(&mut plain, name, bytes);
        while plain.len() > RECORD_BYTES {
            let rest = plain.split_off(RECORD_BYTES);
            keys.seal(&mut out, number, plain, false)?;
            (plain, number) = (rest, number + 1);
        }
    }
    keys.seal(&mut out, number, plain, true)?;
    Ok(out)
}

/// Opens a file: all of it, or why not.
pub fn open(file: &[u8], passphrase: &str) -> Result<Vec<Piece>, SealedError> {
    let keys = head(file, passphrase)?;
    let (mut at, mut number, mut plain) = (HEAD, 0, Vec::new());
    loop {
        let word = file.get(at..at + WORD_BYTES).ok_or(SealedError::Short)?;
        let word = u32::from_le_bytes(word.try_into().expect("four bytes"));
        let (bytes, last) = ((word & !LAST) as usize, word & LAST != 0);
        if bytes > RECORD_BYTES || !last && bytes != RECORD_BYTES {
            return Err(SealedError::Damaged { at });
        }
        let end = at + WORD_BYTES + bytes + TAG_BYTES;
        let sealed = file.get(at + WORD_BYTES..end).ok_or(SealedError::Short)?;
        plain.extend_from_slice(&keys.open(number, word, sealed).ok_or(SealedError::Damaged { at })?);
        (at, number) = (end, number + 1);
        if last {
            break;
        }
    }
    if at != file.len() {
        return Err(SealedError::Damaged { at });
    }
    read_pieces(&plain).ok_or(SealedError::Damaged { at: HEAD })
}

/// The keys of a file, if its head is whole and the passphrase is its own.
fn head(file: &[u8], passphrase: &str) -> Result<Keys, SealedError> {
    let begins = file.len().min(MAGIC.len());
    if file.is_empty() || file[..begins] != MAGIC[..begins] {
        return Err(SealedError::Foreign);
    }
    match file.get(MAGIC.len()) {
        Some(&found) if found > VERSION => return Err(SealedError::Newer { found }),
        Some(_) => {}
        None => return Err(SealedError::Short),
    }
    let head = file.get(..HEAD).ok_or(SealedError::Short)?;
    let (summed, rest) = head.split_at(SUMMED);
    let (stated, proof) = rest.split_at(SUM_BYTES);
    if sum(summed) != stated {
        return Err(SealedError::Damaged { at: 0 });
    }
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let cost = Cost { memory_kib: word(MAGIC.len() + 1), passes: word(MAGIC.len() + 5) };
    if cost.memory_kib > MEMORY_KIB_MAX || cost.passes > PASSES_MAX {
        return Err(SealedError::Cost);
    }
    let keys = Keys::derive(passphrase, &summed[SUMMED - SALT_BYTES..], cost)?;
    hmac::verify(&keys.proof, &head[..SUMMED + SUM_BYTES], proof).map_err(|_| SealedError::Passphrase)?;
    Ok(keys)
}

fn sum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref()[..SUM_BYTES].try_into().expect("a digest is longer")
}

struct Keys {
    proof: hmac::Key,
    records: LessSafeKey,
}

impl Keys {
    fn derive(passphrase: &str, salt: &[u8], cost: Cost) -> Result<Self, SealedError> {
        let params =
            Params::new(cost.memory_kib, cost.passes, 1, Some(2 * KEY_BYTES)).map_err(|_| SealedError::Cost)?;
        let mut key = [0; 2 * KEY_BYTES];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(passphrase.as_bytes(), salt, &mut key).map_err(|_| SealedError::Crypto)?;
        let (proof, records) = key.split_at(KEY_BYTES);
        let records = UnboundKey::new(&AES_256_GCM, records).map_err(|_| SealedError::Crypto)?;
        Ok(Self { proof: hmac::Key::new(hmac::HMAC_SHA256, proof), records: LessSafeKey::new(records) })
    }

    fn seal(&self, out: &mut Vec<u8>, number: u64, mut plain: Vec<u8>, last: bool) -> Result<(), SealedError> {
        let bytes = u32::try_from(plain.len()).expect("a record is bounded far below this");
        let word = (bytes | if last { LAST } else { 0 }).to_le_bytes();
        let sealed = self.records.seal_in_place_append_tag(nonce(number), Aad::from(word), &mut plain);
        sealed.map_err(|_| SealedError::Crypto)?;
        out.extend_from_slice(&word);
        out.extend_from_slice(&plain);
        Ok(())
    }

    fn open(&self, number: u64, word: u32, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut text = sealed.to_vec();
        let aad = Aad::from(word.to_le_bytes());
        let plain = self.records.open_in_place(nonce(number), aad, &mut text).ok()?.len();
        text.truncate(plain);
        Some(text)
    }
}

/// Each file has keys of its own, so that a number is used once.
fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn write_piece(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(name.len()).expect("names are short").to_le_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&u32::try_from(bytes.len()).expect("pieces are below 4 GiB").to_le_bytes());
    out.extend_from_slice(bytes);
}

fn read_pieces(mut plain: &[u8]) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    while !plain.is_empty() {
        let (length, rest) = plain.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (length, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        pieces.push(Piece { name: String::from_utf8(name.to_vec()).ok()?, bytes: bytes.to_vec() });
        plain = rest;
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "correct horse battery staple";
    /// The least that there is.
    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1 };

    fn made(pieces: &[(&str, &[u8])]) -> Vec<u8> {
        seal(pieces.iter().copied(), WORDS, CHEAP, &Random::seeded(5)).expect("sealed")
    }

    fn check(file: &[u8], expect: &str) {
        let text = open(file, WORDS).expect_err("refused").to_string();
        assert!(text.contains(expect), "{text}");
    }

    #[test]
    fn pieces_come_back() {
        let long = vec![7; 2 * RECORD_BYTES + 3];
        let pieces: [(&str, &[u8]); 3] = [("a", b"one"), ("long", &long), ("empty", b"")];
        let file = made(&pieces);
        let found = open(&file, WORDS).expect("opened");
        let found: Vec<_> = found.iter().map(|piece| (piece.name.as_str(), piece.bytes.as_slice())).collect();
        assert_eq!(found, pieces);
        let shows = |what: &[u8]| file.windows(what.len()).any(|bytes| bytes == what);
        assert!(!shows(b"one") && !shows(&[7; 16]), "nothing is readable");
        assert_eq!(open(&made(&[]), WORDS), Ok(Vec::new()));
    }

    #[test]
    fn every_changed_bit_is_found_and_a_wrong_passphrase_is_told_from_it() {
        let file = made(&[("keys", b"0123456789")]);
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(open(&changed, WORDS).is_err(), "byte {at}");
        }
        let mut changed = file.clone();
        changed[HEAD + 9] ^= 1;
        check(&changed, "changed at byte 79");
        changed = file.clone();
        changed[SUMMED - 1] ^= 1;
        check(&changed, "changed at byte 0");
        assert_eq!(open(&file, "correct horse battery stapler"), Err(SealedError::Passphrase));
    }

    #[test]
    fn a_file_that_was_cut_or_goes_on_is_found() {
        let file = made(&[("long", &vec![1; RECORD_BYTES + 10])]);
        let records = [HEAD, HEAD + WORD_BYTES + RECORD_BYTES + TAG_BYTES];
        for cut in (1..=HEAD).chain(records).chain([records[1] + 2, file.len() - 1]) {
            check(&file[..cut], "ends early");
        }
        let doubled = [&file[..], &file[HEAD..]].concat();
        check(&doubled, "was changed at byte");
        let swapped = [&file[..HEAD], &file[records[1]..]].concat();
        check(&swapped, "changed at byte 79");
    }

    #[test]
    fn what_is_no_backup_or_a_newer_one_is_told() {
        check(b"", "is no backup of corten");
        check(b"PK\x03\x04", "is no backup of corten");
        let mut newer = made(&[]);
        newer[MAGIC.len()] = 9;
        check(&newer, "form 9, this one knows 1");
        let mut costly = made(&[]);
        costly[MAGIC.len() + 1..MAGIC.len() + 5].copy_from_slice(&u32::MAX.to_le_bytes());
        let sum = sum(&costly[..SUMMED]);
        costly[SUMMED..SUMMED + SUM_BYTES].copy_from_slice(&sum);
        check(&costly, "more memory or time");
    }
}
