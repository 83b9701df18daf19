//! The language's own conformance tests, read from their Go module. What Kubernetes does not have is left out: messages of
//! protobuf and extensions that it does not use.

use std::path::PathBuf;
use std::process::Command;

use corten_cel::{Activation, Budget, Environment, Key, Program, Type, Value};

use crate::textproto::{Node, read};

const MODULE: &str = "cel.dev/expr@v0.25.1";

const FILES: [&str; 19] = [
    "basic",
    "bindings_ext",
    "comparisons",
    "conversions",
    "fields",
    "fp_math",
    "integer_math",
    "lists",
    "logic",
    "macros",
    "macros2",
    "namespace",
    "optionals",
    "parse",
    "plumbing",
    "string",
    "string_ext",
    "timestamps",
    "type_deduction",
];

/// What expressions name that is not there: types of protobuf, and functions of later versions.
const ABSENT: [&str; 14] = [
    "TestAllTypes",
    "NestedTestAllTypes",
    "google.protobuf.",
    "TestRequired",
    "GlobalEnum",
    "math.",
    "proto.",
    "base64.",
    "cel.block",
    ".reverse()",
    "x.y",
    "com.example",
    "`",
    "cel.expr.conformance",
];

/// Tests with another outcome here, each with its reason.
const KNOWN: &[(&str, &str)] = &[
    ("string_ext/value_errors/indexof_out_of_range", "the reference gives -1 too"),
    ("string_ext/value_errors/lastindexof_out_of_range", "the reference gives -1 too"),
    (
        "timestamps/timestamp_conversions/toString_timestamp_nanos",
        "the last 26 hours of the year 9999 are no time of jiff's",
    ),
    ("timestamps/timestamp_selectors_tz/getDate", ZONES),
    ("timestamps/timestamp_selectors_tz/getDayOfMonth_name_pos", ZONES),
    ("timestamps/timestamp_selectors_tz/getDayOfMonth_name_neg", ZONES),
    ("timestamps/timestamp_selectors_tz/getDayOfYear", ZONES),
    ("timestamps/timestamp_selectors_tz/getMinutes", ZONES),
];
const ZONES: &str = "names of time zones are not known: the crate reads no files";

fn folder() -> PathBuf {
    let answer = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .current_dir("/")
        .output()
        .expect("go is installed");
    let told = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success(), "go mod download {MODULE}: {told}");
    let line = told.lines().find_map(|line| line.trim().strip_prefix("\"Dir\": \"")).expect("go names the folder");
    PathBuf::from(line.trim_end_matches(['"', ','])).join("tests/simple/testdata")
}

#[test]
fn the_languages_own_tests_pass() {
    let folder = folder();
    let (mut passed, mut failures) = (0, Vec::new());
    for file in FILES {
        let text = std::fs::read_to_string(folder.join(format!("{file}.textproto"))).expect("the module has the file");
        let whole = read(&text);
        for section in whole.all("section") {
            for test in section.all("test") {
                let name = format!(
                    "{file}/{}/{}",
                    section.get("name").expect("a name").text(),
                    test.get("name").expect("a name").text()
                );
                match outcome(test) {
                    None => {}
                    Some(Ok(())) => passed += 1,
                    Some(Err(why)) => failures.push((name, test.get("expr").expect("an expression").text(), why)),
                }
            }
        }
    }
    let unknown: Vec<String> = failures
        .iter()
        .filter(|(name, ..)| !KNOWN.iter().any(|(known, _)| known == name))
        .map(|(name, expression, why)| format!("{name}: {expression}\n    {why}"))
        .collect();
    assert!(unknown.is_empty(), "{passed} passed, {} did not:\n{}", unknown.len(), unknown.join("\n"));
    assert!(passed >= 1_200, "{passed} tests were found");
    for (known, why) in KNOWN {
        assert!(failures.iter().any(|(name, ..)| name == known), "{known} passes now: {why}");
    }
}

/// What became of a test; `None` if it is about something that is not there.
fn outcome(test: &Node) -> Option<Result<(), String>> {
    let expression = test.get("expr").expect("an expression").text();
    let everything = format!("{test:?}");
    let left_out = ABSENT.iter().any(|absent| expression.contains(absent))
        || everything.contains("object_value")
        || everything.contains("message_type");
    if left_out
        || test.get("disable_check").is_some()
        || test.get("check_only").is_some()
        || test.get("unknown").is_some()
        || test.get("container").is_some()
    {
        return None;
    }
    let mut environment = Environment::new().with_bindings();
    for declared in test.all("type_env") {
        let name = declared.get("name").expect("a name").text();
        environment = environment.with(name, read_type(declared.get("ident")?.get("type").expect("a type")));
    }
    judge(test, &expression, &environment)
}

fn judge(test: &Node, expression: &str, environment: &Environment) -> Option<Result<(), String>> {
    let fails = test.get("eval_error").is_some();
    match environment.compile(expression) {
        Ok(program) => Some(run(test, &program)),
        Err(_) if fails => Some(Ok(())),
        // Kubernetes wants the parts of a literal to be of one type.
        Err(issues) if issues[0].message.starts_with("expected type") => None,
        Err(issues) => Some(Err(corten_cel::describe(&issues))),
    }
}

fn run(test: &Node, program: &Program) -> Result<(), String> {
    let names: Vec<(String, Value<'_>)> = test
        .all("bindings")
        .map(|binding| {
            let value = binding.get("value").and_then(|value| value.get("value")).expect("a value");
            (binding.get("key").expect("a key").text(), read_value(value))
        })
        .collect();
    let activation =
        names.iter().fold(Activation::new(), |activation, (name, value)| activation.with(name.as_str(), value.clone()));
    let result = program.evaluate(&activation, &mut Budget::new(10_000_000));
    let typed = test.get("typed_result").and_then(|typed| typed.get("result"));
    let wanted = match (test.get("eval_error"), test.get("value").or(typed)) {
        (Some(_), _) => return result.map_or(Ok(()), |value| Err(format!("gives {value:?}, not an error"))),
        (None, Some(wanted)) => read_value(wanted),
        (None, None) => Value::Bool(true),
    };
    match result {
        Ok(value) if shown(&value) == shown(&wanted) => Ok(()),
        Ok(value) => Err(format!("gives {}, not {}", shown(&value), shown(&wanted))),
        Err(error) => Err(format!("fails: {error}")),
    }
}

/// A value with its type, the same for equal ones however they are kept.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::List(list) => format!("{:?}", list.iter().map(|item| shown(&item)).collect::<Vec<_>>()),
        Value::Map(map) => format!(
            "{:?}",
            map.entries().iter().map(|(key, value)| (shown(&key.value()), shown(value))).collect::<Vec<_>>()
        ),
        Value::String(text) => format!("string {:?}", &**text),
        other => format!("{other:?}"),
    }
}

fn read_type(node: &Node) -> Type {
    let (kind, inner) = node.only().expect("a type");
    match kind {
        "primitive" | "wrapper" => match inner.text().as_str() {
            "BOOL" => Type::Bool,
            "INT64" => Type::Int,
            "UINT64" => Type::Uint,
            "DOUBLE" => Type::Double,
            "BYTES" => Type::Bytes,
            _ => Type::String,
        },
        "list_type" => Type::list(inner.get("elem_type").map_or(Type::Dyn, read_type)),
        "map_type" => Type::map(
            inner.get("key_type").map_or(Type::Dyn, read_type),
            inner.get("value_type").map_or(Type::Dyn, read_type),
        ),
        "well_known" => match inner.text().as_str() {
            "TIMESTAMP" => Type::Timestamp,
            "DURATION" => Type::Duration,
            _ => Type::Dyn,
        },
        "null" => Type::Null,
        "abstract_type" => Type::optional(inner.get("parameter_types").map_or(Type::Dyn, read_type)),
        _ => Type::Dyn,
    }
}

fn read_value(node: &Node) -> Value<'static> {
    let (kind, inner) = node.only().expect("a value");
    let text = || inner.text();
    match kind {
        "null_value" => Value::Null,
        "bool_value" => Value::Bool(text() == "true"),
        "int64_value" => Value::Int(text().parse().expect("a number")),
        "uint64_value" => Value::Uint(text().parse().expect("a number")),
        "double_value" => Value::Double(match text().as_str() {
            "inf" | "Infinity" => f64::INFINITY,
            "-inf" | "-Infinity" => f64::NEG_INFINITY,
            number => number.parse().expect("a number"),
        }),
        "string_value" => Value::string(text()),
        "bytes_value" => Value::Bytes(inner.bytes().into()),
        "type_value" => Value::Type(text().into()),
        "list_value" => Value::list(inner.all("values").map(read_value).collect()),
        "map_value" => {
            let entry = |entry: &Node| {
                let key = match read_value(entry.get("key").expect("a key")) {
                    Value::Bool(flag) => Key::Bool(flag),
                    Value::Int(number) => Key::Int(number),
                    Value::Uint(number) => Key::Uint(number),
                    Value::String(text) => Key::String(text),
                    other => panic!("no key: {other:?}"),
                };
                (key, read_value(entry.get("value").expect("a value")))
            };
            Value::Map(inner.all("entries").map(entry).collect())
        }
        other => panic!("no value: {other}"),
    }
}
