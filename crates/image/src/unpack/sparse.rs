//! Sparse files in PAX form: a map of where the data lies, and the data without what is between. GNU tar writes version 1.0 (the
//! map comes before the data) today and wrote 0.1 (the map is a record) before; both are in its manual, "Sparse Formats".

use std::io::{self, BufRead as _, BufReader, Read};

/// Pieces of data in one file.
const PIECES_MAX: usize = 1 << 20;
const BLOCK_BYTES: usize = 512;

/// What the records say, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) name: Option<Vec<u8>>,
    version: Option<(u64, u64)>,
    size: Option<u64>,
    map: Option<Vec<(u64, u64)>>,
}

/// Where data lies: offsets and lengths, in order; and the size of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) pieces: Vec<(u64, u64)>,
    pub(super) size: u64,
}

impl Records {
    /// Takes a record whose key begins with `GNU.sparse.`; false when it means nothing.
    pub(super) fn take(&mut self, key: &str, value: &[u8]) -> bool {
        let text = std::str::from_utf8(value).unwrap_or_default();
        let number = || text.parse().ok();
        match key {
            "GNU.sparse.name" => self.name = Some(value.to_vec()),
            "GNU.sparse.major" => self.version = number().map(|major| (major, self.version.map_or(0, |v| v.1))),
            "GNU.sparse.minor" => self.version = number().map(|minor| (self.version.map_or(0, |v| v.0), minor)),
            "GNU.sparse.realsize" | "GNU.sparse.size" => self.size = number(),
            "GNU.sparse.map" => self.map = pairs(text.split(',')),
            "GNU.sparse.numblocks" => {}
            _ => return false,
        }
        true
    }

    /// The map; read from the data where the records do not hold it.
    pub(super) fn map(&mut self, data: &mut impl Read) -> io::Result<Map> {
        let wrong = || io::Error::other("the map of a sparse file is malformed");
        let pieces = match (self.version, self.map.take()) {
            (Some((1, 0)), None) => read_map(data)?,
            (None | Some((0, 1)), Some(map)) => map,
            _ => return Err(wrong()),
        };
        let size = self.size.ok_or_else(wrong)?;
        let mut end = 0;
        for (offset, length) in &pieces {
            if *offset < end {
                return Err(wrong());
            }
            end = offset.checked_add(*length).filter(|end| *end <= size).ok_or_else(wrong)?;
        }
        Ok(Map { pieces, size })
    }
}

/// Decimal numbers, one a line: how many pieces, then offset and length of each; filled up to whole blocks.
fn read_map(data: &mut impl Read) -> io::Result<Vec<(u64, u64)>> {
    let mut lines = Blocks { data, block: BufReader::new(io::Cursor::new(Vec::new())) };
    let count = lines.number()?;
    if count > PIECES_MAX as u64 {
        return Err(io::Error::other(format!("a sparse file has more than {PIECES_MAX} pieces")));
    }
    (0..count).map(|_| Ok((lines.number()?, lines.number()?))).collect()
}

/// Reads lines by whole blocks, so that what follows the last block is left alone.
struct Blocks<'a, R> {
    data: &'a mut R,
    block: BufReader<io::Cursor<Vec<u8>>>,
}

impl<R: Read> Blocks<'_, R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut line = Vec::new();
        loop {
            self.block.read_until(b'\n', &mut line)?;
            if line.pop_if(|last| *last == b'\n').is_some() {
                let text = std::str::from_utf8(&line).ok();
                let number = text.and_then(|text| text.parse().ok());
                return number.ok_or_else(|| io::Error::other("the map of a sparse file is malformed"));
            }
            if line.len() > BLOCK_BYTES {
                return Err(io::Error::other("the map of a sparse file is malformed"));
            }
            let mut block = vec![0; BLOCK_BYTES];
            self.data.read_exact(&mut block)?;
            self.block = BufReader::new(io::Cursor::new(block));
        }
    }
}

fn pairs<'a>(mut numbers: impl Iterator<Item = &'a str>) -> Option<Vec<(u64, u64)>> {
    let mut pairs = Vec::new();
    while let Some(offset) = numbers.next() {
        if pairs.len() == PIECES_MAX {
            return None;
        }
        pairs.push((offset.parse().ok()?, numbers.next()?.parse().ok()?));
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(of: &[(&str, &str)]) -> Records {
        let mut records = Records::default();
        for (key, value) in of {
            assert!(records.take(&format!("GNU.sparse.{key}"), value.as_bytes()), "{key}");
        }
        records
    }

    #[test]
    fn maps_are_read_in_both_versions() {
        let mut data = b"2\n0\n5\n4096\n3\n".to_vec();
        data.resize(BLOCK_BYTES, 0);
        data.extend(b"helloabc");
        let mut reader = data.as_slice();
        let mut first = records(&[("major", "1"), ("minor", "0"), ("name", "a"), ("realsize", "8192")]);
        let expected = Map { pieces: vec![(0, 5), (4096, 3)], size: 8192 };
        assert_eq!((first.map(&mut reader).expect("well formed"), reader), (expected, &b"helloabc"[..]));
        let mut second = records(&[("size", "9"), ("numblocks", "1"), ("map", "0,5")]);
        assert_eq!(second.map(&mut io::empty()).expect("well formed"), Map { pieces: vec![(0, 5)], size: 9 });
    }

    #[test]
    fn maps_that_lie_are_refused() {
        let refuse = |size: &str, map: &str| {
            records(&[("size", size), ("map", map)]).map(&mut io::empty()).expect_err(map);
        };
        refuse("9", "0,10");
        refuse("99", "10,5,12,5");
        refuse("99", "18446744073709551615,5");
        refuse("99", "1");
        let endless = records(&[("major", "1"), ("minor", "0"), ("realsize", "1")]).map(&mut io::repeat(b'1'));
        assert!(endless.is_err());
        assert!(!Records::default().take("GNU.sparse.offset", b"1"));
    }
}
