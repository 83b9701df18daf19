//! Reads one segment of the log, for recovery and for verification.

use super::damage::Damage;
use super::frame::{Chain, Frame, FrameError, Kind};
use super::layout::FORMAT_VERSION;
use super::record::{self, Record};
use crate::Revision;

/// What a segment holds.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) first: Revision,
    pub(crate) commits: u64,
    /// The last revision that it and the segments before it hold.
    pub(crate) last: Revision,
    /// Bytes of good frames.
    pub(crate) bytes: usize,
    /// Where the last frame that holds writes starts; the segment's length where there is none.
    pub(crate) last_commit_at: usize,
    /// Whether the last good frame is an end marker.
    pub(crate) marked: bool,
    /// Why the rest is no frame, if there is a rest.
    pub(crate) torn: Option<FrameError>,
    /// The chain after it.
    pub(crate) chain: Chain,
}

/// One commit.
pub(crate) struct Commit {
    pub(crate) time_ms: u64,
    pub(crate) first: Revision,
    pub(crate) records: Vec<Record>,
}

/// Where the reader is in the whole log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) chain: Chain,
    /// The last revision read; `None` before the first segment, which may start anywhere.
    pub(crate) last: Option<Revision>,
}

/// Why a segment cannot be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// Not even its start is there. In the newest segment this is an interrupted rotation.
    NoStart(Damage),
    Damaged(Damage),
}

/// Reads the segment and hands each commit to `visit`. A bad frame ends it as torn if no later frame is good.
pub(crate) fn read(
    name: &str,
    bytes: &[u8],
    position: Position,
    visit: &mut dyn FnMut(Commit),
) -> Result<Segment, Unreadable> {
    let mut segment = start(name, bytes, position)?;
    while segment.bytes < bytes.len() {
        let at = segment.bytes;
        let rest = &bytes[at..];
        match segment.chain.next(rest) {
            Ok(frame) => segment.take(name, &frame, visit).map_err(Unreadable::Damaged)?,
            Err(error) => {
                refuse_later(name, &segment, rest, error).map_err(Unreadable::Damaged)?;
                segment.torn = Some(error);
                break;
            }
        }
    }
    Ok(segment)
}

fn start(name: &str, bytes: &[u8], position: Position) -> Result<Segment, Unreadable> {
    let damage = |what: &str| Damage::new(name, 0, what);
    let mut chain = position.chain;
    let frame = chain.read(bytes).map_err(|error| match chain.find_later(bytes) {
        Some(_) => Unreadable::Damaged(damage(&error.to_string())),
        None => Unreadable::NoStart(damage(&error.to_string())),
    })?;
    if position.last.is_none() {
        chain = chain.joined_at(&frame);
    }
    chain.follow(&frame).map_err(|error| Unreadable::Damaged(damage(&error.to_string())))?;
    let [version, first] = match frame.kind {
        Kind::SegmentStart => record::read_words(frame.payload),
        _ => Err(record::Malformed),
    }
    .map_err(|_| Unreadable::Damaged(damage("the file does not start as a log segment")))?;
    if version != FORMAT_VERSION || super::layout::segment(first) != name {
        return Err(Unreadable::Damaged(damage("the file's name or version is not the one that it starts with")));
    }
    let last = position.last.unwrap_or(first - 1);
    if last + 1 != first {
        return Err(Unreadable::Damaged(damage("the segment does not continue the one before it").losing(last, first)));
    }
    let bytes = frame.bytes();
    Ok(Segment { first, commits: 0, last, bytes, last_commit_at: bytes, marked: false, torn: None, chain })
}

/// Damage, if a bad frame is followed by a good one.
fn refuse_later(name: &str, segment: &Segment, rest: &[u8], error: FrameError) -> Result<(), Damage> {
    let Some((_, later)) = segment.chain.find_later(rest) else { return Ok(()) };
    let damage = Damage::new(name, segment.bytes as u64, format!("{error}, and good frames follow it"));
    Err(match (later.kind, record::read_commit(later.payload)) {
        (Kind::Commit, Ok((first, _))) => damage.losing(segment.last, first),
        _ => damage,
    })
}

impl Segment {
    fn take(&mut self, name: &str, frame: &Frame<'_>, visit: &mut dyn FnMut(Commit)) -> Result<(), Damage> {
        let malformed = || Damage::new(name, self.bytes as u64, "a frame with a good checksum has a malformed payload");
        self.marked = match frame.kind {
            Kind::End => true,
            Kind::Commit => {
                let (first, records) = record::read_commit(frame.payload).map_err(|_| malformed())?;
                let in_order = (first..).zip(&records).all(|(r, record)| record.revision().is_none_or(|own| own == r));
                if first != self.last + 1 || records.is_empty() || !in_order {
                    return Err(malformed());
                }
                self.last += records.len() as u64;
                self.commits += 1;
                self.last_commit_at = self.bytes;
                visit(Commit { time_ms: frame.time_ms, first, records });
                false
            }
            _ => return Err(malformed()),
        };
        self.bytes += frame.bytes();
        Ok(())
    }

    /// Damage, if the segment is followed by another and yet does not end as one that is.
    pub(crate) fn check_ended(&self, name: &str) -> Result<(), Damage> {
        match (self.torn, self.marked) {
            (None, true) => Ok(()),
            (Some(error), _) => Err(Damage::new(name, self.bytes as u64, format!("{error} in an ended segment"))),
            (None, false) => Err(Damage::new(name, self.bytes as u64, "an ended segment has no end marker")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::{Change, Expect};

    const NAME: &str = "wal-00000000000000000002";

    fn chain() -> Chain {
        Chain::new(9)
    }

    /// A segment of these values, one a commit, and the records that it holds.
    fn segment(values: &[Vec<u8>]) -> (Vec<u8>, Vec<Record>) {
        let (mut out, mut chain, mut view) = (Vec::new(), chain(), super::super::view::View::new());
        chain.write(&mut out, Kind::SegmentStart, 0, |out| record::write_words(out, [FORMAT_VERSION, 2]));
        let mut records = Vec::new();
        for (at, value) in values.iter().enumerate() {
            let put = Change::Put { value: Bytes::copy_from_slice(value), ttl: None };
            let record = view.decide(at.to_string().into(), Expect::Absent, put, 0).unwrap();
            records.push(record.clone());
            let event = view.apply(record);
            chain.write(&mut out, Kind::Commit, 0, |out| record::write_commit(out, &[Arc::clone(&event)]));
        }
        (out, records)
    }

    fn read_all(bytes: &[u8]) -> (Vec<Record>, Result<Segment, Unreadable>) {
        let mut records = Vec::new();
        let position = Position { chain: chain(), last: None };
        let read = read(NAME, bytes, position, &mut |commit| records.extend(commit.records));
        (records, read)
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (records, read) = read_all(&bytes);
            prop_assert!(records.is_empty() && read.is_err());
        }

        /// Values that look like frames of the same store confuse nobody.
        #[test]
        fn damage_shows_a_start_of_the_truth(
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..8),
            inner in any::<bool>(),
            cut in any::<(Index, Index)>(),
            patch in proptest::collection::vec(any::<u8>(), 0..90),
        ) {
            let values = if inner { vec![segment(&values).0; 2] } else { values };
            let (whole, truth) = segment(&values);
            let (from, to) = (cut.0.index(whole.len() + 1), cut.1.index(whole.len() + 1));
            let damaged = [&whole[..from.min(to)], &patch, &whole[from.max(to)..]].concat();
            let (records, read) = read_all(&damaged);
            prop_assert!(records.len() <= truth.len() && records[..] == truth[..records.len()]);
            if let Ok(segment) = read {
                prop_assert_eq!(segment.last, records.len() as u64 + 1);
                prop_assert!(segment.torn.is_some() || segment.bytes == damaged.len());
            }
        }
    }
}
