//! Chunked bodies (RFC 9112, 7.1), read byte by byte where they are framing and at once where they are data.
//!
//! Extensions are read and dropped, within limits; trailers too. Both were used to smuggle requests past readers that end a
//! line at a bare LF, so a line here ends with CR LF and holds nothing below a space but a tab.

use super::body::Piece;
use super::{Limits, Malformed};

/// Digits of a size: what fits into 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

/// The state between two pieces.
#[derive(Clone, Copy, Debug)]
pub struct Chunked {
    at: At,
    overhead_left: u32,
    trailer_left: u32,
    overhead_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size {
        value: u64,
        digits: u8,
    },
    /// After the semicolon.
    Extension {
        value: u64,
    },
    /// After the CR of the size's line.
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    /// After the data, before its CR.
    DataCr,
    DataLf,
    /// At the start of a line after the last chunk.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    /// After the CR of the last line.
    LastLf,
    Done,
}

impl Chunked {
    pub fn new(limits: &Limits) -> Self {
        Self {
            at: At::Size { value: 0, digits: 0 },
            overhead_left: limits.chunk_overhead_bytes_max,
            trailer_left: limits.trailer_bytes_max,
            overhead_max: limits.chunk_overhead_bytes_max,
        }
    }

    pub fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// The next piece of data in `input`; what stands before it is framing. Without data all of `input` is framing, up to the
    /// body's end.
    pub(super) fn piece(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        for (skip, byte) in input.iter().enumerate() {
            match self.at {
                At::Done => return Ok(Piece { skip, data: 0 }),
                At::Data { left } => {
                    let data = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - skip);
                    let left = left - data as u64;
                    self.at = if left == 0 { At::DataCr } else { At::Data { left } };
                    self.overhead_left = self.overhead_max;
                    return Ok(Piece { skip, data });
                }
                _ => self.at = self.framing(*byte)?,
            }
        }
        Ok(Piece { skip: input.len(), data: 0 })
    }

    fn framing(&mut self, byte: u8) -> Result<At, Malformed> {
        match self.at {
            At::Size { .. } | At::Extension { .. } | At::SizeEnd { .. } => {
                self.overhead_left = self.overhead_left.checked_sub(1).ok_or(Malformed::ChunkOverhead)?;
                self.size_line(byte)
            }
            At::DataCr if byte == b'\r' => Ok(At::DataLf),
            At::DataLf if byte == b'\n' => Ok(At::Size { value: 0, digits: 0 }),
            At::DataCr | At::DataLf => Err(Malformed::Chunk),
            _ => {
                self.trailer_left = self.trailer_left.checked_sub(1).ok_or(Malformed::Trailer)?;
                trailer(self.at, byte)
            }
        }
    }

    fn size_line(&self, byte: u8) -> Result<At, Malformed> {
        match (self.at, byte) {
            (At::Size { value, digits: 1.. }, b'\r') | (At::Extension { value }, b'\r') => Ok(At::SizeEnd { value }),
            (At::Size { value, digits: 1.. }, b';') => Ok(At::Extension { value }),
            (At::Size { value, digits }, _) if digits < SIZE_DIGITS_MAX => {
                let digit = (byte as char).to_digit(16).ok_or(Malformed::Chunk)?;
                Ok(At::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
            }
            (At::Extension { value }, _) if is_text(byte) => Ok(At::Extension { value }),
            (At::SizeEnd { value: 0 }, b'\n') => Ok(At::Trailer),
            (At::SizeEnd { value }, b'\n') => Ok(At::Data { left: value }),
            _ => Err(Malformed::Chunk),
        }
    }
}

fn trailer(at: At, byte: u8) -> Result<At, Malformed> {
    match (at, byte) {
        (At::Trailer, b'\r') => Ok(At::LastLf),
        (At::LastLf, b'\n') => Ok(At::Done),
        (At::TrailerName, b':') => Ok(At::TrailerValue),
        (At::Trailer | At::TrailerName, _) if is_token(byte) => Ok(At::TrailerName),
        (At::TrailerValue, b'\r') => Ok(At::TrailerLf),
        (At::TrailerValue, _) if is_text(byte) => Ok(At::TrailerValue),
        (At::TrailerLf, b'\n') => Ok(At::Trailer),
        _ => Err(Malformed::Trailer),
    }
}

/// Visible, space, tab, or beyond ASCII.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Writes `data` as one chunk.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut shift = (usize::BITS - data.len().leading_zeros()).div_ceil(4) * 4;
    while shift > 0 {
        shift -= 4;
        out.push(DIGITS[data.len() >> shift & 15]);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// The chunk that ends a body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::super::body::Body;
    use super::*;

    /// The data of a body and what follows it.
    #[track_caller]
    fn check(input: &str, expected: Result<(&str, &str), Malformed>) {
        let limits = Limits { chunk_overhead_bytes_max: 40, trailer_bytes_max: 20, ..Limits::default() };
        let mut body = Body::Chunked(Chunked::new(&limits));
        let (mut at, mut data) = (0, Vec::new());
        let outcome = loop {
            match body.piece(&input.as_bytes()[at..]) {
                Err(error) => break Err(error),
                Ok(piece) => {
                    data.extend_from_slice(&input.as_bytes()[at + piece.skip..at + piece.skip + piece.data]);
                    at += piece.skip + piece.data;
                    if body.is_done() || at == input.len() {
                        break Ok(());
                    }
                }
            }
        };
        let outcome = outcome.map(|()| (str::from_utf8(&data).unwrap(), &input[at..]));
        assert_eq!(outcome, expected, "{input:?}");
        assert!(outcome.is_err() || body.is_done(), "{input:?} does not end");
    }

    #[test]
    fn data_comes_out() {
        check("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nrest", Ok(("abcde", "rest")));
        check("0\r\n\r\n", Ok(("", "")));
        check("00A;x=\"y\"\r\n0123456789\r\n0\r\nX: y\r\n\r\n", Ok(("0123456789", "")));
    }

    #[test]
    fn what_is_unclear_is_refused() {
        for bad in
            ["\r\n", ";x\r\n", "g\r\n", "0x3\r\n", "+3\r\n", "-1\r\n", " 3\r\n", "3 \r\n", "3\n", "3\rabc", "3_0\r\n"]
        {
            check(bad, Err(Malformed::Chunk));
        }
        for bad in ["3;a\nabc", "3;\0\r\n", "3\r\nabcd\r\n", "3\r\nabc\n", "3\r\nabc0\r\n\r\n", "00000000000000003\r\n"]
        {
            check(bad, Err(Malformed::Chunk));
        }
        for bad in ["0\r\nX y\r\n\r\n", "0\r\n X: y\r\n\r\n", "0\r\nX: y\n\r\n", "0\r\n: y\r\n\r\n", "0\r\nX\r\n"] {
            check(bad, Err(Malformed::Trailer));
        }
    }

    #[test]
    fn framing_has_limits() {
        check(&format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(40)), Err(Malformed::ChunkOverhead));
        check(&format!("0\r\nX: {}\r\n\r\n", "y".repeat(20)), Err(Malformed::Trailer));
    }

    #[test]
    fn a_chunk_is_written_as_it_is_read() {
        for length in [1, 9, 10, 15, 16, 255, 256, 4096, 65_535] {
            let mut out = Vec::new();
            write_chunk(&mut out, &vec![b'x'; length]);
            assert_eq!(out.len(), format!("{length:x}").len() + 4 + length);
            assert!(out.starts_with(format!("{length:x}\r\n").as_bytes()));
        }
    }
}
