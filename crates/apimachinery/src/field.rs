//! Field paths and the errors of validation, with upstream's texts (`k8s.io/apimachinery/pkg/util/validation/field`).

use std::fmt::{self, Write as _};

use crate::value::Value;

/// Where in an object a value stands, printed as `spec.containers[0].ports[1].name` or `metadata.labels[app]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(String);

impl FieldPath {
    pub fn root() -> Self {
        Self::default()
    }

    /// A path that starts at a field: `FieldPath::new("spec")`.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let mut path = String::with_capacity(self.0.len() + 1 + name.len());
        path.push_str(&self.0);
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
        Self(path)
    }

    #[must_use]
    pub fn children(&self, names: &[&str]) -> Self {
        names.iter().fold(self.clone(), |path, name| path.child(name))
    }

    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.key(index)
    }

    #[must_use]
    pub fn key(&self, key: impl fmt::Display) -> Self {
        let mut path = self.0.clone();
        write!(path, "[{key}]").expect("writing to a string cannot fail");
        Self(path)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// The kinds of field errors; the names are what `details.causes[].reason` carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    /// As `Invalid`, but the value is not printed.
    InvalidUnshown,
    NotSupported,
    Forbidden,
    TooLong,
    TooShort,
    TooMany,
    TooFew,
    Internal,
    TypeInvalid,
}

impl FieldErrorKind {
    /// The machine-readable reason of a cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid | Self::InvalidUnshown => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooShort => "FieldValueTooShort",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::InvalidUnshown | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooShort => "Too short",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        }
    }
}

/// One reason why an object is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    pub field: String,
    /// What stood there; not printed for required, forbidden, too long, too short and internal errors.
    pub value: Value,
    pub detail: String,
}

impl FieldError {
    /// The text without the field: `Invalid value: -1: must be greater than or equal to 0`.
    pub fn body(&self) -> String {
        let mut text = self.kind.label().to_owned();
        if !matches!(
            self.kind,
            FieldErrorKind::Required
                | FieldErrorKind::InvalidUnshown
                | FieldErrorKind::Forbidden
                | FieldErrorKind::TooLong
                | FieldErrorKind::TooShort
                | FieldErrorKind::Internal
        ) {
            write!(text, ": {}", go_value(&self.value)).expect("writing to a string cannot fail");
        }
        if !self.detail.is_empty() {
            write!(text, ": {}", self.detail).expect("writing to a string cannot fail");
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "<nil>" } else { &self.field };
        write!(f, "{field}: {}", self.body())
    }
}

/// The value as upstream's messages print it: strings quoted, objects as JSON.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::String(text) => go_quoted(text),
        Value::Array(_) | Value::Object(_) => crate::json::to_string(value),
    }
}

/// A string as Go's `%q` prints it.
pub fn go_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => write!(out, "\\x{:02x}", c as u32).expect("writing to a string cannot fail"),
            c if c.is_control() || (c.is_whitespace() && c != ' ') => {
                write!(out, "\\u{:04x}", c as u32).expect("writing to a string cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The errors of one object, in the order they were found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    pub fn push(&mut self, kind: FieldErrorKind, path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) {
        self.0.push(FieldError { kind, field: path.0.clone(), value: value.into(), detail: detail.into() });
    }

    pub fn required(&mut self, path: &FieldPath, detail: impl Into<String>) {
        self.push(FieldErrorKind::Required, path, Value::Null, detail);
    }

    pub fn invalid(&mut self, path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldErrorKind::Invalid, path, value, detail);
    }

    /// An invalid value that says nothing by itself: a whole struct.
    pub fn invalid_unshown(&mut self, path: &FieldPath, detail: impl Into<String>) {
        self.push(FieldErrorKind::InvalidUnshown, path, Value::Null, detail);
    }

    pub fn forbidden(&mut self, path: &FieldPath, detail: impl Into<String>) {
        self.push(FieldErrorKind::Forbidden, path, Value::Null, detail);
    }

    pub fn duplicate(&mut self, path: &FieldPath, value: impl Into<Value>) {
        self.push(FieldErrorKind::Duplicate, path, value, "");
    }

    pub fn not_found(&mut self, path: &FieldPath, value: impl Into<Value>) {
        self.push(FieldErrorKind::NotFound, path, value, "");
    }

    /// `supported` is printed in the order given: `supported values: "A", "B"`.
    pub fn not_supported(&mut self, path: &FieldPath, value: impl Into<Value>, supported: &[&str]) {
        let quoted: Vec<String> = supported.iter().map(|text| go_quoted(text)).collect();
        self.push(FieldErrorKind::NotSupported, path, value, format!("supported values: {}", quoted.join(", ")));
    }

    pub fn too_long(&mut self, path: &FieldPath, bytes_max: usize) {
        let unit = if bytes_max == 1 { "byte" } else { "bytes" };
        self.push(FieldErrorKind::TooLong, path, Value::Null, format!("may not be more than {bytes_max} {unit}"));
    }

    pub fn too_many(&mut self, path: &FieldPath, items: usize, items_max: usize) {
        let unit = if items_max == 1 { "item" } else { "items" };
        let items = i64::try_from(items).unwrap_or(i64::MAX);
        self.push(FieldErrorKind::TooMany, path, items, format!("must have at most {items_max} {unit}"));
    }

    pub fn extend(&mut self, other: FieldErrors) {
        self.0.extend(other.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &FieldError> {
        self.0.iter()
    }
}

impl fmt::Display for FieldErrors {
    /// One error as it is; several as `[a, b]`, each text once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = Vec::with_capacity(self.0.len());
        for error in &self.0 {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        match texts.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fill: impl FnOnce(&FieldPath, &mut FieldErrors), expect: &str) {
        let mut errors = FieldErrors::default();
        fill(&FieldPath::new("spec").child("ports").index(1), &mut errors);
        assert_eq!(errors.to_string(), expect);
    }

    #[test]
    fn texts_are_upstreams() {
        check(|path, e| e.required(path, ""), "spec.ports[1]: Required value");
        check(|path, e| e.invalid(path, -1, "must be positive"), "spec.ports[1]: Invalid value: -1: must be positive");
        check(|path, e| e.invalid(path, "a\"b\n\u{1}", ""), r#"spec.ports[1]: Invalid value: "a\"b\n\x01""#);
        check(|path, e| e.invalid_unshown(path, "one of two"), "spec.ports[1]: Invalid value: one of two");
        check(|path, e| e.too_many(path, 3, 1), "spec.ports[1]: Too many: 3: must have at most 1 item");
        check(|path, e| e.too_long(path, 63), "spec.ports[1]: Too long: may not be more than 63 bytes");
        check(
            |path, e| e.not_supported(path, "x", &["TCP", "UDP"]),
            r#"spec.ports[1]: Unsupported value: "x": supported values: "TCP", "UDP""#,
        );
        check(|path, e| e.duplicate(&path.child("name"), "a"), r#"spec.ports[1].name: Duplicate value: "a""#);
    }

    #[test]
    fn several_errors_are_a_list_with_each_text_once() {
        check(
            |path, e| {
                e.required(path, "");
                e.required(path, "");
                e.forbidden(path, "no");
            },
            "[spec.ports[1]: Required value, spec.ports[1]: Forbidden: no]",
        );
    }
}
