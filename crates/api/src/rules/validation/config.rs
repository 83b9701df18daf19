//! Config maps and secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::json;
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::{At, same};

const DATA_BYTES_MAX: usize = 1024 * 1024;
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const REDACTED: &str = "<secret contents redacted>";

pub(crate) fn config_map(validation: Validation<'_>, errors: &mut FieldErrors) {
    let map = At::root(validation.object);
    if let Some(old) = validation.old.map(At::root) {
        sealed(&map, &old, &["data", "binaryData"], errors);
    }
    let mut bytes = 0;
    for (key, value) in map.strings("data") {
        keyed(&map, "data", key, errors);
        if map.object_or_empty("binaryData").map.contains_key(key) {
            let path = map.path("data").key(key);
            errors.invalid(&path, key.as_str(), "duplicate of key present in binaryData");
        }
        bytes += value.len();
    }
    for (key, value) in map.entries("binaryData") {
        keyed(&map, "binaryData", key, errors);
        bytes += decoded(value).len();
    }
    if bytes > DATA_BYTES_MAX {
        errors.too_long(&FieldPath::root(), DATA_BYTES_MAX);
    }
}

pub(crate) fn secret(validation: Validation<'_>, errors: &mut FieldErrors) {
    let secret = At::root(validation.object);
    if let Some(old) = validation.old.map(At::root) {
        if secret.text("type") != old.text("type") {
            errors.invalid(&secret.path("type"), secret.text("type"), super::IMMUTABLE);
        }
        sealed(&secret, &old, &["data"], errors);
    }
    let mut bytes = 0;
    for (key, value) in secret.entries("data") {
        keyed(&secret, "data", key, errors);
        bytes += decoded(value).len();
    }
    if bytes > DATA_BYTES_MAX {
        errors.too_long(&secret.path("data"), DATA_BYTES_MAX);
    }
    contents(&secret, errors);
}

fn keyed(object: &At<'_>, field: &str, key: &str, errors: &mut FieldErrors) {
    super::reasons(&object.path(field).key(key), key, name::config_key(key), errors);
}

/// An object that said it will not change does not.
fn sealed(object: &At<'_>, old: &At<'_>, fields: &[&str], errors: &mut FieldErrors) {
    if !old.flag("immutable") {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if !object.flag("immutable") {
        errors.forbidden(&object.path("immutable"), detail);
    }
    for field in fields.iter().filter(|field| !same(object.get(field), old.get(field))) {
        errors.forbidden(&object.path(field), detail);
    }
}

/// What a secret of a known type must hold.
fn contents(secret: &At<'_>, errors: &mut FieldErrors) {
    let data = secret.object_or_empty("data");
    let has = |key: &str| data.map.contains_key(key);
    let lack = |key: &str, errors: &mut FieldErrors| errors.required(&secret.path("data").key(key), "");
    match secret.text("type") {
        "kubernetes.io/service-account-token" => {
            let annotations = secret.object_or_empty("metadata").object_or_empty("annotations");
            if annotations.text(ACCOUNT).is_empty() {
                errors.required(&annotations.path.key(ACCOUNT), "");
            }
        }
        "kubernetes.io/dockercfg" => json_object(&data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json_object(&data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            lack("username", errors);
            lack("password", errors);
        }
        "kubernetes.io/ssh-auth" if data.text("ssh-privatekey").is_empty() => lack("ssh-privatekey", errors),
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)) {
                lack(key, errors);
            }
        }
        _ => {}
    }
}

fn json_object(data: &At<'_>, key: &str, errors: &mut FieldErrors) {
    let path = data.path.key(key);
    let Some(value) = data.map.get(key) else { return errors.required(&path, "") };
    let text = decoded(value);
    let kind = match json::parse(&text).map(|parsed| parsed.value) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "string",
        Ok(Value::Bool(_)) => "bool",
        Ok(Value::Int(_) | Value::Float(_)) => "number",
        Err(_) => return errors.invalid(&path, REDACTED, syntax_error(&text)),
    };
    let detail = format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}");
    errors.invalid(&path, REDACTED, detail);
}

/// Why a text is no JSON, in the words of Go's decoder where it fails at the start or the end.
fn syntax_error(text: &[u8]) -> String {
    let start = text.iter().find(|byte| !byte.is_ascii_whitespace());
    match start {
        Some(first) if !b"{[\"tfn-0123456789".contains(first) => {
            format!("invalid character {} looking for beginning of value", quoted(*first))
        }
        _ => "unexpected end of JSON input".to_owned(),
    }
}

/// A byte as Go's decoder quotes it.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b' '..=b'~' => format!("'{}'", char::from(byte)),
        0x80.. => format!("'{}'", char::from(byte)),
        _ => format!(r"'\x{byte:02x}'"),
    }
}

/// The bytes that a field in base64 stands for; the text is canonical since the object was read.
fn decoded(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap_or_default()).expect("conformed bytes are canonical base64")
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::rules::validation::testing::check_rule as check;

    #[test]
    fn config_maps() {
        check(config_map, None, &value!({"data": {"a.b": "c"}, "binaryData": {"d": "AA=="}}), &[]);
        check(
            config_map,
            None,
            &value!({"data": {"a": "c"}, "binaryData": {"a": "AA=="}}),
            &[r#"data[a]: Invalid value: "a": duplicate of key present in binaryData"#],
        );
        check(
            config_map,
            Some(&value!({"immutable": true, "data": {"a": "b"}})),
            &value!({"data": {"a": "c"}}),
            &[
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ],
        );
        check(
            config_map,
            None,
            &value!({"data": {"a": ("b".repeat(DATA_BYTES_MAX + 1))}}),
            &["<nil>: Too long: may not be more than 1048576 bytes"],
        );
    }

    #[test]
    fn secrets() {
        check(secret, None, &value!({"type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}}), &[]);
        check(
            secret,
            None,
            &value!({"type": "kubernetes.io/tls"}),
            &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
        );
        check(
            secret,
            None,
            &value!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "YQ=="}}),
            &[
                r#"data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character 'a' looking for beginning of value"#,
            ],
        );
        check(
            secret,
            None,
            &value!({"type": "kubernetes.io/service-account-token"}),
            &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        );
        check(
            secret,
            Some(&value!({"type": "Opaque"})),
            &value!({"type": "other"}),
            &[r#"type: Invalid value: "other": field is immutable"#],
        );
    }

    #[test]
    fn base64() {
        assert_eq!(decoded(&"aGVsbG8=".into()), b"hello");
        assert_eq!(decoded(&"/+8=".into()), [0xff, 0xef]);
    }
}
