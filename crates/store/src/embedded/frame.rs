//! The frame: the unit that all files of the store consist of.
//!
//! All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | magic `cSf1` |
//! | 4..8 | CRC32C over all that follows, seeded with the store's identity |
//! | 8..12 | the checksum of the frame before it |
//! | 12..16 | payload length |
//! | 16..24 | sequence number: the one before it plus one |
//! | 24..32 | Unix milliseconds when it was written |
//! | 32 | kind |
//! | 33..40 | zero |
//! | 40.. | payload |
//!
//! Sequence number and previous checksum make a chain: a frame that is missing, doubled, out of place or from another
//! store is found, not only one with a flipped bit.

/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 40;
/// Far above what a batch or a snapshot's frame can hold; more is damage.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;
const MAGIC: [u8; 4] = *b"cSf1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first frame of a log segment.
    SegmentStart = 1,
    /// The writes of one flush.
    Commit = 2,
    /// All before it was flushed. Without payload.
    End = 3,
    /// Objects of a snapshot.
    SnapshotObjects = 4,
    /// The last frame of a snapshot.
    SnapshotEnd = 5,
    /// The only frame of the file that a closed store leaves.
    Closed = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::{Closed, Commit, End, SegmentStart, SnapshotEnd, SnapshotObjects};
        [SegmentStart, Commit, End, SnapshotObjects, SnapshotEnd, Closed].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Where the chain of frames stands: what the next frame must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    seed: u32,
    pub(crate) sequence: u64,
    pub(crate) previous: u32,
}

/// A frame whose checksum holds. Whether it is the right one is [`Chain::follow`]'s question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) time_ms: u64,
    pub(crate) payload: &'a [u8],
    previous: u32,
    checksum: u32,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the file ends inside a frame")]
    Truncated,
    #[error("no frame starts here")]
    Magic,
    #[error("a frame's checksum does not hold")]
    Checksum,
    #[error("a frame is of an unknown kind")]
    Kind,
    #[error("a frame is out of sequence")]
    OutOfSequence,
}

impl Chain {
    /// The start of a chain in a store's files.
    pub(crate) fn new(store_id: u64) -> Self {
        Self { seed: crc32c::crc32c(&store_id.to_le_bytes()), sequence: 0, previous: 0 }
    }

    /// The same store's chain at a frame that was found in the middle of it.
    pub(crate) fn joined_at(self, frame: &Frame<'_>) -> Self {
        Self { sequence: frame.sequence, previous: frame.previous, ..self }
    }

    /// The same store's chain at a place that was written down.
    pub(crate) fn at(self, sequence: u64, previous: u32) -> Self {
        Self { sequence, previous, ..self }
    }

    /// Appends a frame to a buffer and moves the chain on.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, kind: Kind, time_ms: u64, payload: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        payload(out);
        let payload_bytes = out.len() - start - HEADER_BYTES;
        assert!(payload_bytes <= PAYLOAD_BYTES_MAX, "batches and snapshot frames are bounded far below this");
        let header = &mut out[start..];
        header[..4].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&self.previous.to_le_bytes());
        header[12..16].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
        header[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        header[24..32].copy_from_slice(&time_ms.to_le_bytes());
        header[32] = kind as u8;
        let checksum = crc32c::crc32c_append(self.seed, &out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
        self.sequence += 1;
        self.previous = checksum;
    }

    /// The payload length that a header announces. The checksum is not looked at yet.
    pub(crate) fn payload_bytes(header: &[u8; HEADER_BYTES]) -> Result<usize, FrameError> {
        if header[..4] != MAGIC {
            return Err(FrameError::Magic);
        }
        let payload_bytes = word32(header, 12) as usize;
        if payload_bytes > PAYLOAD_BYTES_MAX { Err(FrameError::Checksum) } else { Ok(payload_bytes) }
    }

    /// The frame at the start of the bytes, whatever its place in the chain.
    pub(crate) fn read<'a>(&self, bytes: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(FrameError::Truncated)?;
        let payload_bytes = Self::payload_bytes(header)?;
        let frame = bytes.get(..HEADER_BYTES + payload_bytes).ok_or(FrameError::Truncated)?;
        let checksum = word32(header, 4);
        if crc32c::crc32c_append(self.seed, &frame[8..]) != checksum {
            return Err(FrameError::Checksum);
        }
        Ok(Frame {
            kind: Kind::from_byte(header[32]).ok_or(FrameError::Kind)?,
            sequence: word64(header, 16),
            time_ms: word64(header, 24),
            payload: &frame[HEADER_BYTES..],
            previous: word32(header, 8),
            checksum,
        })
    }

    /// Moves on over a frame, if it is the next one.
    pub(crate) fn follow(&mut self, frame: &Frame<'_>) -> Result<(), FrameError> {
        if (frame.sequence, frame.previous) != (self.sequence, self.previous) {
            return Err(FrameError::OutOfSequence);
        }
        self.sequence += 1;
        self.previous = frame.checksum;
        Ok(())
    }

    /// The next frame of the chain, if it stands at the start of the bytes.
    pub(crate) fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let frame = self.read(bytes)?;
        self.follow(&frame)?;
        Ok(frame)
    }

    /// A later frame of the chain anywhere in the bytes, with its place. What is found proves that the chain went on.
    pub(crate) fn find_later<'a>(&self, bytes: &'a [u8]) -> Option<(usize, Frame<'a>)> {
        // Every frame between here and there takes at least a header.
        let newest = self.sequence + (bytes.len() / HEADER_BYTES) as u64;
        let starts = bytes.windows(MAGIC.len()).enumerate().filter(|(_, window)| **window == MAGIC);
        starts.map(|(at, _)| at).find_map(|at| {
            let sequence = bytes.get(at + 16..at + 24)?;
            let sequence = u64::from_le_bytes(sequence.try_into().expect("eight bytes were taken"));
            if sequence <= self.sequence || sequence > newest {
                return None;
            }
            Some((at, self.read(&bytes[at..]).ok()?))
        })
    }
}

impl Frame<'_> {
    /// Bytes that the frame takes in its file.
    pub(crate) fn bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

fn word32(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(header[at..at + 4].try_into().expect("the header is longer"))
}

fn word64(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(header[at..at + 8].try_into().expect("the header is longer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_frames() -> (Chain, Vec<u8>) {
        let start = Chain::new(7);
        let (mut chain, mut bytes) = (start, Vec::new());
        chain.write(&mut bytes, Kind::Commit, 5, |out| out.extend_from_slice(b"one"));
        chain.write(&mut bytes, Kind::End, 6, |_| ());
        (start, bytes)
    }

    #[test]
    fn frames_come_back() {
        let (mut chain, bytes) = two_frames();
        let first = chain.next(&bytes).unwrap();
        assert_eq!((first.kind, first.sequence, first.time_ms, first.payload), (Kind::Commit, 0, 5, &b"one"[..]));
        let second = chain.next(&bytes[first.bytes()..]).unwrap();
        assert_eq!((second.kind, second.sequence, second.payload), (Kind::End, 1, &b""[..]));
        assert_eq!(chain.next(&bytes[first.bytes() + second.bytes()..]), Err(FrameError::Truncated));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (chain, bytes) = two_frames();
        let first_bytes = HEADER_BYTES + 3;
        for bit in 0..first_bytes * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(chain.clone().next(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_of_another_place_or_store_is_refused() {
        let (mut chain, bytes) = two_frames();
        assert_eq!(chain.clone().next(&bytes[HEADER_BYTES + 3..]), Err(FrameError::OutOfSequence));
        assert_eq!(Chain::new(8).next(&bytes), Err(FrameError::Checksum));
        chain.next(&bytes).unwrap();
        assert_eq!(chain.next(&bytes), Err(FrameError::OutOfSequence), "the same frame again");
    }

    #[test]
    fn a_later_frame_is_found_behind_damage() {
        let (chain, mut bytes) = two_frames();
        bytes[10] ^= 1;
        let (at, later) = chain.find_later(&bytes).unwrap();
        assert_eq!((at, later.kind), (HEADER_BYTES + 3, Kind::End));
        bytes[at + 20] ^= 1;
        assert_eq!(chain.find_later(&bytes), None);
    }
}
