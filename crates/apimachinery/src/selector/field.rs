//! Field selectors: `metadata.name=a,spec.nodeName!=b` (`k8s.io/apimachinery/pkg/fields`).

use std::fmt;

use super::SelectorError;
use crate::value::Str;

/// All terms must hold. Without terms it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

/// `field=value` or `field!=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub field: Str,
    pub negated: bool,
    pub value: Str,
}

impl FieldSelector {
    /// Reads a selector; backslashes in values escape `,`, `=` and themselves.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, negated, value)) = split_term(part) else {
                return Err(SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")));
            };
            terms.push(FieldTerm { field: field.into(), negated, value: unescape(value)? });
        }
        Ok(Self { terms })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Whether an object whose fields are read by `value` is selected; a field that is absent is `""`.
    pub fn matches<'a>(&self, value: impl Fn(&str) -> &'a str) -> bool {
        self.terms.iter().all(|term| (value(&term.field) == term.value.as_str()) != term.negated)
    }

    /// The value that a field must have, if there is just one: what an index can be asked for.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let term = self.terms.iter().find(|term| !term.negated && term.field == field)?;
        Some(&term.value)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = if term.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

/// A value as it may stand in a selector's text.
pub fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '\\' | ',' | '=') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

fn unescape(text: &str) -> Result<Str, SelectorError> {
    let invalid =
        |sequence: &str| SelectorError(format!("invalid field selector: invalid escape sequence: {sequence}"));
    let mut value = Str::default();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => value.push(escaped),
                Some(other) => return Err(invalid(&format!("\\{other}"))),
                None => return Err(invalid("\\")),
            },
            ',' | '=' => {
                let code = u32::from(character);
                return Err(SelectorError(format!("invalid field selector: unescaped character in value: {code}")));
            }
            other => value.push(other),
        }
    }
    Ok(value)
}

/// The pieces between commas that no backslash precedes.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Splits at the first operator.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = (0..term.len()).find(|at| matches!(&term.as_bytes()[*at..], [b'=', ..] | [b'!', b'=', ..]))?;
    let (field, rest) = term.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, true, value));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((field, false, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, again) in [
            ("", ""),
            (",", ""),
            ("b!=2,a==1", "a=1,b!=2"),
            ("a=x\\,y\\=z\\\\", "a=x\\,y\\=z\\\\"),
            ("a=", "a="),
            ("=a", "=a"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().to_string(), again);
        }
    }

    #[test]
    fn refuses() {
        for (text, error) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("a=b,x!y", "invalid selector: 'a=b,x!y'; can't understand 'x!y'"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
            ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn matches() {
        let read = |field: &str| if field == "metadata.name" { "a" } else { "" };
        for (text, expect) in [
            ("", true),
            ("metadata.name=a", true),
            ("metadata.name!=a", false),
            ("spec.nodeName=", true),
            ("spec.nodeName!=", false),
            ("metadata.name=a,spec.nodeName=n", false),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(read), expect, "{text}");
        }
        assert_eq!(FieldSelector::parse("a!=1,b=2").unwrap().exact("b"), Some("2"));
        assert_eq!(FieldSelector::parse("a!=1,b=2").unwrap().exact("a"), None);
    }
}
