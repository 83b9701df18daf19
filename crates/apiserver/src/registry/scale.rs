//! The scale subresource of any kind: replicas of an object, by field paths (`autoscaling/v1` `Scale`).

use std::sync::Arc;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::{KindInfo, ScalePaths};
use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::selector::label::LabelSelector;
use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};

use super::conform;
use super::engine::{Registry, not_found};
use super::update::{Make, Recorded, Rewrite, settle_identity};
use super::{Body, Context, Shown, Target, WriteOptions, Written};

impl Registry {
    /// The scale of an object.
    pub(super) fn show_scale(&self, target: &Target, paths: &ScalePaths, object: &Shown) -> Result<Shown, Status> {
        let kind = self.scale_kind(target)?;
        let value = object.to_value().map_err(Status::internal)?;
        Ok(Shown::unstored(kind, &scale_of(paths, &value), object.object.revision))
    }

    pub(super) async fn update_scale(
        &self,
        context: &Context,
        target: &Target,
        paths: &ScalePaths,
        body: Body,
        options: WriteOptions,
    ) -> Result<Written, Status> {
        let kind = self.scale_kind(target)?;
        let (mut scale, warnings) = conform::conform(&self.kinds(), &kind, body, options.field_validation)?;
        settle_identity(target, &mut scale)?;
        let make = |_: &Value, told: &mut Vec<String>| {
            told.extend(warnings.iter().cloned());
            Ok(scale.clone())
        };
        self.rewrite_scale(context, target, paths, options, &make).await
    }

    /// Writes the replicas of what `make` makes of the object's scale.
    pub(super) async fn rewrite_scale(
        &self,
        context: &Context,
        target: &Target,
        paths: &ScalePaths,
        options: WriteOptions,
        make: &dyn Make,
    ) -> Result<Written, Status> {
        let scale_kind = self.scale_kind(target)?;
        let make_object = |old: &Value, told: &mut Vec<String>| {
            let scale = make(&scale_of(paths, old), told)?;
            check_scale(&scale_kind, &scale)?;
            let mut new = old.clone();
            set_replicas(paths, &mut new, &scale);
            for field in ["resourceVersion", "uid"] {
                metadata_mut(&mut new).insert(field, scale.str_at(&["metadata", field]));
            }
            Ok(new)
        };
        let scale = Some(paths);
        let rewrite = Rewrite { registry: self, context, target, options, recorded: Recorded::NotYet, scale };
        let written = rewrite.run(&make_object).await?;
        let written = written.ok_or_else(|| not_found(&target.kind, &target.name))?;
        Ok(Written { object: self.show_scale(target, paths, &written.object)?, ..written })
    }

    pub(super) fn scale_kind(&self, target: &Target) -> Result<Arc<KindInfo>, Status> {
        let subresource = target.kind.subresource(&target.subresource).ok_or_else(Status::unknown_path)?;
        self.body_kind(&target.kind, &subresource.gvk)
    }
}

/// Gives an object the replicas that its scale asks for.
pub(super) fn set_replicas(paths: &ScalePaths, object: &mut Value, scale: &Value) {
    let replicas = scale.i64_at(&["spec", "replicas"]).unwrap_or_default();
    set_at(object, &paths.spec_replicas, replicas.into());
}

/// The scale that an object shows.
pub(super) fn scale_of(paths: &ScalePaths, object: &Value) -> Value {
    let mut metadata = Map::new();
    let fields = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
    for (field, text) in fields.map(|field| (field, object.str_at(&["metadata", field]))) {
        if !text.is_empty() {
            metadata.insert(field, text);
        }
    }
    let mut spec = Map::new();
    let replicas = int_at(object, &paths.spec_replicas);
    if replicas != 0 {
        spec.insert("replicas", replicas);
    }
    let mut status = Map::new();
    status.insert("replicas", int_at(object, &paths.status_replicas));
    let selector = paths.selector.as_ref().and_then(|path| at(object, path)).map(selector_text).unwrap_or_default();
    if !selector.is_empty() {
        status.insert("selector", selector);
    }
    value!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": spec,
        "status": status
    })
}

fn at<'a>(object: &'a Value, path: &[Str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

fn int_at(object: &Value, path: &[Str]) -> i64 {
    at(object, path).and_then(Value::as_i64).unwrap_or_default()
}

pub(super) fn set_at(object: &mut Value, path: &[Str], value: Value) {
    match path {
        [] => *object = value,
        [field] => {
            if let Some(map) = object.as_object_mut() {
                map.insert(field.clone(), value);
            }
        }
        [field, rest @ ..] => {
            object.object_entry(field);
            if let Some(child) = object.get_mut(field) {
                set_at(child, rest, value);
            }
        }
    }
}

/// A selector as text, whether the object has it as text, as a plain map of labels or as a `LabelSelector`.
fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    let structured = ["matchLabels", "matchExpressions"].iter().any(|field| selector.get(field).is_some());
    let parsed = match selector.as_object() {
        Some(labels) if !structured => {
            let labels = labels.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
            Ok(LabelSelector::from_labels(labels))
        }
        _ => LabelSelector::from_object(Some(selector)),
    };
    // A selector that cannot be read selects nothing, and upstream shows none.
    parsed.map(|selector| selector.to_string()).unwrap_or_default()
}

pub(super) fn check_scale(kind: &KindInfo, scale: &Value) -> Result<(), Status> {
    let replicas = scale.i64_at(&["spec", "replicas"]).unwrap_or_default();
    if replicas >= 0 {
        return Ok(());
    }
    let mut errors = FieldErrors::default();
    let path = FieldPath::new("spec").child("replicas");
    errors.invalid(&path, replicas, "must be greater than or equal to 0");
    Err(Status::invalid(&kind.gvk.group, &kind.gvk.kind, Meta::of(scale).name(), &errors))
}
