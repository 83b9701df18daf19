//! The form of messages: a header of 16 bytes, a fixed part that depends on the kind, and attributes of length, kind and
//! value, everything padded to four bytes.

pub(crate) const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
const NESTED: u16 = 1 << 15;
const KIND_MASK: u16 = !(3 << 14);

pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;

/// Messages that are sent together, in order.
#[derive(Debug, Default, Clone)]
pub struct Messages {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Messages {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message: its kind, flags, fixed part, and attributes.
    pub fn add(&mut self, kind: u16, flags: u16, fixed: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(fixed);
        pad(&mut self.bytes);
        fill(&mut Attributes(&mut self.bytes));
        let length = u32::try_from(self.bytes.len() - start).expect("a message is far below 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes of all messages.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Numbers the messages from `first`, and asks for an acknowledgement of those chosen.
    pub(crate) fn number(&mut self, first: u32, acknowledged: impl Fn(usize) -> bool) {
        let mut sequence = first;
        for (index, &start) in self.starts.iter().enumerate() {
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
            if acknowledged(index) {
                // The flag is in the low byte of a number of two bytes.
                let flags = u16::from_ne_bytes([self.bytes[start + 6], self.bytes[start + 7]]) | ACK;
                self.bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
            }
            sequence = sequence.wrapping_add(1);
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The attributes of a message in the making.
#[derive(Debug)]
pub struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.with(kind, |out| out.extend_from_slice(value))
    }

    /// A text with the zero byte that ends it.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.with(kind, |out| {
            out.extend_from_slice(value.as_bytes());
            out.push(0);
        })
    }

    /// In the machine's byte order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// In the network's byte order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// In the network's byte order.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Attributes in an attribute.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.with(kind | NESTED, |out| fill(&mut Attributes(out)))
    }

    /// A fixed part inside a nested attribute.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        pad(self.0);
        self
    }

    fn with(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; ATTRIBUTE_HEADER]);
        fill(self.0);
        let length =
            u16::try_from(self.0.len() - start).expect("lists are cut so that an attribute stays below 64 KiB");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        pad(self.0);
        self
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A message from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// The fixed part and the attributes.
    pub body: Vec<u8>,
}

impl Reply {
    /// The attributes behind a fixed part of this length.
    pub fn attributes(&self, fixed: usize) -> impl Iterator<Item = Attribute<'_>> {
        attributes(self.body.get(fixed.next_multiple_of(4)..).unwrap_or_default())
    }
}

/// Splits what was received; `None` when a length does not fit.
pub(crate) fn replies(mut bytes: &[u8]) -> Option<Vec<Reply>> {
    let mut found = Vec::new();
    while bytes.len() >= HEADER {
        let length = usize::try_from(number(bytes.get(..4)?)?).ok()?;
        let body = bytes.get(HEADER..length)?.to_vec();
        let kind = u16::from_ne_bytes(bytes[4..6].try_into().ok()?);
        let flags = u16::from_ne_bytes(bytes[6..8].try_into().ok()?);
        found.push(Reply { kind, flags, sequence: number(&bytes[8..12])?, body });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(found)
}

pub(crate) fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// One attribute of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    pub kind: u16,
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes in it.
    pub fn nested(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        attributes(self.value)
    }

    /// In the machine's byte order.
    pub fn u32(&self) -> Option<u32> {
        number(self.value)
    }

    /// In the network's byte order.
    pub fn be32(&self) -> Option<u32> {
        self.u32().map(u32::from_be)
    }

    /// A text, without the zero byte that ends it.
    pub fn text(&self) -> String {
        let end = self.value.iter().position(|&byte| byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(&self.value[..end]).into_owned()
    }
}

/// The attributes in a piece of a message, up to the first that does not fit.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & KIND_MASK;
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        let mut messages = Messages::new();
        messages.add(7, 0x100, &[1, 2, 3], |a| {
            a.text(1, "abc").nest(2, |a| {
                a.be32(3, 5).u32(4, 6);
            });
        });
        messages.add(8, 0, &[], |_| {});
        messages.number(40, |index| index == 1);
        let replies = replies(messages.bytes()).unwrap();
        assert_eq!(
            replies.iter().map(|r| (r.kind, r.flags, r.sequence)).collect::<Vec<_>>(),
            [(7, 0x101, 40), (8, 5, 41)]
        );
        let attributes: Vec<_> = replies[0].attributes(3).collect();
        assert_eq!((attributes[0].kind, attributes[0].text()), (1, "abc".to_owned()));
        let nested: Vec<_> = attributes[1].nested().collect();
        assert_eq!((nested[0].be32(), nested[1].u32()), (Some(5), Some(6)));
    }

    #[test]
    fn lengths_that_do_not_fit_end_the_reading() {
        assert_eq!(replies(&[255; 20]), None);
        assert_eq!(attributes(&[9, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0, 1, 0, 0, 0]).count(), 0);
        assert_eq!(attributes(&[4, 0, 1, 0, 4, 0, 2]).count(), 1);
    }
}
