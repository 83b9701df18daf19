//! Tag, length, value. A record is a sequence of fields: tag (u16), length of the value (u32), value. A list repeats its tag.

use std::ffi::CString;
use std::fmt;

use crate::{ITEMS_MAX, MESSAGE_BYTES_MAX};

/// Set in a tag that a peer must understand or else refuse the whole message.
pub const CRITICAL: u16 = 0x8000;

const FIELD_HEADER: usize = 6;

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    TooLong { length: usize },
    /// Ends inside a header or a value.
    Truncated,
    /// A value that its type cannot hold: wrong length, not text, a zero byte inside, an unknown variant.
    BadValue { tag: u16 },
    /// More than [`ITEMS_MAX`] elements.
    TooMany { tag: u16 },
    /// A critical field that this side does not know.
    NotUnderstood { tag: u16 },
    /// A message that this side does not know; the sender may be told so.
    UnknownKind { kind: u16, id: u32 },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length } => write!(f, "message of {length} bytes, at most {MESSAGE_BYTES_MAX} are read"),
            Self::Truncated => write!(f, "message ends inside a field"),
            Self::BadValue { tag } => write!(f, "field {tag} has a value that does not fit its type"),
            Self::TooMany { tag } => write!(f, "field {tag} has more than {ITEMS_MAX} elements"),
            Self::NotUnderstood { tag } => write!(f, "critical field {tag} is not known here"),
            Self::UnknownKind { kind, .. } => write!(f, "message of kind {kind} is not known here"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// What can stand in a field.
pub(crate) trait Field: Default + PartialEq {
    fn put(&self, tag: u16, out: &mut Vec<u8>);
    /// Takes one occurrence of the field.
    fn take(&mut self, tag: u16, value: &[u8]) -> Result<(), DecodeError>;
}

/// A sequence of fields.
pub(crate) trait Record: Sized {
    fn encode(&self, out: &mut Vec<u8>);
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

pub(crate) fn put_value(tag: u16, value: &[u8], out: &mut Vec<u8>) {
    put_with(tag, out, |out| out.extend_from_slice(value));
}

/// Writes a field whose value `fill` appends. Lengths fit: what comes to 4 GiB is refused long before by the message's limit.
pub(crate) fn put_with(tag: u16, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&tag.to_le_bytes());
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let length = u32::try_from(out.len() - length_at - 4).unwrap_or(u32::MAX);
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Fields of a record, in the order in which they were sent.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u16, &'a [u8]), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(DecodeError::Truncated))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u16, &'a [u8])> {
        let (header, rest) = self.0.split_first_chunk::<FIELD_HEADER>()?;
        let [tag_low, tag_high, length @ ..] = *header;
        let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((u16::from_le_bytes([tag_low, tag_high]), value))
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn put(&self, tag: u16, out: &mut Vec<u8>) {
                put_value(tag, &self.to_le_bytes(), out);
            }
            fn take(&mut self, tag: u16, value: &[u8]) -> Result<(), DecodeError> {
                let bytes = value.try_into().map_err(|_| DecodeError::BadValue { tag })?;
                *self = <$type>::from_le_bytes(bytes);
                Ok(())
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i32, i64);

impl Field for bool {
    fn put(&self, tag: u16, out: &mut Vec<u8>) {
        put_value(tag, &[u8::from(*self)], out);
    }
    fn take(&mut self, tag: u16, value: &[u8]) -> Result<(), DecodeError> {
        *self = match value {
            [0] => false,
            [1] => true,
            _ => return Err(DecodeError::BadValue { tag }),
        };
        Ok(())
    }
}

impl Field for String {
    fn put(&self, tag: u16, out: &mut Vec<u8>) {
        put_value(tag, self.as_bytes(), out);
    }
    fn take(&mut self, tag: u16, value: &[u8]) -> Result<(), DecodeError> {
        let text = str::from_utf8(value).map_err(|_| DecodeError::BadValue { tag })?;
        text.clone_into(self);
        Ok(())
    }
}

/// Paths, arguments, variables: any bytes but zero.
impl Field for CString {
    fn put(&self, tag: u16, out: &mut Vec<u8>) {
        put_value(tag, self.as_bytes(), out);
    }
    fn take(&mut self, tag: u16, value: &[u8]) -> Result<(), DecodeError> {
        *self = CString::new(value).map_err(|_| DecodeError::BadValue { tag })?;
        Ok(())
    }
}

/// Any bytes.
impl Field for Box<[u8]> {
    fn put(&self, tag: u16, out: &mut Vec<u8>) {
        put_value(tag, self, out);
    }
    fn take(&mut self, _: u16, value: &[u8]) -> Result<(), DecodeError> {
        *self = value.into();
        Ok(())
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, tag: u16, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.put(tag, out);
        }
    }
    fn take(&mut self, tag: u16, value: &[u8]) -> Result<(), DecodeError> {
        self.get_or_insert_default().take(tag, value)
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, tag: u16, out: &mut Vec<u8>) {
        for item in self {
            item.put(tag, out);
        }
    }
    fn take(&mut self, tag: u16, value: &[u8]) -> Result<(), DecodeError> {
        if self.len() == ITEMS_MAX {
            return Err(DecodeError::TooMany { tag });
        }
        let mut item = T::default();
        item.take(tag, value)?;
        self.push(item);
        Ok(())
    }
}

/// Declares a record with its fields' tags. A tag is never given a second meaning.
macro_rules! record {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $tag:literal $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl $crate::wire::Record for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $(if self.$field != <$type>::default() {
                    $crate::wire::Field::put(&self.$field, $tag, out);
                })*
            }

            fn decode(bytes: &[u8]) -> Result<Self, $crate::wire::DecodeError> {
                let mut record = Self::default();
                for field in $crate::wire::Fields(bytes) {
                    let (tag, value) = field?;
                    match tag {
                        $($tag => $crate::wire::Field::take(&mut record.$field, tag, value)?,)*
                        _ if tag & $crate::wire::CRITICAL != 0 => {
                            return Err($crate::wire::DecodeError::NotUnderstood { tag });
                        }
                        _ => {}
                    }
                }
                Ok(record)
            }
        }

        impl $crate::wire::Field for $name {
            fn put(&self, tag: u16, out: &mut Vec<u8>) {
                $crate::wire::put_with(tag, out, |out| $crate::wire::Record::encode(self, out));
            }
            fn take(&mut self, _: u16, value: &[u8]) -> Result<(), $crate::wire::DecodeError> {
                *self = $crate::wire::Record::decode(value)?;
                Ok(())
            }
        }
    };
}

/// Declares an enumeration that is sent as a number. A number that is not known is refused: what it asks for cannot be done.
macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub enum $name { $($(#[$variant_meta])* $variant = $number,)* }

        impl Default for $name {
            fn default() -> Self {
                Self::ALL[0]
            }
        }

        impl $name {
            /// Every variant, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The number that is sent.
            pub const fn number(self) -> u16 {
                match self { $(Self::$variant => $number,)* }
            }

            /// The variant of a number, if it is known.
            pub const fn of(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }

        impl $crate::wire::Field for $name {
            fn put(&self, tag: u16, out: &mut Vec<u8>) {
                $crate::wire::Field::put(&self.number(), tag, out);
            }
            fn take(&mut self, tag: u16, value: &[u8]) -> Result<(), $crate::wire::DecodeError> {
                let mut number = 0_u16;
                $crate::wire::Field::take(&mut number, tag, value)?;
                *self = Self::of(number).ok_or($crate::wire::DecodeError::BadValue { tag })?;
                Ok(())
            }
        }
    };
}

pub(crate) use {numbered, record};
