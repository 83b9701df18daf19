//! The JSONPath of custom resources' printer columns and of `kubectl -o jsonpath` expressions without templates:
//! fields, quoted fields, indexes from either end, slices, `*`, `..` and filters that compare one field.
//! Syntax after <https://kubernetes.io/docs/reference/kubectl/jsonpath/>.

use std::str::Chars;

use crate::value::{Str, Value};

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

/// A text that is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonPathError(String);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(Str),
    Index(i64),
    /// `[start:end]`, either open.
    Slice(Option<i64>, Option<i64>),
    /// `*`: all fields or items.
    All,
    /// `..`: the value and everything below it.
    Descend,
    Filter(Filter),
}

/// `?(@.field == literal)`, or `?(@.field)`: it is there.
#[derive(Clone, Debug, PartialEq)]
struct Filter {
    path: Vec<Step>,
    test: Option<(Comparison, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// In the order in which they are tried: longer signs first.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// Values that one expression may find; what is beyond is not looked for.
const FOUND_MAX: usize = 10_000;

impl JsonPath {
    /// Reads `.spec.replicas`, with or without `$` in front.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let path = text.strip_prefix('$').unwrap_or(text);
        if path.is_empty() {
            return Err(JsonPathError("is an empty path".to_owned()));
        }
        let mut parser = Parser { text, rest: path.chars() };
        let steps = parser.steps()?;
        match parser.rest.as_str() {
            "" => Ok(Self(steps)),
            rest => Err(parser.error(&format!("unexpected {rest:?}"))),
        }
    }

    /// All values that the path names, in document order.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        walk(&self.0, root)
    }

    pub fn first<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.find(root).into_iter().next()
    }
}

fn walk<'a>(steps: &[Step], root: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![root];
    for step in steps {
        let mut next = Vec::new();
        for value in found {
            step.apply(value, &mut next);
        }
        next.truncate(FOUND_MAX);
        found = next;
    }
    found
}

impl Step {
    fn apply<'a>(&self, value: &'a Value, found: &mut Vec<&'a Value>) {
        match (self, value) {
            (Step::Field(name), value) => found.extend(value.get(name)),
            (Step::Index(index), Value::Array(items)) => {
                found.extend(position(*index, items.len()).map(|at| &items[at]))
            }
            (Step::Slice(start, end), Value::Array(items)) => found.extend(slice(items, *start, *end)),
            (Step::All, Value::Array(items)) => found.extend(items),
            (Step::All, Value::Object(map)) => found.extend(map.values()),
            (Step::Filter(filter), Value::Array(items)) => found.extend(items.iter().filter(|item| filter.keeps(item))),
            (Step::Descend, value) => descend(value, found),
            _ => {}
        }
    }
}

fn descend<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    if found.len() >= FOUND_MAX {
        return;
    }
    found.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, found)),
        Value::Object(map) => map.values().for_each(|value| descend(value, found)),
        _ => {}
    }
}

/// An index from the front, or with a minus from the end.
fn position(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index + length } else { index };
    (0..length).contains(&index).then(|| usize::try_from(index).expect("not negative"))
}

fn slice(items: &[Value], start: Option<i64>, end: Option<i64>) -> &[Value] {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let bound = |bound: i64| if bound < 0 { bound + length } else { bound }.clamp(0, length);
    let (start, end) = (bound(start.unwrap_or(0)), bound(end.unwrap_or(length)));
    let at = |index: i64| usize::try_from(index).expect("clamped to the length");
    items.get(at(start)..at(end)).unwrap_or_default()
}

impl Filter {
    fn keeps(&self, item: &Value) -> bool {
        let left = walk(&self.path, item).into_iter().next();
        match (&self.test, left) {
            (None, left) => left.is_some(),
            (Some(_), None) => false,
            (Some((comparison, right)), Some(left)) => comparison.holds(left, right),
        }
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> bool {
        let order = match (left, right) {
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
            (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            _ => as_f64(left).zip(as_f64(right)).and_then(|(left, right)| left.partial_cmp(&right)),
        };
        match (self, order) {
            (_, None) => false,
            (Self::Equal, Some(order)) => order.is_eq(),
            (Self::NotEqual, Some(order)) => order.is_ne(),
            (Self::Less, Some(order)) => order.is_lt(),
            (Self::LessOrEqual, Some(order)) => order.is_le(),
            (Self::Greater, Some(order)) => order.is_gt(),
            (Self::GreaterOrEqual, Some(order)) => order.is_ge(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a comparison of an integer with a float is one of floats")]
fn as_f64(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: Chars<'a>,
}

impl<'a> Parser<'a> {
    fn error(&self, what: &str) -> JsonPathError {
        JsonPathError(format!("is an invalid path {:?}: {what}", self.text))
    }

    fn take(&mut self, sign: &str) -> bool {
        let Some(rest) = self.rest.as_str().strip_prefix(sign) else { return false };
        self.rest = rest.chars();
        true
    }

    fn steps(&mut self) -> Result<Vec<Step>, JsonPathError> {
        let mut steps = Vec::new();
        loop {
            if self.take("..") {
                steps.push(Step::Descend);
                if !self.rest.as_str().starts_with('[') {
                    steps.push(self.name()?);
                }
            } else if self.take(".") {
                // A lone dot names the whole object.
                if !self.rest.as_str().is_empty() && !self.rest.as_str().starts_with('[') {
                    steps.push(self.name()?);
                }
            } else if self.take("[") {
                steps.push(self.bracket()?);
            } else {
                return Ok(steps);
            }
        }
    }

    /// A field name up to the next sign; `\.` is a dot in it.
    fn name(&mut self) -> Result<Step, JsonPathError> {
        let mut name = Str::default();
        while let Some(character) = self.rest.as_str().chars().next() {
            match character {
                '\\' => {
                    self.rest.next();
                    name.extend(self.rest.next());
                }
                '.' | '[' | ']' | ')' | ' ' | '=' | '!' | '<' | '>' => break,
                _ => name.extend(self.rest.next()),
            }
        }
        match name.as_str() {
            "" => Err(self.error("a field name is missing")),
            "*" => Ok(Step::All),
            _ => Ok(Step::Field(name)),
        }
    }

    fn bracket(&mut self) -> Result<Step, JsonPathError> {
        let step = match self.rest.as_str().chars().next() {
            Some(quote @ ('\'' | '"')) => Step::Field(self.quoted(quote)?),
            Some('?') => self.filter()?,
            Some('*') => {
                self.rest.next();
                Step::All
            }
            _ => self.index_or_slice()?,
        };
        if self.take("]") { Ok(step) } else { Err(self.error("unterminated array")) }
    }

    fn quoted(&mut self, quote: char) -> Result<Str, JsonPathError> {
        self.rest.next();
        let mut text = Str::default();
        loop {
            match self.rest.next() {
                Some('\\') => text.extend(self.rest.next()),
                Some(end) if end == quote => return Ok(text),
                Some(character) => text.push(character),
                None => return Err(self.error("unterminated quoted string")),
            }
        }
    }

    fn index_or_slice(&mut self) -> Result<Step, JsonPathError> {
        let start = self.integer()?;
        if self.take(":") {
            let end = self.integer()?;
            return Ok(Step::Slice(start, end));
        }
        start.map(Step::Index).ok_or_else(|| self.error("invalid array index"))
    }

    fn integer(&mut self) -> Result<Option<i64>, JsonPathError> {
        let rest = self.rest.as_str();
        let length = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
        let (digits, rest) = rest.split_at(length);
        self.rest = rest.chars();
        match digits {
            "" => Ok(None),
            _ => digits.parse().map(Some).map_err(|_| self.error("invalid array index")),
        }
    }

    fn filter(&mut self) -> Result<Step, JsonPathError> {
        if !self.take("?(@") {
            return Err(self.error("a filter starts with ?(@"));
        }
        let path = self.steps()?;
        self.spaces();
        let comparison = COMPARISONS.into_iter().find(|(sign, _)| self.take(sign)).map(|(_, comparison)| comparison);
        let test = match comparison {
            None => None,
            Some(comparison) => {
                self.spaces();
                Some((comparison, self.literal()?))
            }
        };
        self.spaces();
        if self.take(")") { Ok(Step::Filter(Filter { path, test })) } else { Err(self.error("unterminated filter")) }
    }

    fn spaces(&mut self) {
        self.rest = self.rest.as_str().trim_start().chars();
    }

    fn literal(&mut self) -> Result<Value, JsonPathError> {
        if let Some(quote @ ('\'' | '"')) = self.rest.as_str().chars().next() {
            return Ok(Value::String(self.quoted(quote)?));
        }
        let rest = self.rest.as_str();
        let length = rest.find([')', ' ']).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(length);
        self.rest = rest.chars();
        match (word, word.parse::<i64>(), word.parse::<f64>()) {
            ("true", ..) => Ok(Value::Bool(true)),
            ("false", ..) => Ok(Value::Bool(false)),
            (_, Ok(number), _) => Ok(Value::Int(number)),
            (_, _, Ok(number)) => Ok(Value::Float(number)),
            _ => Err(self.error(&format!("{word:?} is no value to compare with"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value;

    fn check(path: &str, expect: &str) {
        let object = value!({
            "metadata": {"name": "a", "annotations": {"example.com/x": "y"}},
            "spec": {"replicas": 3, "items": [{"n": "p", "v": 1}, {"n": "q", "v": 2}, {"n": "r"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Live", "status": "False"}]}
        });
        let found = JsonPath::parse(path).unwrap().find(&object);
        let texts: Vec<String> = found.into_iter().map(crate::json::to_string).collect();
        assert_eq!(texts.join(" "), expect, "{path}");
    }

    #[test]
    fn finds() {
        check(".spec.replicas", "3");
        check("$.spec.replicas", "3");
        check(".spec.missing", "");
        check(r".metadata.annotations.example\.com/x", r#""y""#);
        check(".metadata.annotations['example.com/x']", r#""y""#);
        check(".spec.items[0].n", r#""p""#);
        check(".spec.items[-1].n", r#""r""#);
        check(".spec.items[9].n", "");
        check(".spec.items[0:2].n", r#""p" "q""#);
        check(".spec.items[*].v", "1 2");
        check(r#".status.conditions[?(@.type=="Ready")].status"#, r#""True""#);
        check(".spec.items[?(@.v > 1)].n", r#""q""#);
        check(".spec.items[?(@.v)].n", r#""p" "q""#);
        check("..v", "1 2");
    }

    #[test]
    fn refuses() {
        for path in ["", "spec", ".spec[", ".spec[x]", ".a['b", ".a[?(b)]", ".a[?(@.b==c)]", ".a..", ".a]"] {
            assert!(JsonPath::parse(path).is_err(), "{path:?}");
        }
    }
}
