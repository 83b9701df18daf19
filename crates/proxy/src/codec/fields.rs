//! A head's bytes and where its fields lie in them. One allocation each, used again for the next message.

use std::ops::Range;

use httparse::Header;

use super::Malformed;
use super::name::Name;

/// A part of a head's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The first bytes of it.
    pub(super) fn first(self, length: usize) -> Self {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        Self { start: self.start, end: self.start.saturating_add(length).min(self.end) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Field {
    known: Name,
    name: Span,
    value: Span,
}

/// The fields of a message.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// Connection may name fields of this message.
    nominates: bool,
}

/// What says where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delimiter {
    Length(u64),
    Chunked,
    Nothing,
}

/// What Connection says, as far as it is understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

impl Fields {
    /// Takes a head and its parsed fields, which point into it, in place of what was here.
    pub(super) fn set(&mut self, head: &[u8], headers: &[Header<'_>]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(head);
        self.nominates = true;
        self.fields.clear();
        self.fields.extend(headers.iter().map(|header| Field {
            known: Name::of(header.name.as_bytes()),
            name: span(head, header.name.as_bytes()),
            value: span(head, trimmed(header.value)),
        }));
    }

    pub(super) fn get(&self, span: Span) -> &[u8] {
        &self.bytes[Range { start: span.start as usize, end: span.end as usize }]
    }

    /// All fields in their order: known name, name as written, value without surrounding space.
    pub fn iter(&self) -> impl Iterator<Item = (Name, &[u8], &[u8])> {
        self.fields.iter().map(|field| (field.known, self.get(field.name), self.get(field.value)))
    }

    pub(super) fn spans(&self, name: Name) -> impl Iterator<Item = Span> {
        self.fields.iter().filter(move |field| field.known == name).map(|field| field.value)
    }

    /// Values of every field of a name.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.spans(name).map(|value| self.get(value))
    }

    /// The value of the only field of a name.
    pub fn only(&self, name: Name) -> Option<&[u8]> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }

    pub fn has(&self, name: Name) -> bool {
        self.fields.iter().any(|field| field.known == name)
    }

    /// The first field by a name that the proxy does not know itself.
    pub fn other(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(_, written, _)| written.eq_ignore_ascii_case(name.as_bytes())).map(|(.., value)| value)
    }

    /// Elements of the comma-separated lists of every field of a name.
    pub fn elements(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.all(name).flat_map(|list| list.split(|byte| *byte == b',').map(trimmed)).filter(|item| !item.is_empty())
    }

    /// Whether Connection names this field, which then is for this connection alone.
    pub fn is_nominated(&self, name: &[u8]) -> bool {
        self.nominates && self.elements(Name::Connection).any(|option| option.eq_ignore_ascii_case(name))
    }

    /// Reads Connection. Fields that a message cannot do without are never for one connection alone: who names them wants
    /// them dropped on the way.
    pub(super) fn options(&mut self) -> Result<Options, Malformed> {
        let (mut options, mut nominates) = (Options::default(), false);
        for option in self.elements(Name::Connection) {
            match option {
                _ if option.eq_ignore_ascii_case(b"close") => options.close = true,
                _ if option.eq_ignore_ascii_case(b"keep-alive") => options.keep_alive = true,
                _ if option.eq_ignore_ascii_case(b"upgrade") => options.upgrade = true,
                _ if is_essential(option) => return Err(Malformed::ConnectionNames),
                _ => nominates = true,
            }
        }
        self.nominates = nominates;
        Ok(options)
    }

    /// Reads Content-Length and Transfer-Encoding, which leave no room for two meanings (RFC 9112, 6.1 and 6.3).
    pub(super) fn delimiter(&self) -> Result<Delimiter, Malformed> {
        let mut delimiter = Delimiter::Nothing;
        for (name, _, value) in self.iter() {
            let next = match name {
                Name::ContentLength => Delimiter::Length(length(value)?),
                Name::TransferEncoding if value.eq_ignore_ascii_case(b"chunked") => Delimiter::Chunked,
                Name::TransferEncoding => return Err(Malformed::Encoding),
                _ => continue,
            };
            delimiter = match (delimiter, next) {
                (Delimiter::Nothing, next) => next,
                (Delimiter::Length(_), Delimiter::Length(_)) => return Err(Malformed::LengthRepeated),
                (Delimiter::Chunked, Delimiter::Chunked) => return Err(Malformed::Encoding),
                _ => return Err(Malformed::LengthAndEncoding),
            };
        }
        Ok(delimiter)
    }
}

fn is_essential(name: &[u8]) -> bool {
    let known = Name::of(name);
    matches!(known, Name::Host | Name::ContentLength | Name::TransferEncoding | Name::Expect | Name::Date)
        || known.is_about_client()
        || [&b"cookie"[..], b"authorization", b"content-type"].iter().any(|one| name.eq_ignore_ascii_case(one))
}

/// Digits alone: no sign, no space, no list.
fn length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::LengthSyntax);
    }
    // Nineteen digits are always below 2^64.
    Ok(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Where `part` lies in `whole`, from which it was cut.
pub(super) fn span(whole: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    let fits = |at: usize| u32::try_from(at).expect("a head is far shorter than 4 GiB");
    Span { start: fits(start), end: fits(start + part.len()) }
}

/// Without optional white space around.
pub(super) fn trimmed(bytes: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = bytes.iter().position(|byte| !is_space(byte)) else { return &bytes[..0] };
    let end = bytes.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}
