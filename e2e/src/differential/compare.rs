//! Compares two answers to the same request: code, content type, warnings, body.

use serde_json::Value;

use super::normalize;
use crate::http::Answer;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// `code`, `content-type`, `warning`, or `body` with the path of the field; indices are `[]`.
    pub(crate) what: String,
    pub(crate) left: String,
    pub(crate) right: String,
}

impl Difference {
    fn new(what: impl Into<String>, left: impl Into<String>, right: impl Into<String>) -> Self {
        Self { what: what.into(), left: left.into(), right: right.into() }
    }

    /// The second server did not answer at all.
    pub(crate) fn broken(left: &Answer, error: &str) -> Self {
        Self::new("code", left.code.to_string(), format!("no answer: {}", normalize::text(error)))
    }
}

pub(crate) fn answers(left: &Answer, right: &Answer) -> Vec<Difference> {
    let mut found = Vec::new();
    if left.code != right.code {
        // The bodies then differ by nature; one line says it best.
        let text = |answer: &Answer| format!("{} {}", answer.code, summary(answer));
        return vec![Difference::new("code", text(left), text(right))];
    }
    for name in ["content-type", "warning", "allow", "location"] {
        let [l, r] = [left, right].map(|answer| answer.all(name).map(normalize::text).collect::<Vec<_>>());
        for missing in l.iter().filter(|text| !r.contains(text)) {
            found.push(Difference::new(name, missing, ""));
        }
        for excess in r.iter().filter(|text| !l.contains(text)) {
            found.push(Difference::new(name, "", excess));
        }
    }
    match (body(left), body(right)) {
        (Some(l), Some(r)) => values("body", &l, &r, &mut found),
        (None, None) => texts(left, right, &mut found),
        (l, r) => found.push(Difference::new("body", shape(l.as_ref()), shape(r.as_ref()))),
    }
    found
}

/// A body of JSON, or of JSON lines as a watch sends them.
fn body(answer: &Answer) -> Option<Value> {
    let json = answer.all("content-type").any(|kind| kind.contains("json"));
    let mut documents = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
    let mut values = Vec::new();
    while let Some(next) = documents.next().filter(|_| json) {
        values.push(next.ok()?);
    }
    let mut value = if values.len() > 1 { Value::Array(values) } else { values.pop()? };
    normalize::value(&mut value);
    Some(value)
}

fn texts(left: &Answer, right: &Answer, found: &mut Vec<Difference>) {
    let [l, r] = [left, right].map(|answer| normalize::text(&String::from_utf8_lossy(&answer.body)));
    if l != r {
        found.push(Difference::new("body", short(&l), short(&r)));
    }
}

fn shape(value: Option<&Value>) -> &'static str {
    if value.is_some() { "JSON" } else { "no JSON" }
}

fn summary(answer: &Answer) -> String {
    let message = body(answer).and_then(|body| body["message"].as_str().map(str::to_owned));
    short(&message.unwrap_or_default())
}

fn values(path: &str, left: &Value, right: &Value, found: &mut Vec<Difference>) {
    match (left, right) {
        (Value::Object(l), Value::Object(r)) => {
            for (key, left) in l {
                match r.get(key) {
                    Some(right) if redundant(key, l, r) && left != right => {}
                    Some(right) => values(&format!("{path}.{key}"), left, right, found),
                    None => found.push(Difference::new(format!("{path}.{key}"), show(left), "absent")),
                }
            }
            for (key, right) in r.iter().filter(|(key, _)| !l.contains_key(*key)) {
                found.push(Difference::new(format!("{path}.{key}"), "absent", show(right)));
            }
        }
        (Value::Array(l), Value::Array(r)) if l.len() == r.len() => {
            l.iter().zip(r).for_each(|(left, right)| values(&format!("{path}[]"), left, right, found));
        }
        (Value::Array(l), Value::Array(r)) => {
            for left in l.iter().filter(|item| !r.contains(item)) {
                found.push(Difference::new(format!("{path}[]"), show(left), "absent"));
            }
            for right in r.iter().filter(|item| !l.contains(item)) {
                found.push(Difference::new(format!("{path}[]"), "absent", show(right)));
            }
            if l.iter().all(|item| r.contains(item)) && r.iter().all(|item| l.contains(item)) {
                found.push(Difference::new(format!("{path}[]"), l.len().to_string(), r.len().to_string()));
            }
        }
        (left, right) if left != right => found.push(Difference::new(path, show(left), show(right))),
        _ => {}
    }
}

/// A Status's message repeats its causes; where those differ, they say it better.
fn redundant(key: &str, left: &serde_json::Map<String, Value>, right: &serde_json::Map<String, Value>) -> bool {
    let causes = |map: &serde_json::Map<String, Value>| map.get("details").map(|details| details["causes"].clone());
    key == "message" && causes(left) != causes(right) && left.get("kind") == Some(&Value::from("Status"))
}

fn show(value: &Value) -> String {
    short(&value.to_string())
}

fn short(text: &str) -> String {
    let line = text.replace(['\n', '\t'], " ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn answer(code: u16, warning: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json"), ("warning", warning)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Answer { code, headers, body: Bytes::from(body.to_string()) }
    }

    #[track_caller]
    fn check(left: &Answer, right: &Answer, expected: &[(&str, &str, &str)]) {
        let found = answers(left, right);
        let found: Vec<_> = found.iter().map(|d| (d.what.as_str(), d.left.as_str(), d.right.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn equal_answers_have_no_difference() {
        let first = json!({"metadata": {"uid": "a1b2c3d4-0000-1111-2222-333344445555", "resourceVersion": "1"}});
        let second = json!({"metadata": {"resourceVersion": "7", "uid": "ffffffff-0000-1111-2222-333344445555"}});
        check(&answer(200, "", &first), &answer(200, "", &second), &[]);
    }

    #[test]
    fn every_part_of_an_answer_is_seen() {
        let one = answer(200, "a", &json!({"a": [{"b": 1}], "c": 1}));
        check(&one, &answer(201, "a", &json!({"message": "m"})), &[("code", "200 ", "201 m")]);
        let other = answer(200, "b", &json!({"a": [{"b": "1"}], "d": null}));
        let expected = [
            ("warning", "a", ""),
            ("warning", "", "b"),
            ("body.a[].b", "1", "\"1\""),
            ("body.c", "1", "absent"),
            ("body.d", "absent", "null"),
        ];
        check(&one, &other, &expected);
    }

    #[test]
    fn missing_and_excess_items_are_named() {
        let [l, r] = [json!({"a": [1, 2, 3]}), json!({"a": [1, 4]})].map(|body| answer(200, "", &body));
        check(&l, &r, &[("body.a[]", "2", "absent"), ("body.a[]", "3", "absent"), ("body.a[]", "absent", "4")]);
    }

    #[test]
    fn a_body_that_is_no_json_is_seen() {
        let mut plain = answer(200, "", &json!({}));
        plain.body = Bytes::from_static(b"ok");
        check(&answer(200, "", &json!({})), &plain, &[("body", "JSON", "no JSON")]);
    }
}
