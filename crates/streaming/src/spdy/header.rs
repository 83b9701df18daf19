//! Header blocks: names and values, compressed with one dictionary and one history for all blocks of a direction.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::dictionary;
use super::frame::FrameError;

/// Bytes of one block after decompression.
pub const BLOCK_BYTES_MAX: usize = 64 * 1024;

/// Headers of one block.
pub const HEADERS_MAX: usize = 256;

/// Names, in lower case, with their values. A value that contains zero bytes is several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The block's bytes before compression.
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_length(self.0.len(), &mut out);
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            put_length(text.len(), &mut out);
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    fn parse(mut bytes: &[u8]) -> Result<Self, FrameError> {
        let count = take_length(&mut bytes)?;
        if count > HEADERS_MAX {
            return Err(FrameError::TooManyHeaders);
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = take_text(&mut bytes)?.to_ascii_lowercase();
            headers.push((name, take_text(&mut bytes)?));
        }
        Ok(Self(headers))
    }
}

fn put_length(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn take_length(bytes: &mut &[u8]) -> Result<usize, FrameError> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(FrameError::BadHeaders)?;
    *bytes = rest;
    usize::try_from(u32::from_be_bytes(*length)).map_err(|_| FrameError::BadHeaders)
}

fn take_text(bytes: &mut &[u8]) -> Result<String, FrameError> {
    let length = take_length(bytes)?;
    let (text, rest) = bytes.split_at_checked(length).ok_or(FrameError::BadHeaders)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).map_err(|_| FrameError::BadHeaders)
}

/// Reads the blocks of one direction, in order.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn read(&mut self, mut block: &[u8]) -> Result<Headers, FrameError> {
        let mut out: Vec<u8> = Vec::new();
        loop {
            if out.len() >= BLOCK_BYTES_MAX {
                return Err(FrameError::HeadersTooLong);
            }
            out.reserve(2048);
            let (read_before, written_before) = (self.0.total_in(), self.0.total_out());
            let result = self.0.decompress_vec(block, &mut out, FlushDecompress::Sync);
            let read = usize::try_from(self.0.total_in() - read_before).unwrap_or(block.len());
            block = &block[read.min(block.len())..];
            match result {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(|_| FrameError::BadHeaders)?;
                }
                Err(_) => return Err(FrameError::BadHeaders),
                // The history must go on: a stream that ends cannot be followed by another block.
                Ok(Status::StreamEnd) => return Err(FrameError::BadHeaders),
                Ok(_) if block.is_empty() && out.len() < out.capacity() => return Headers::parse(&out),
                Ok(_) if read == 0 && self.0.total_out() == written_before => return Err(FrameError::BadHeaders),
                Ok(_) => {}
            }
        }
    }
}

/// Writes the blocks of one direction, in order.
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        compress.set_dictionary(&dictionary()).expect("a new stream takes a dictionary");
        Self(compress)
    }

    pub(super) fn write(&mut self, headers: &Headers) -> Result<Vec<u8>, FrameError> {
        let bytes = headers.bytes();
        let mut rest = bytes.as_slice();
        let mut out = Vec::new();
        loop {
            out.reserve(rest.len() + 128);
            let before = self.0.total_in();
            self.0.compress_vec(rest, &mut out, FlushCompress::Sync).map_err(|_| FrameError::BadHeaders)?;
            let read = usize::try_from(self.0.total_in() - before).unwrap_or(rest.len());
            rest = &rest[read.min(rest.len())..];
            // Room that is left says that the flush is complete.
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        Headers(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn blocks_come_back_with_one_history() {
        let (mut writer, mut reader) = (Deflater::new(), Inflater::new());
        let long = "x".repeat(40_000);
        let blocks =
            [headers(&[("streamtype", "error"), ("port", "80")]), headers(&[]), headers(&[("a", &long)]), headers(&[])];
        for block in blocks {
            let bytes = writer.write(&block).unwrap();
            assert_eq!(reader.read(&bytes), Ok(block));
        }
    }

    #[test]
    fn a_block_does_not_grow_beyond_its_limit() {
        let bytes = Deflater::new().write(&headers(&[("a", &"x".repeat(1 << 20))])).unwrap();
        assert!(bytes.len() < 16 * 1024, "{}", bytes.len());
        assert_eq!(Inflater::new().read(&bytes), Err(FrameError::HeadersTooLong));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for bytes in [&[0, 0, 1][..], &[0, 0, 0, 1], &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff], &[0, 0, 0, 1, 0, 0, 0, 1]] {
            assert_eq!(Headers::parse(bytes), Err(FrameError::BadHeaders));
        }
        assert_eq!(Headers::parse(&[0xff; 4]), Err(FrameError::TooManyHeaders));
        let empty = Inflater::new().read(&[]);
        assert_eq!(empty, Err(FrameError::BadHeaders));
    }
}
