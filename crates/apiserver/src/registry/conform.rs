//! From a decoded body to an object of the kind, with upstream's texts for what does not fit
//! (`k8s.io/apiserver/pkg/endpoints/handlers`).

use std::fmt::Write as _;

use corten_apimachinery::json;
use corten_apimachinery::kind::{GroupVersionKind, KindInfo};
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;

use super::engine::Registry;
use super::kinds::KindSet;
use super::{Body, FieldValidation};

/// How much of an unrecognised body the refusal repeats, as upstream.
const SUMMARY_BYTES: usize = 30;

impl Registry {
    /// Makes a decoded body an object of a kind that is not stored, without defaults; with the warnings that its text
    /// deserves.
    pub fn conform(
        &self,
        kind: &KindInfo,
        body: Body,
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        conform(&self.kinds(), kind, body, validation)
    }
}

/// An object of the kind, without defaults, and the warnings that its text deserves.
pub(super) fn conform(
    kinds: &KindSet,
    kind: &KindInfo,
    body: Body,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let Body { mut value, duplicates, first } = body;
    if value.is_null() {
        value = Value::object();
    }
    check_type(kinds, kind, &value).map_err(|mismatch| mismatch.into_status(kind))?;
    set_type(kind, &mut value);
    let shaped = |value| kind.schema.conform(value).map_err(|error| cannot_be_handled(&kind.gvk, kind, &error.0));
    first.map(shaped).transpose()?;
    let conformed = shaped(value)?;
    let mut strict = conformed.unknown;
    strict.extend(duplicate_fields(&duplicates));
    match validation {
        FieldValidation::Ignore => Ok((conformed.value, Vec::new())),
        FieldValidation::Warn => Ok((conformed.value, strict)),
        FieldValidation::Strict if strict.is_empty() => Ok((conformed.value, strict)),
        FieldValidation::Strict => Err(cannot_be_handled(&kind.gvk, kind, &strict_error(&strict))),
    }
}

/// The same for what a patch has made of an object; refusals are the bare reason.
pub(super) fn conform_patched(
    kinds: &KindSet,
    kind: &KindInfo,
    mut value: Value,
) -> Result<(Value, Vec<String>), String> {
    check_type(kinds, kind, &value).map_err(|mismatch| mismatch.why)?;
    set_type(kind, &mut value);
    let conformed = kind.schema.conform(value).map_err(|error| error.0)?;
    Ok((conformed.value, conformed.unknown))
}

/// Upstream's strict decoding errors of fields that a text has twice.
pub(super) fn duplicate_fields(paths: &[String]) -> impl Iterator<Item = String> {
    paths.iter().map(|path| format!("duplicate field {path:?}"))
}

/// `strict decoding error: unknown field "spec.a", duplicate field "spec.b"`.
pub(super) fn strict_error(strict: &[String]) -> String {
    format!("strict decoding error: {}", strict.join(", "))
}

/// Sets what a body may leave out, since the URL says it.
pub(super) fn set_type(kind: &KindInfo, value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.insert("kind", kind.gvk.kind.clone());
        map.insert("apiVersion", kind.gvk.api_version());
    }
}

/// A body that says to be something else than what the URL names.
struct Mismatch {
    /// What it says to be; `None` where it does not say it well enough to be repeated.
    claimed: Option<GroupVersionKind>,
    why: String,
}

impl Mismatch {
    fn into_status(self, kind: &KindInfo) -> Status {
        match self.claimed {
            Some(claimed) => cannot_be_handled(&claimed, kind, &self.why),
            None => Status::bad_request(self.why),
        }
    }
}

fn check_type(kinds: &KindSet, kind: &KindInfo, value: &Value) -> Result<(), Mismatch> {
    let refuse = |why: &str| Mismatch { claimed: None, why: unrecognised(kind, value, why) };
    let map = value.as_object().ok_or_else(|| {
        let go_type = "value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \
                       \"json:\\\"kind,omitempty\\\"\" }";
        refuse(&no_type(&format!("cannot unmarshal {} into Go {go_type}", json_type(value))))
    })?;
    let text = |key: &str| match map.get(key) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => {
            let other = json_type(other);
            Err(refuse(&no_type(&format!("cannot unmarshal {other} into Go struct field .{key} of type string"))))
        }
    };
    let (api_version, name) = (text("apiVersion")?, text("kind")?);
    if api_version.matches('/').count() > 1 {
        return Err(refuse(&format!("unexpected GroupVersion string: {api_version}")));
    }
    let wanted = kind.gvk.api_version();
    let api_version = if api_version.is_empty() { &wanted } else { api_version };
    let name = if name.is_empty() { &kind.gvk.kind } else { name };
    if api_version == wanted && name == kind.gvk.kind {
        return Ok(());
    }
    let claimed = GroupVersionKind::from_api_version(api_version, name);
    if kinds.kind(&claimed).is_none() {
        let why = format!(
            "no kind {name:?} is registered for version {api_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        );
        return Err(Mismatch { claimed: Some(claimed), why });
    }
    if name == kind.gvk.kind {
        let why =
            format!("the API version in the data ({api_version}) does not match the expected API version ({wanted})");
        return Err(Mismatch { claimed: None, why });
    }
    let hub = if kind.gvk.group.is_empty() { "core" } else { kind.gvk.group.split('.').next().unwrap_or_default() };
    let why = format!("converting ({}.{name}) to ({hub}.{}): unknown conversion", claimed.version, kind.gvk.kind);
    Err(Mismatch { claimed: Some(claimed), why })
}

fn cannot_be_handled(claimed: &GroupVersionKind, kind: &KindInfo, why: &str) -> Status {
    Status::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        claimed.kind, claimed.version, kind.gvk.kind
    ))
}

/// What Go calls a value in its errors.
pub(crate) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::Float(_) => "number",
        Value::Null | Value::Object(_) => "object",
    }
}

fn no_type(why: &str) -> String {
    format!("couldn't get version/kind; json parse error: json: {why}")
}

fn unrecognised(kind: &KindInfo, value: &Value, why: &str) -> String {
    let text = json::to_string(value);
    let summary = summary(text.as_bytes());
    format!("the object provided is unrecognized (must be of type {}): {why} ({summary})", kind.gvk.kind)
}

/// The beginning of a body: as it is where it looks like JSON's object, else in hexadecimal.
fn summary(body: &[u8]) -> String {
    let shown = &body[..body.len().min(SUMMARY_BYTES)];
    let mut text = String::new();
    if body.first() == Some(&b'{') {
        text.push_str(&String::from_utf8_lossy(shown));
    } else {
        for byte in shown {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        }
    }
    if body.len() > SUMMARY_BYTES {
        text.push_str(" ...");
    }
    text
}
