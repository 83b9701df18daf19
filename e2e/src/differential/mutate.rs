//! Seeded mutations of the valid samples: one change somewhere in the tree, sent as a dry run of a create or an update.

use anyhow::Result;
use corten_stdx::random::Random;
use serde_json::{Value, json};

use super::kinds::Kind;
use super::scenario::Scenario;
use super::scenarios::{JSON, MERGE, Sample};
use crate::http::Request;

const MODES: [&str; 4] = ["", "&fieldValidation=Ignore", "&fieldValidation=Warn", "&fieldValidation=Strict"];

/// Marks a key that is to occur twice in the text; see [`print`].
const TWICE: &str = "\u{1}twice\u{1}";

pub(crate) fn all(kinds: &[Kind], random: &Random, count: usize) -> Result<Vec<Scenario>> {
    let mut scenarios = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.has("create") && kind.kind != "Binding") {
        let sample = Sample::of(kind, 19)?;
        let mut scenario = Scenario::new("mutate", kind.subject());
        let update = kind.stored();
        if update {
            scenario.step("create", sample.create());
        }
        for _ in 0..count {
            let (what, body) = mutation(&sample.object, random);
            let mode = MODES[below(random, MODES.len())];
            let (verb, request) = match below(random, if update { 4 } else { 1 }) {
                0 | 1 => {
                    ("create", Request::new("POST", format!("{}?dryRun=All{mode}", sample.collection)).body(JSON, body))
                }
                2 => ("update", Request::new("PUT", format!("{}?dryRun=All{mode}", sample.path)).body(JSON, body)),
                _ => ("merge", Request::new("PATCH", format!("{}?dryRun=All{mode}", sample.path)).body(MERGE, body)),
            };
            scenario.step(format!("{verb}: {what}{mode}"), request);
        }
        if update {
            scenario.step("delete", sample.delete());
        }
        scenarios.push(scenario);
    }
    Ok(scenarios)
}

fn below(random: &Random, limit: usize) -> usize {
    usize::try_from(random.next_u64() % limit as u64).expect("below a usize")
}

/// What was changed, and the text of the changed object.
fn mutation(object: &Value, random: &Random) -> (String, String) {
    let mut changed = object.clone();
    let mut pointers = Vec::new();
    collect(&changed, String::new(), &mut pointers);
    let pointer = pointers[below(random, pointers.len())].clone();
    let what = change(&mut changed, &pointer, random);
    (format!("{pointer} {what}"), print(&changed))
}

/// Pointers of everything below the root but the object's identity.
fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            map.iter().map(|(key, child)| (key.replace('~', "~0").replace('/', "~1"), child)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(index, child)| (index.to_string(), child)).collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        collect(child, format!("{at}/{key}"), pointers);
    }
    if !["", "/kind", "/apiVersion", "/metadata/name"].contains(&at.as_str()) {
        pointers.push(at);
    }
}

fn change(object: &mut Value, pointer: &str, random: &Random) -> &'static str {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
    let key = key.replace("~1", "/").replace("~0", "~");
    let kind = below(random, 6);
    if let (Some(Value::Object(map)), 0..=2) = (object.pointer_mut(parent), kind) {
        match kind {
            0 => map.insert("unknownField".to_owned(), odd(random)),
            1 => map.insert(format!("{TWICE}{key}"), odd(random)),
            _ => map.remove(&key),
        };
        return ["with an unknown sibling", "twice", "removed"][kind];
    }
    let value = object.pointer_mut(pointer).expect("collected from this object");
    *value = odd(random);
    "replaced"
}

/// A value that few fields take.
fn odd(random: &Random) -> Value {
    let values = [
        json!(null),
        json!(""),
        json!("Bad_Name!"),
        json!("a".repeat(300)),
        json!("ü ö"),
        json!(0),
        json!(-1),
        json!(65536),
        json!(2_147_483_648_u64),
        json!(u64::MAX),
        json!(1.5),
        json!(true),
        json!([]),
        json!({}),
        json!([1, "a"]),
        json!({"a": {"b": 1}}),
    ];
    values[below(random, values.len())].clone()
}

fn print(object: &Value) -> String {
    object.to_string().replace(&json!(TWICE).to_string().trim_matches('"').to_owned(), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_mutations() {
        let object = json!({"kind": "A", "metadata": {"name": "a", "labels": {"a/b": "c"}}, "spec": {"list": [1, 2]}});
        let text = object.to_string();
        let run = |seed| {
            let random = Random::seeded(seed);
            (0..50).map(|_| mutation(&object, &random)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert!(run(1).iter().all(|(_, body)| !body.contains("twice") && *body != text));
    }

    #[test]
    fn a_key_can_occur_twice() {
        let object = json!({"a": 1, format!("{TWICE}a"): 2});
        assert_eq!(print(&object).matches("\"a\":").count(), 2);
    }
}
