//! Values: what variables hold and expressions give.
//!
//! Parts of objects are borrowed, never copied: a list or map of a tree is read through its `Shape` when somebody looks.

mod equal;
mod list;
mod map;
mod order;
mod text;

use std::net::IpAddr;
use std::sync::Arc;

use corten_apimachinery::quantity::Quantity;
use jiff::Timestamp;

use crate::library::authorizer::{Caller, Decision, GroupCheck, PathCheck, ResourceCheck};
use crate::library::cidr::Cidr;
use crate::library::format::Format;
use crate::library::semver::Semver;
use crate::library::urls::Url;

pub use list::List;
pub use map::{Key, Map};
pub use text::Text;

#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    Timestamp(Timestamp),
    /// In nanoseconds.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Value<'a>>>),
    /// A type, by its name.
    Type(Arc<str>),
    /// What an expression made: `Name{field: value}`.
    Struct(Arc<Struct<'a>>),
    /// The variables of the activation that are expressions themselves.
    Composed,
    Ip(IpAddr),
    Cidr(Cidr),
    Quantity(Arc<Quantity>),
    Url(Arc<Url>),
    Format(&'static Format),
    Semver(Arc<Semver>),
    Authorizer(Caller<'a>),
    PathCheck(Arc<PathCheck<'a>>),
    GroupCheck(Arc<GroupCheck<'a>>),
    ResourceCheck(Arc<ResourceCheck<'a>>),
    Decision(Arc<Decision>),
}

#[derive(Debug)]
pub struct Struct<'a> {
    pub name: &'a str,
    /// Those that were given, in that order.
    pub fields: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Value<'a> {
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Owned(text.into()))
    }

    pub fn borrowed(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }

    pub fn list(items: Vec<Self>) -> Self {
        Self::List(List::owned(items))
    }

    /// An optional that holds `value`.
    pub fn some(value: Self) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The name of the value's type, as `type(x)` gives it.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(_) | Self::Composed => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Struct(made) => made.name,
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::PathCheck(_) => "kubernetes.authorization.PathCheck",
            Self::GroupCheck(_) => "kubernetes.authorization.GroupCheck",
            Self::ResourceCheck(_) => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// Whether it is the empty value of its type, which `optional.ofNonZeroValue` leaves out.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(flag) => !flag,
            Self::Int(number) => *number == 0,
            Self::Uint(number) => *number == 0,
            Self::Double(number) => *number == 0.0,
            Self::String(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Duration(nanoseconds) => *nanoseconds == 0,
            Self::List(list) => list.is_empty(),
            Self::Map(map) => map.is_empty(),
            Self::Optional(inner) => inner.as_ref().is_none_or(|inner| inner.is_zero()),
            Self::Struct(made) => made.fields.is_empty(),
            _ => false,
        }
    }

    /// Its size as costs count it: characters, bytes or parts; 1 for what has no size.
    pub(crate) fn size(&self) -> u64 {
        let count = match self {
            Self::String(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Optional(Some(inner)) => return inner.size(),
            Self::Ip(ip) => {
                if ip.is_ipv4() {
                    4
                } else {
                    16
                }
            }
            Self::Cidr(cidr) => usize::from(cidr.bits.div_ceil(8)),
            _ => 1,
        };
        count as u64
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::borrowed(text)
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::string(text)
    }
}
