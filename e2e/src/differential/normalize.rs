//! Makes equal what must differ between two servers: identifiers, times, revisions, tokens, allocated addresses.

use std::sync::LazyLock;

use regex_lite::Regex;
use serde_json::Value;

/// Patterns in texts, and what stands for them.
static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let patterns = [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
        (r"202[6-9]-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
        (r"^eyJ[\w.=-]{20,}$", "<token>"),
        (r"kube-api-access-[a-z0-9]{5}\b", "kube-api-access-<random>"),
        (r"\b10\.96\.\d+\.\d+\b", "<cluster-ip>"),
        (r"127\.0\.0\.1:\d{4,5}", "<address>"),
        (r"X509SHA256=[0-9a-f]{64}", "X509SHA256=<hash>"),
        (r"\b(sample-|Bad_Base-)[a-z0-9]{5}\b", "$1<suffix>"),
        (r#"(resourceVersion\\*"?: ?\\*")\d+"#, "$1<revision>"),
        (r"in record \(\d+\)", "in record (<revision>)"),
        (r"in object meta: \d+", "in object meta: <revision>"),
        // A place in upstream's source, which depends on how its binary was built.
        (r#"in scheme "[^"]*""#, "in scheme <place>"),
        // Which of several bindings allows depends on the order of a map.
        (r"^RBAC: allowed by .*", "RBAC: allowed by <binding>"),
    ];
    patterns.map(|(pattern, text)| (Regex::new(pattern).expect("a constant pattern"), text)).to_vec()
});

/// A table's column that shows an age.
static AGE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d+(s|m|m\d+s|h)$").expect("a constant pattern"));

/// Lists without an order: upstream fills them from maps.
const UNORDERED: [&str; 3] = ["causes", "resourceRules", "nonResourceRules"];

/// Fields whose values differ by nature wherever they occur.
const REVISIONS: [&str; 2] = ["resourceVersion", "remainingItemCount"];

pub(crate) fn value(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, child) in map.iter_mut() {
                let revision = REVISIONS.contains(&key.as_str()) && !matches!(child.as_str(), Some("" | "0"));
                match child {
                    Value::String(text) if revision => "<revision>".clone_into(text),
                    Value::Number(port) if key == "nodePort" && port.as_i64().is_some_and(|port| port >= 30000) => {
                        *child = Value::from("<node-port>");
                    }
                    _ => self::value(child),
                }
                if let Some(items) = child.as_array_mut().filter(|_| UNORDERED.contains(&key.as_str())) {
                    items.sort_by_cached_key(Value::to_string);
                }
            }
            table_cells(map);
        }
        Value::Array(items) => items.iter_mut().for_each(self::value),
        Value::String(text) => *text = self::text(text),
        _ => {}
    }
}

pub(crate) fn text(text: &str) -> String {
    PATTERNS.iter().fold(text.to_owned(), |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

fn table_cells(map: &mut serde_json::Map<String, Value>) {
    let Some(Value::Array(cells)) = map.get_mut("cells") else { return };
    for cell in cells {
        if cell.as_str().is_some_and(|text| AGE.is_match(text)) {
            *cell = Value::from("<age>");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_must_differ_is_made_equal() {
        let mut object = json!({
            "metadata": {"uid": "a1b2c3d4-0000-1111-2222-333344445555", "resourceVersion": "12", "name": "a"},
            "at": "2026-11-21T10:00:00Z", "old": "2008-01-01T01:01:01Z", "cells": ["a", "5m10s", 3],
            "nodePort": 31234, "message": "the UID a1b2c3d4-0000-1111-2222-333344445555 is another",
        });
        value(&mut object);
        let expected = json!({
            "metadata": {"uid": "<uid>", "resourceVersion": "<revision>", "name": "a"},
            "at": "<time>", "old": "2008-01-01T01:01:01Z", "cells": ["a", "<age>", 3],
            "nodePort": "<node-port>", "message": "the UID <uid> is another",
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn an_empty_revision_is_not_hidden() {
        let mut object = json!({"metadata": {"resourceVersion": ""}});
        value(&mut object);
        assert_eq!(object, json!({"metadata": {"resourceVersion": ""}}));
    }
}
