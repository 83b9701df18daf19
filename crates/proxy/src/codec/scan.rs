//! Where a head ends, and that each of its lines ends with CR LF. The field parser would accept a bare LF; nothing here does.

use memchr::memchr;

use super::{Limits, Malformed};

/// How far a head has been looked at, so that a head that comes byte by byte costs no more than one that comes at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// Start of the line that has not ended yet.
    line: usize,
    /// Bytes of that line without a line feed.
    seen: usize,
}

impl Scan {
    /// The length of the head at the start of `bytes`, its empty line included, or nothing yet.
    ///
    /// # Errors
    /// A line without CR; a head beyond its limit.
    pub fn head(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Malformed> {
        let within = &bytes[..bytes.len().min(limits.head_bytes_max)];
        while let Some(at) = memchr(b'\n', &within[self.seen..]) {
            let end = self.seen + at;
            if end == self.line || within[end - 1] != b'\r' {
                return Err(Malformed::BareLineFeed);
            }
            let is_empty = end - 1 == self.line;
            (self.line, self.seen) = (end + 1, end + 1);
            if is_empty {
                return Ok(Some(end + 1));
            }
        }
        self.seen = within.len();
        if within.len() == limits.head_bytes_max { Err(Malformed::HeadTooLong) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &str, expected: Result<Option<usize>, Malformed>) {
        let limits = Limits { head_bytes_max: 20, ..Limits::default() };
        assert_eq!(Scan::default().head(bytes.as_bytes(), &limits), expected, "{bytes:?}");
        let mut scan = Scan::default();
        let one_by_one = (0..=bytes.len()).map(|end| scan.head(&bytes.as_bytes()[..end], &limits));
        let first = one_by_one.into_iter().find(|found| *found != Ok(None));
        assert_eq!(first.unwrap_or(Ok(None)), expected, "{bytes:?} byte by byte");
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        check("a\r\nb\r\n\r\nrest", Ok(Some(8)));
        check("\r\n", Ok(Some(2)));
        check("a\r\nb\r\n", Ok(None));
        check("", Ok(None));
    }

    #[test]
    fn every_line_ends_with_both() {
        check("a\nb\r\n\r\n", Err(Malformed::BareLineFeed));
        check("a\r\n\n", Err(Malformed::BareLineFeed));
        check("\n", Err(Malformed::BareLineFeed));
    }

    #[test]
    fn a_head_has_a_limit() {
        check("0123456789012345678", Ok(None));
        check("01234567890123456789", Err(Malformed::HeadTooLong));
        check("0123456789012345\r\n\r\n", Ok(Some(20)));
        check("01234567890123456\r\n\r\n", Err(Malformed::HeadTooLong));
    }
}
