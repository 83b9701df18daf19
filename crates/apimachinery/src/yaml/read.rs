//! Reading YAML as `sigs.k8s.io/yaml` does, so that a manifest means here what it means upstream: YAML 1.1's scalars
//! (`yes` is a boolean, `010` is eight), keys that are numbers or booleans become strings, `<<` merges in place, aliases
//! are copies with a bound, and what follows the first document is not looked at.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, ParseResult, Parser, ScalarStyle, Span};

use super::{Document, YamlError, scalar};
use crate::json::DEPTH_MAX;
use crate::value::{Map, Str, Value};

/// Values that aliases may stand for before their share of the document is looked at.
const ALIASED_FREE: usize = 100;
/// Values of a document below which any share of aliased ones is allowed.
const DECODED_FREE: usize = 1000;
/// Up to this many values 99 % may come from aliases, from [`DECODED_HIGH`] on 10 %, in between in proportion.
const DECODED_LOW: usize = 400_000;
const DECODED_HIGH: usize = 4_000_000;
/// Duplicate keys that one body may report; above it the body is refused rather than listed.
const DUPLICATES_MAX: usize = 100;

/// Reads the first document.
pub(super) fn document(text: &str) -> Result<Document, YamlError> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        path: String::new(),
        duplicates: Vec::new(),
        strict: Vec::new(),
        decoded: 0,
        aliased: 0,
    };
    let value = loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(..), _) => {}
            (Event::StreamEnd | Event::DocumentEnd, _) => break Value::Null,
            (event, span) => break reader.node(event, span, 0)?.value,
        }
    };
    Ok(Document { value, duplicates: reader.duplicates, strict: reader.strict })
}

struct Reader<I> {
    events: I,
    /// Finished nodes by the parser's number of their anchor.
    anchors: HashMap<usize, Node>,
    /// Where the reader stands, for duplicates.
    path: String,
    duplicates: Vec<String>,
    strict: Vec<String>,
    /// Values read, those that aliases stand for included, and the latter alone.
    decoded: usize,
    aliased: usize,
}

#[derive(Clone)]
struct Node {
    value: Value,
    /// Values in it, itself included.
    size: usize,
    line: usize,
    /// A plain `<<`, which merges as a key.
    merge: bool,
}

impl<'a, I: Iterator<Item = ParseResult<'a>>> Reader<I> {
    fn next(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(YamlError(format!("yaml: line {}: {}", error.marker().line(), error.info()))),
            None => Err(YamlError("yaml: unexpected end of the document".to_owned())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, YamlError> {
        if depth > DEPTH_MAX {
            return Err(YamlError("yaml: exceeded max depth".to_owned()));
        }
        let line = span.start.line();
        self.decoded += 1;
        let before = self.decoded;
        let (value, anchor, merge) = match event {
            Event::Alias(anchor) => return self.alias(anchor, line),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let merge = plain && tag.is_none() && text == "<<";
                let value = scalar::resolve(&text, plain, tag.as_deref())
                    .map_err(|error| YamlError(format!("yaml: {error}")))?;
                (value, anchor, merge)
            }
            Event::SequenceStart(_, anchor, _) => (self.sequence(depth)?, anchor, false),
            Event::MappingStart(_, anchor, _) => (self.mapping(depth)?, anchor, false),
            other => {
                return Err(YamlError(format!("yaml: line {line}: did not find expected node content: {other:?}")));
            }
        };
        let node = Node { value, size: self.decoded - before + 1, line, merge };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// A copy of what the anchor stands on, within the bound on copies.
    fn alias(&mut self, anchor: usize, line: usize) -> Result<Node, YamlError> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(YamlError(format!("yaml: line {line}: anchor value contains itself")));
        };
        self.decoded += node.size;
        self.aliased += node.size;
        if self.aliased > ALIASED_FREE && self.decoded > DECODED_FREE && self.aliased > allowed_aliased(self.decoded) {
            return Err(YamlError("yaml: document contains excessive aliasing".to_owned()));
        }
        Ok(Node { line, ..node.clone() })
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        let length = self.path.len();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Array(items)),
                (event, span) => {
                    self.path.push_str(&format!("[{}]", items.len()));
                    items.push(self.node(event, span, depth + 1)?.value);
                    self.path.truncate(length);
                }
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut map = Map::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Object(map)),
                (event, span) => self.node(event, span, depth + 1)?,
            };
            let (event, span) = self.next()?;
            if key.merge {
                let merged = self.node(event, span, depth + 1)?;
                self.merge(merged, &mut map)?;
                continue;
            }
            let name =
                scalar::key(&key.value).map_err(|error| YamlError(format!("yaml: line {}: {error}", key.line)))?;
            let length = self.path.len();
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&name);
            let value = self.node(event, span, depth + 1)?;
            self.insert(&mut map, name, &key.value, value)?;
            self.path.truncate(length);
        }
    }

    /// Sets a field of the mapping that the path ends in; the last of several wins.
    fn insert(&mut self, map: &mut Map, name: Str, key: &Value, value: Node) -> Result<(), YamlError> {
        if map.insert(name, value.value).is_none() {
            return Ok(());
        }
        if self.strict.len() >= DUPLICATES_MAX {
            return Err(YamlError("yaml: too many duplicate keys".to_owned()));
        }
        let key = crate::json::to_string(key);
        self.strict.push(format!("line {}: key {key} already set in map", value.line));
        if !self.duplicates.contains(&self.path) {
            self.duplicates.push(self.path.clone());
        }
        Ok(())
    }

    /// `<<`: the fields of one mapping, or of several of which the first wins, over what the map has by now.
    fn merge(&mut self, merged: Node, map: &mut Map) -> Result<(), YamlError> {
        let maps = match merged.value {
            Value::Array(items) => items,
            one => vec![one],
        };
        for one in maps.into_iter().rev() {
            let Value::Object(fields) = one else {
                return Err(YamlError("yaml: map merge requires map or sequence of maps as the value".to_owned()));
            };
            for (name, value) in fields {
                map.insert(name, value);
            }
        }
        Ok(())
    }
}

/// How many of a document's values may come from aliases.
fn allowed_aliased(decoded: usize) -> usize {
    let percent = match decoded {
        ..=DECODED_LOW => 99,
        DECODED_HIGH.. => 10,
        _ => 99 - 89 * (decoded - DECODED_LOW) / (DECODED_HIGH - DECODED_LOW),
    };
    decoded / 100 * percent + decoded % 100 * percent / 100
}
