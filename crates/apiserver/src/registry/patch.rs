//! Patch: the stored object, changed by a document. Decoded once, applied to what is stored at each attempt, so a patch
//! without a revision of its own does not conflict.

use std::fmt::Write as _;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::json;
use corten_apimachinery::kind::{KindInfo, Serve};
use corten_apimachinery::patch::{json::JsonPatch, merge, strategic};
use corten_apimachinery::schema::Node;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;

use super::conform::{self, duplicate_fields};
use super::engine::{Registry, not_found};
use super::kinds::KindSet;
use super::update::{Recorded, Rewrite, serve_of, settle_identity};
use super::{Body, Context, FieldValidation, Patch, Target, WriteOptions, Written};

/// What a kind without merge keys can be patched with.
const WITHOUT_STRATEGIC: &str = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml, \
     application/apply-patch+cbor";

impl Registry {
    /// Changes an object, or what a subresource shows of it.
    pub async fn patch(
        &self,
        context: &Context,
        target: &Target,
        patch: Patch,
        options: WriteOptions,
    ) -> Result<Written, Status> {
        let kinds = self.kinds();
        let (change, strict) = match patch {
            Patch::Apply(config) => return self.apply(context, target, config, options).await,
            Patch::Json(bytes) => decode_json(&bytes)?,
            Patch::Merge(Body { value, duplicates, .. }) => {
                (Change::Merge(value), duplicate_fields(&duplicates).collect())
            }
            Patch::Strategic(Body { value, duplicates, .. }) => {
                (Change::Strategic(value), duplicate_fields(&duplicates).collect())
            }
        };
        let document = Document { change, strict, validation: options.field_validation };
        if let Some(Serve::Scale(paths)) = serve_of(target)? {
            let kind = self.scale_kind(target)?;
            document.check_kind(&kind)?;
            let make = |old: &Value, told: &mut Vec<String>| document.apply(&kinds, &kind, target, old, told);
            return self.rewrite_scale(context, target, paths, options, &make).await;
        }
        document.check_kind(&target.kind)?;
        let make = |old: &Value, told: &mut Vec<String>| document.apply(&kinds, &target.kind, target, old, told);
        let rewrite = Rewrite { registry: self, context, target, options, recorded: Recorded::NotYet, scale: None };
        let written = rewrite.run(&make).await?;
        written.ok_or_else(|| not_found(&target.kind, &target.name))
    }
}

/// A decoded patch.
struct Document {
    change: Change,
    /// What strict decoding found in the patch itself.
    strict: Vec<String>,
    validation: FieldValidation,
}

enum Change {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Value),
}

impl Document {
    fn check_kind(&self, kind: &KindInfo) -> Result<(), Status> {
        match (&self.change, kind.schema.node()) {
            (Change::Strategic(_), Node::Structural(_) | Node::Unknown) => {
                Err(Status::unsupported_media_type(WITHOUT_STRATEGIC))
            }
            _ => Ok(()),
        }
    }

    /// The object that the patch makes of the stored one.
    fn apply(
        &self,
        kinds: &KindSet,
        kind: &KindInfo,
        target: &Target,
        old: &Value,
        told: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let patched = match &self.change {
            Change::Json(patch) => patch.apply(old),
            Change::Merge(patch) => {
                let mut object = old.clone();
                merge::apply(&mut object, patch.clone()).map(|()| object)
            }
            Change::Strategic(patch) => strategic::apply(old, patch.clone(), kind.schema.node()),
        };
        let patched = patched.map_err(|error| error.to_status())?;
        let shown = || match &self.change {
            Change::Json(_) => json::to_string(&patched),
            Change::Merge(patch) => text_of_merged(&patched, patch),
            Change::Strategic(patch) => go_text(patch),
        };
        let conformed = conform::conform_patched(kinds, kind, patched.clone());
        let (mut value, unknown) = conformed.map_err(|why| invalid_patch(shown(), &why))?;
        let strict: Vec<String> = self.strict.iter().chain(&unknown).cloned().collect();
        match self.validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => told.extend(strict),
            FieldValidation::Strict if strict.is_empty() => {}
            FieldValidation::Strict => return Err(invalid_patch(shown(), &conform::strict_error(&strict))),
        }
        settle_identity(target, &mut value)?;
        kind.schema.default(&mut value);
        Ok(value)
    }
}

fn decode_json(bytes: &[u8]) -> Result<(Change, Vec<String>), Status> {
    let malformed = |error| Status::bad_request(format!("error decoding patch: {error}"));
    let parsed = json::parse(bytes).map_err(malformed)?;
    let patch = JsonPatch::decode(parsed.value).map_err(|error| error.to_status())?;
    let found = patch.unknown.iter().cloned().chain(duplicate_fields(&parsed.duplicates));
    let strict = found.map(|error| format!("json patch {error}")).collect();
    Ok((Change::Json(patch), strict))
}

/// Upstream's refusal of a patch whose outcome is no object of the kind. It names no kind.
fn invalid_patch(shown: String, why: &str) -> Status {
    let mut errors = FieldErrors::default();
    errors.invalid(&FieldPath::new("patch"), shown, why);
    Status::invalid("", "", "", &errors)
}

/// The JSON of a merged object as upstream writes it: what the patch reaches by key, everything else as it was.
fn text_of_merged(object: &Value, patch: &Value) -> String {
    fn sort(value: &mut Value, patch: &Value) {
        let (Value::Object(map), Value::Object(patch)) = (value, patch) else { return };
        map.sort_keys();
        for (key, value) in map.iter_mut() {
            if let Some(patch) = patch.get(key) {
                sort(value, patch);
            }
        }
    }
    let mut object = object.clone();
    sort(&mut object, patch);
    json::to_string(&object)
}

/// A value as Go prints it with `%+v`: `map[a:1 b:[x y]]`.
fn go_text(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Null => out.push_str("<nil>"),
            Value::String(text) => out.push_str(text),
            Value::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { " " } else { "" });
                    write(item, out);
                }
                out.push(']');
            }
            Value::Object(map) => {
                out.push_str("map[");
                let mut fields: Vec<_> = map.iter().collect();
                fields.sort_unstable_by_key(|(key, _)| *key);
                for (index, (key, value)) in fields.into_iter().enumerate() {
                    out.push_str(if index > 0 { " " } else { "" });
                    write!(out, "{key}:").expect("writing to a string cannot fail");
                    write(value, out);
                }
                out.push(']');
            }
            scalar => out.push_str(&json::to_string(scalar)),
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn prints_like_go() {
        let value = value!({"spec": {"b": [1, "x", true], "a": null}, "kind": "A"});
        assert_eq!(go_text(&value), "map[kind:A spec:map[a:<nil> b:[1 x true]]]");
        let patch = value!({"kind": "A"});
        assert_eq!(text_of_merged(&value, &patch), r#"{"kind":"A","spec":{"b":[1,"x",true],"a":null}}"#);
        let patch = value!({"spec": {"c": null}});
        assert_eq!(text_of_merged(&value, &patch), r#"{"kind":"A","spec":{"a":null,"b":[1,"x",true]}}"#);
    }
}
