//! What frames carry: entries, deletions, and the few numbers of first and last frames.
//!
//! | record | layout |
//! |---|---|
//! | bytes | length (4), bytes |
//! | entry | flags (1: bit 0 present, bit 1 expires), key, value, creation revision (8), last revision (8), version (8), expiry in Unix milliseconds (8, where flagged) |
//! | deletion | flags (1: zero), key |
//! | commit | revision of its first change (8), number of changes (4), the changes: entry or deletion |
//! | snapshot objects | number (4), entries |

use std::sync::Arc;

use bytes::Bytes;

use crate::{Entry, Event, Revision};

const PRESENT: u8 = 1;
const EXPIRES: u8 = 2;

/// One change of a commit: the key, and what it is from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Bytes,
    pub(crate) entry: Option<Entry>,
}

impl Record {
    /// The revision that the record itself carries; deletions carry none.
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.entry.as_ref().map(|entry| entry.mod_revision)
    }
}

/// A payload whose checksum holds and that still makes no sense: a defect of the writer, or of this reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame's payload is malformed")]
pub(crate) struct Malformed;

pub(crate) fn write_commit(out: &mut Vec<u8>, events: &[Arc<Event>]) {
    out.extend_from_slice(&events.first().map_or(0, |e| e.revision).to_le_bytes());
    out.extend_from_slice(&(events.len() as u32).to_le_bytes());
    for event in events {
        match &event.entry {
            Some(entry) => write_entry(out, entry),
            None => {
                out.push(0);
                write_bytes(out, &event.key);
            }
        }
    }
}

/// The revision of the first change, and the changes.
pub(crate) fn read_commit(payload: &[u8]) -> Result<(Revision, Vec<Record>), Malformed> {
    let mut reader = Reader(payload);
    let first = reader.word()?;
    let count = reader.count()?;
    let records = (0..count).map(|_| reader.record()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok((first, records))
}

pub(crate) fn write_objects(out: &mut Vec<u8>, entries: &[Arc<Entry>]) {
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    entries.iter().for_each(|entry| write_entry(out, entry));
}

pub(crate) fn read_objects(payload: &[u8]) -> Result<Vec<Entry>, Malformed> {
    let mut reader = Reader(payload);
    let count = reader.count()?;
    let entries = (0..count).map(|_| reader.record()?.entry.ok_or(Malformed)).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(entries)
}

/// Reads what a frame carries in both ways in which recovery does, whatever it is, and counts what it found. For fuzzing: in
/// a store, nothing is read before its checksum.
pub fn read_payload(payload: &[u8]) -> usize {
    let records = read_commit(payload).map_or(0, |(_, records)| records.len());
    records + read_objects(payload).map_or(0, |entries| entries.len())
}

pub(crate) fn write_words<const N: usize>(out: &mut Vec<u8>, words: [u64; N]) {
    words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

pub(crate) fn read_words<const N: usize>(payload: &[u8]) -> Result<[u64; N], Malformed> {
    let mut reader = Reader(payload);
    let mut words = [0; N];
    for word in &mut words {
        *word = reader.word()?;
    }
    reader.end()?;
    Ok(words)
}

fn write_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.push(PRESENT | if entry.expires_at_ms.is_some() { EXPIRES } else { 0 });
    write_bytes(out, &entry.key);
    write_bytes(out, &entry.value);
    write_words(out, [entry.create_revision, entry.mod_revision, entry.version]);
    if let Some(expires_at_ms) = entry.expires_at_ms {
        write_words(out, [expires_at_ms]);
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn count(&mut self) -> Result<usize, Malformed> {
        let bytes = self.take(4)?.try_into().expect("four bytes were taken");
        Ok(u32::from_le_bytes(bytes) as usize)
    }

    fn word(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?.try_into().expect("eight bytes were taken");
        Ok(u64::from_le_bytes(bytes))
    }

    /// A copy, so that an object does not keep its whole segment in memory.
    fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let count = self.count()?;
        Ok(Bytes::copy_from_slice(self.take(count)?))
    }

    fn record(&mut self) -> Result<Record, Malformed> {
        let flags = self.take(1)?[0];
        let key = self.bytes()?;
        match flags {
            0 => return Ok(Record { key, entry: None }),
            PRESENT | 3 => {}
            _ => return Err(Malformed),
        }
        let value = self.bytes()?;
        let (create_revision, mod_revision, version) = (self.word()?, self.word()?, self.word()?);
        let expires_at_ms = if flags & EXPIRES != 0 { Some(self.word()?) } else { None };
        let entry = Entry { key: key.clone(), value, create_revision, mod_revision, version, expires_at_ms };
        Ok(Record { key, entry: Some(entry) })
    }

    fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((_, records)) = read_commit(&payload) {
                prop_assert!(records.len() <= payload.len());
            }
            if let Ok(entries) = read_objects(&payload) {
                prop_assert!(entries.len() <= payload.len());
            }
        }

        #[test]
        fn objects_come_back(objects in proptest::collection::vec(any::<(Vec<u8>, Vec<u8>, u64, u64, Option<u64>)>(), 0..9)) {
            let entries: Vec<_> = objects.into_iter().map(|(key, value, revision, version, expires_at_ms)| {
                let (key, value) = (Bytes::from(key), Bytes::from(value));
                Arc::new(Entry { key, value, create_revision: revision, mod_revision: revision, version, expires_at_ms })
            }).collect();
            let mut out = Vec::new();
            write_objects(&mut out, &entries);
            let read = read_objects(&out).unwrap();
            prop_assert!(read.iter().eq(entries.iter().map(|e| &**e)));
            for cut in 0..out.len() {
                prop_assert_eq!(read_objects(&out[..cut]), Err(Malformed));
            }
        }
    }
}
