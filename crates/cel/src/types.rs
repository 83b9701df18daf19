//! Types of expressions: what the checker infers, and what declarations say.

use std::fmt;
use std::sync::Arc;

/// A type. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Decided when the expression runs.
    Dyn,
    /// What could not be inferred because something is wrong already: fits everywhere, so that one mistake is told once.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// A type with fields, by its name.
    Object(Arc<str>),
    /// An abstract type with parameters: `optional_type(T)`, `net.IP`.
    Opaque(Arc<str>, Arc<[Type]>),
    /// The type of a type.
    Type(Option<Arc<Type>>),
    /// A parameter of a function's signature, or a variable of the inference.
    Param(Arc<str>),
}

/// The name of the type of optional values.
const OPTIONAL: &str = "optional_type";

impl Type {
    pub fn list(item: Self) -> Self {
        Self::List(Arc::new(item))
    }

    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    pub fn object(name: &str) -> Self {
        Self::Object(name.into())
    }

    pub fn opaque(name: &str) -> Self {
        Self::Opaque(name.into(), Arc::new([]))
    }

    pub fn optional(inner: Self) -> Self {
        Self::Opaque(OPTIONAL.into(), Arc::new([inner]))
    }

    pub(crate) fn param(name: impl Into<Arc<str>>) -> Self {
        Self::Param(name.into())
    }

    /// What an optional holds; `None` for every other type.
    pub fn unwrapped(&self) -> Option<&Self> {
        match self {
            Self::Opaque(name, parameters) if &**name == OPTIONAL => parameters.first(),
            _ => None,
        }
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// Whether null may stand for a value of it.
    pub(crate) fn takes_null(&self) -> bool {
        matches!(self, Self::Null | Self::Opaque(..) | Self::Object(_) | Self::Duration | Self::Timestamp)
    }

    /// The types of its parts.
    pub(crate) fn parameters(&self) -> Vec<&Self> {
        match self {
            Self::List(item) => vec![item],
            Self::Map(pair) => vec![&pair.0, &pair.1],
            Self::Opaque(_, parameters) => parameters.iter().collect(),
            Self::Type(Some(inner)) => vec![inner],
            _ => Vec::new(),
        }
    }

    /// The same type with each of its parts replaced.
    pub(crate) fn with_parameters(&self, mut replace: impl FnMut(&Self) -> Self) -> Self {
        match self {
            Self::List(item) => Self::list(replace(item)),
            Self::Map(pair) => Self::map(replace(&pair.0), replace(&pair.1)),
            Self::Opaque(name, parameters) => Self::Opaque(name.clone(), parameters.iter().map(replace).collect()),
            Self::Type(Some(inner)) => Self::Type(Some(Arc::new(replace(inner)))),
            other => other.clone(),
        }
    }

    /// The name that a type has as a value, as in `type(x) == int`.
    pub fn runtime_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Duration => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Dyn => "dyn",
            Self::Error => "!error!",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Object(name) | Self::Opaque(name, _) | Self::Param(name) => name,
            Self::Type(_) => "type",
        }
    }

    /// The type of this name that every expression may use as a value.
    pub(crate) fn well_known(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "double" => Self::Double,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "list" => Self::list(Self::Dyn),
            "map" => Self::map(Self::Dyn, Self::Dyn),
            "null_type" => Self::Null,
            "type" => Self::Type(None),
            "google.protobuf.Timestamp" => Self::Timestamp,
            "google.protobuf.Duration" => Self::Duration,
            OPTIONAL => Self::optional(Self::Dyn),
            "net.IP" | "net.CIDR" => Self::opaque(name),
            _ => return None,
        })
    }

    /// Reads a type as signatures are written: `list(T)`, `map(string, int)`, `optional(V)`; one capital letter is a parameter,
    /// a name with a dot an object.
    fn read(text: &str) -> Self {
        let text = text.trim();
        if let Some((head, rest)) = text.split_once('(') {
            let inside = rest.strip_suffix(')').expect("parentheses of a signature match");
            let mut parts = split_parts(inside).into_iter().map(Self::read);
            let mut next = || parts.next().expect("a signature names every parameter");
            return match head {
                "list" => Self::list(next()),
                "map" => {
                    let key = next();
                    Self::map(key, next())
                }
                "optional" => Self::optional(next()),
                "type" => Self::Type(Some(Arc::new(next()))),
                other => unreachable!("no type {other}(..) in signatures"),
            };
        }
        match text {
            "dyn" => Self::Dyn,
            "null" => Self::Null,
            "timestamp" => Self::Timestamp,
            "duration" => Self::Duration,
            name if name.len() == 1 => Self::param(name),
            name => Self::well_known(name).unwrap_or_else(|| Self::object(name)),
        }
    }
}

/// As the checker's messages show a type.
impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Null => "null",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            other => other.runtime_name(),
        };
        out.write_str(name)?;
        let parameters = self.parameters();
        if parameters.is_empty() {
            return Ok(());
        }
        out.write_str("(")?;
        for (index, parameter) in parameters.iter().enumerate() {
            if index > 0 {
                out.write_str(", ")?;
            }
            write!(out, "{parameter}")?;
        }
        out.write_str(")")
    }
}

/// Splits at the commas that are in no parentheses.
fn split_parts(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

/// What a function takes and gives in one of its forms.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    /// Whether it is called on its first argument: `a.f(b)`.
    pub(crate) member: bool,
    pub(crate) arguments: Vec<Type>,
    pub(crate) result: Type,
}

impl Signature {
    /// Reads `string.(int) -> bool` or `(string, int) -> bool`.
    pub(crate) fn read(text: &str) -> Self {
        let (call, result) = text.split_once("->").expect("a signature has a result");
        let call = call.trim();
        let (target, inside) = match call.strip_prefix('(') {
            Some(inside) => (None, inside),
            None => {
                let (target, inside) = call.split_once(".(").expect("a signature has arguments");
                (Some(Type::read(target)), inside)
            }
        };
        let inside = inside.strip_suffix(')').expect("parentheses of a signature match");
        let member = target.is_some();
        let arguments = target.into_iter().chain(split_parts(inside).into_iter().map(Type::read)).collect();
        Self { member, arguments, result: Type::read(result) }
    }
}

/// The arguments of a call as messages show them.
pub(crate) fn applied_to(arguments: &[Type], member: bool) -> String {
    let list = |types: &[Type]| types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
    match arguments.split_first() {
        Some((target, rest)) if member => format!("{target}.({})", list(rest)),
        _ => format!("({})", list(arguments)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_reads_as_it_is_shown() {
        let signature = Signature::read("list(T).(map(string, T), optional(kubernetes.Quantity)) -> type(int)");
        assert!(signature.member);
        let shown = applied_to(&signature.arguments, true);
        assert_eq!(shown, "list(T).(map(string, T), optional_type(kubernetes.Quantity))");
        assert_eq!(signature.result.to_string(), "type(int)");
        assert_eq!(applied_to(&Signature::read("() -> timestamp").arguments, false), "()");
    }
}
