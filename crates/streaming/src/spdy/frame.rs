//! Frames of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00): control frames with a version and a type, data frames with a stream.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::header::{Deflater, Headers, Inflater};
use crate::CHUNK_BYTES_MAX;

/// Bytes of one control frame behind its header. Data frames are handed on in pieces and need no limit of their own.
pub const CONTROL_BYTES_MAX: usize = 64 * 1024;

const HEADER_BYTES: usize = 8;
const VERSION: u16 = 3;
const FIN: u8 = 1;
const STREAM_MASK: u32 = 0x7fff_ffff;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Why bytes are no frames. After one of these nothing on the connection can be understood any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("version {0} of SPDY is not spoken here")]
    Version(u16),
    #[error("control frame of {0} bytes, at most {CONTROL_BYTES_MAX} are read")]
    TooLong(usize),
    #[error("control frame of type {0} is too short")]
    TooShort(u16),
    #[error("header block that cannot be read")]
    BadHeaders,
    #[error("header block is too long")]
    HeadersTooLong,
    #[error("header block has too many headers")]
    TooManyHeaders,
}

/// One frame; of data, as much as has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    SynReply {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last: u32,
    },
    Headers {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    WindowUpdate {
        stream: u32,
        delta: u32,
    },
    Data {
        stream: u32,
        fin: bool,
        bytes: Bytes,
    },
    /// Of a type that is not known, or that changes nothing here (settings).
    Other,
}

/// Statuses of [`Frame::Reset`].
pub mod status {
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const REFUSED_STREAM: u32 = 3;
    pub const CANCEL: u32 = 5;
}

/// Reads the frames of one direction.
pub struct Decoder {
    inflater: Inflater,
    /// The data frame that is being read: stream, bytes that are missing, whether it is the last.
    data: Option<(u32, usize, bool)>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflater: Inflater::new(), data: None }
    }
}

impl Decoder {
    /// Takes the next frame out of what has come; none when more must come first.
    ///
    /// # Errors
    /// When the connection cannot be understood.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if let Some(data) = self.data {
            return Ok(self.data(data, buffer));
        }
        let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [word @ .., flags, high, middle, low] = *header;
        let word = u32::from_be_bytes(word);
        let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap_or(usize::MAX);
        if word & !STREAM_MASK == 0 {
            buffer.advance(HEADER_BYTES);
            return Ok(self.data((word, length, flags & FIN != 0), buffer));
        }
        let [version_high, version_low, kind @ ..] = (word & STREAM_MASK).to_be_bytes();
        let version = u16::from_be_bytes([version_high, version_low]);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if length > CONTROL_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        if buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        buffer.advance(HEADER_BYTES);
        let body = buffer.split_to(length);
        self.control(u16::from_be_bytes(kind), flags & FIN != 0, &body).map(Some)
    }

    fn data(&mut self, (stream, missing, fin): (u32, usize, bool), buffer: &mut BytesMut) -> Option<Frame> {
        let bytes = buffer.split_to(missing.min(buffer.len()).min(CHUNK_BYTES_MAX)).freeze();
        let left = missing - bytes.len();
        self.data = (left > 0).then_some((stream, left, fin));
        let empty = bytes.is_empty() && left > 0;
        (!empty).then_some(Frame::Data { stream, fin: fin && left == 0, bytes })
    }

    fn control(&mut self, kind: u16, fin: bool, body: &[u8]) -> Result<Frame, FrameError> {
        let word = |at: usize| {
            let bytes = body.get(at..).and_then(|rest| rest.first_chunk::<4>());
            bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or(FrameError::TooShort(kind))
        };
        let stream = || word(0).map(|word| word & STREAM_MASK);
        let block = |at: usize| body.get(at..).ok_or(FrameError::TooShort(kind));
        Ok(match kind {
            // Behind the stream: the one that it belongs to, priority, slot.
            SYN_STREAM => Frame::SynStream { stream: stream()?, fin, headers: self.inflater.read(block(10)?)? },
            SYN_REPLY => Frame::SynReply { stream: stream()?, fin, headers: self.inflater.read(block(4)?)? },
            HEADERS => Frame::Headers { stream: stream()?, fin, headers: self.inflater.read(block(4)?)? },
            RST_STREAM => Frame::Reset { stream: stream()?, status: word(4)? },
            PING => Frame::Ping { id: word(0)? },
            GOAWAY => Frame::GoAway { last: stream()? },
            WINDOW_UPDATE => Frame::WindowUpdate { stream: stream()?, delta: word(4)? & STREAM_MASK },
            _ => Frame::Other,
        })
    }
}

/// Writes the frames of one direction.
pub struct Encoder(Deflater);

impl Default for Encoder {
    fn default() -> Self {
        Self(Deflater::new())
    }
}

impl Encoder {
    /// Appends a frame's bytes.
    ///
    /// # Errors
    /// When headers cannot be compressed.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), FrameError> {
        match frame {
            Frame::SynStream { stream, fin, headers } => {
                let block = self.0.write(headers)?;
                control(SYN_STREAM, *fin, &[&stream.to_be_bytes(), &[0; 6], &block], out);
            }
            Frame::SynReply { stream, fin, headers } => {
                let block = self.0.write(headers)?;
                control(SYN_REPLY, *fin, &[&stream.to_be_bytes(), &block], out);
            }
            Frame::Headers { stream, fin, headers } => {
                let block = self.0.write(headers)?;
                control(HEADERS, *fin, &[&stream.to_be_bytes(), &block], out);
            }
            Frame::Reset { stream, status } => {
                control(RST_STREAM, false, &[&stream.to_be_bytes(), &status.to_be_bytes()], out);
            }
            Frame::Ping { id } => control(PING, false, &[&id.to_be_bytes()], out),
            Frame::GoAway { last } => control(GOAWAY, false, &[&last.to_be_bytes(), &[0; 4]], out),
            Frame::WindowUpdate { stream, delta } => {
                control(WINDOW_UPDATE, false, &[&stream.to_be_bytes(), &delta.to_be_bytes()], out);
            }
            Frame::Data { stream, fin, bytes } => {
                out.put_u32(stream & STREAM_MASK);
                put_length(*fin, bytes.len(), out);
                out.extend_from_slice(bytes);
            }
            Frame::Other => {}
        }
        Ok(())
    }
}

fn control(kind: u16, fin: bool, parts: &[&[u8]], out: &mut BytesMut) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_length(fin, parts.iter().map(|part| part.len()).sum(), out);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Flags and the length in three bytes: pieces of data and header blocks are far below 16 MiB.
fn put_length(fin: bool, length: usize, out: &mut BytesMut) {
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    out.put_u32(u32::from(fin) << 24 | length);
}
