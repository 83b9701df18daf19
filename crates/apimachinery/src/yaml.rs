//! YAML to [`Value`] and back, as far as JSON's model goes: one document, keys are strings.
//!
//! Writing follows the habits of Kubernetes' tools: keys sorted, lists at the indentation of their key, plain strings
//! unless YAML would read something else.

mod read;
mod scalar;

use crate::json::{self, Parsed};
use crate::value::{Map, Value};

/// A text that is no YAML document.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct YamlError(String);

/// A document, and what a strict reader says of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    pub value: Value,
    /// Whole paths of duplicate keys, as `spec.containers[0].name`. The last value wins.
    pub duplicates: Vec<String>,
    /// The same in the words of upstream's YAML reader: `line 2: key "a" already set in map`.
    pub strict: Vec<String>,
}

impl Document {
    /// The error of upstream's strict YAML reader, which names lines instead of paths.
    pub fn strict_error(&self) -> Option<String> {
        let lines: Vec<String> = self.strict.iter().map(|line| format!("\n  {line}")).collect();
        (!lines.is_empty()).then(|| format!("yaml: unmarshal errors:{}", lines.concat()))
    }
}

/// Reads the first document; as upstream, what follows it is not looked at.
pub fn parse(text: &[u8]) -> Result<Parsed, YamlError> {
    let document = parse_document(text)?;
    Ok(Parsed { value: document.value, duplicates: document.duplicates, first: None })
}

/// Reads the first document, with a strict reader's errors in upstream's words.
pub fn parse_document(text: &[u8]) -> Result<Document, YamlError> {
    let text = std::str::from_utf8(text).map_err(|error| YamlError(format!("yaml: {error}")))?;
    read::document(text)
}

/// The YAML text of a value, with a line feed at its end.
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(map, 0, &mut out),
        Value::Array(items) if !items.is_empty() => write_list(items, 0, &mut out),
        scalar => {
            write_scalar(scalar, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

fn write_map(map: &Map, indent: usize, out: &mut String) {
    let mut fields: Vec<_> = map.iter().collect();
    fields.sort_unstable_by_key(|(key, _)| key.as_str());
    for (index, (key, value)) in fields.into_iter().enumerate() {
        if index > 0 {
            pad(indent, out);
        }
        write_plain_or_quoted(key, out);
        out.push(':');
        write_below(value, indent, out);
    }
}

/// What follows a key's colon.
fn write_below(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            pad(indent + 2, out);
            write_map(map, indent + 2, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            pad(indent, out);
            write_list(items, indent, out);
        }
        scalar => {
            out.push(' ');
            write_scalar(scalar, indent + 2, out);
            out.push('\n');
        }
    }
}

fn write_list(items: &[Value], indent: usize, out: &mut String) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            pad(indent, out);
        }
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => write_map(map, indent + 2, out),
            Value::Array(inner) if !inner.is_empty() => write_list(inner, indent + 2, out),
            scalar => {
                write_scalar(scalar, indent + 2, out);
                out.push('\n');
            }
        }
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn write_scalar(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::String(text) if is_block(text) => write_block(text, indent, out),
        Value::String(text) => write_plain_or_quoted(text, out),
        other => out.push_str(&json::to_string(other)),
    }
}

/// Several lines that a literal block can carry as they stand.
fn is_block(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
        && !text.starts_with([' ', '\n'])
        && text.chars().all(|character| character == '\n' || !character.is_control())
        && text.lines().all(|line| !line.ends_with(' '))
}

fn write_block(text: &str, indent: usize, out: &mut String) {
    let body = text.trim_end_matches('\n');
    out.push_str(match text.len() - body.len() {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            pad(indent, out);
            out.push_str(line);
        }
    }
    // A keeping block ends in the line feeds themselves; the caller adds the last one.
    out.extend(std::iter::repeat_n('\n', (text.len() - body.len()).saturating_sub(1)));
}

fn write_plain_or_quoted(text: &str, out: &mut String) {
    if is_plain(text) {
        out.push_str(text);
    } else {
        out.push_str(&json::to_string(&Value::from(text)));
    }
}

/// Whether YAML reads the bare text as this string.
fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let opens = first.is_alphabetic() || matches!(first, '/' | '_' | '(' | '$' | '^' | '+' | '\\' | ';' | '<');
    let digit_text = first.is_ascii_digit() && !looks_numeric(text);
    (opens || digit_text)
        && !is_word(text)
        && text != "<<"
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.chars().any(char::is_control)
}

/// Numbers and timestamps, generously: quoting too much harms nobody.
fn looks_numeric(text: &str) -> bool {
    text.chars().all(|character| character.is_ascii_hexdigit() || "+-._xoeETtZz: ".contains(character))
}

/// Words that some YAML version reads as null, boolean or a float.
fn is_word(text: &str) -> bool {
    const WORDS: [&str; 11] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan"];
    let bare = text.trim_start_matches(['+', '.']);
    WORDS.iter().any(|word| bare.eq_ignore_ascii_case(word)) || (text.starts_with('+') && looks_numeric(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value;

    #[test]
    fn reads_what_people_write() {
        let text = "# a comment\napiVersion: v1\nkind: ConfigMap\ndata:\n  one: \"1\"\n  text: |\n    a\n    b\nm: 3\nf: 1.5\nlist:\n- a\n- {b: c}\n";
        let parsed = parse(text.as_bytes()).unwrap();
        assert_eq!(
            parsed.value,
            value!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"one": "1", "text": "a\nb\n"}, "m": 3_i64,
                    "f": (Value::Float(1.5)), "list": ["a", {"b": "c"}]})
        );
        assert_eq!(parsed.duplicates, Vec::<String>::new());
    }

    #[test]
    fn duplicates_are_reported() {
        let parsed = parse(b"spec:\n  a: 1\n  a: 2\n").unwrap();
        assert_eq!(parsed.value, value!({"spec": {"a": 2_i64}}));
        assert_eq!(parsed.duplicates, ["spec.a"]);
    }

    #[test]
    fn json_is_yaml() {
        assert_eq!(parse(br#"{"a":[1,{"b":null}]}"#).unwrap().value, value!({"a": [1_i64, {"b": null}]}));
    }

    #[test]
    fn refuses_what_is_no_yaml() {
        for text in
            ["a: [", "a: b: c", "}", "~: a", "[a, b]: c", "a: &a [*a]", "a: *b", "a: .nan", "a: !!int x", "<<: 1"]
        {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    /// Expectations were taken from upstream's own package.
    #[test]
    fn scalars_are_those_of_upstream() {
        for (text, expect) in [
            ("a: 1\n---\nb: 2\n", r#"{"a":1}"#),
            ("a: yes\nb: No\nc: on\nd: y\ne: ~\nf:\n", r#"{"a":true,"b":false,"c":true,"d":true,"e":null,"f":null}"#),
            ("[0x10, 010, 0o17, 1_000, 0b11, -0b11, +5, 1e3, 1.0]", "[16,8,15,1000,3,-3,5,1000,1]"),
            ("[1e400, .5, 5., 12e03, 1:30, 2001-01-01]", r#"["1e400",0.5,5,12000,"1:30","2001-01-01"]"#),
            ("[0.1, -0.0, 1e21, 09, 1a]", r#"[0.1,0,1e+21,9,"1a"]"#),
            ("1: a\n1.5: b\nyes: c\n", r#"{"1":"a","1.5":"b","true":"c"}"#),
            (
                "a: &x {b: 1}\nc: *x\nd: {<<: *x, b: 2}\ne: {b: 3, <<: *x}",
                r#"{"a":{"b":1},"c":{"b":1},"d":{"b":2},"e":{"b":1}}"#,
            ),
            (
                "a: !!str 5\nb: !!int \"5\"\nc: !!float 5\nd: !!binary aGVsbG8=\ne: !foo bar",
                r#"{"a":"5","b":5,"c":5,"d":"hello","e":"bar"}"#,
            ),
            ("--- \n", "null"),
            ("", "null"),
            ("a: \"b\n  c\"\nd: >\n  x\n  y\n", r#"{"a":"b c","d":"x y\n"}"#),
        ] {
            assert_eq!(json::to_string(&parse(text.as_bytes()).unwrap().value), expect, "{text}");
        }
    }

    #[test]
    fn strict_errors_name_lines() {
        let document = parse_document(b"a: {b: 1, b: 2}\nc:\n  d: 1\n  d:\n    x: 1").unwrap();
        assert_eq!(
            document.strict_error().unwrap(),
            "yaml: unmarshal errors:\n  line 1: key \"b\" already set in map\n  line 5: key \"d\" already set in map"
        );
        assert_eq!(document.duplicates, ["a.b", "c.d"]);
        assert_eq!(parse_document(b"a: 1").unwrap().strict_error(), None);
    }

    #[test]
    fn aliases_are_bounded() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let list = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        assert_eq!(parse(bomb.as_bytes()).unwrap_err().to_string(), "yaml: document contains excessive aliasing");
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn writes_and_reads_back() {
        let texts = [
            "",
            "plain",
            "true",
            "No",
            "1",
            "1.5",
            "0x1f",
            "1e3",
            "2020-01-01",
            "a: b",
            "a #b",
            "#c",
            "-",
            "- a",
            "a\nb",
            "a\nb\n",
            "a\n\n",
            " lead",
            "trail ",
            "tab\t",
            "\u{7}",
            "ümlaut",
            "*x",
            "&x",
            "!x",
            "%x",
            "@x",
            "null",
            "~",
            ".inf",
            "+1",
            "a:",
            "10Gi",
            "500m",
            "1:30",
            "key=value",
            "line one\nline two\n\n\nend",
            "[x]",
            "{x}",
            "'q'",
            "\"q\"",
            "<<",
            "y",
            "0o17",
            "1_000",
            "=",
        ];
        for text in texts {
            let object = value!({"k": text, "list": [text, {"in": text}], "o": {"deep": {"x": text}}});
            let yaml = to_string(&object);
            assert_eq!(parse(yaml.as_bytes()).unwrap().value, object, "{yaml}");
        }
    }

    #[test]
    fn the_form() {
        let object = value!({"kind": "K", "a": {"c": ["x", {"z": 1_i64, "b": true}], "empty": {}, "none": []}});
        assert_eq!(to_string(&object), "a:\n  c:\n  - x\n  - b: true\n    z: 1\n  empty: {}\n  none: []\nkind: K\n");
    }
}
