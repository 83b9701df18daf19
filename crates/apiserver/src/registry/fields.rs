//! Who owns which fields: every write is recorded in `metadata.managedFields`, and server-side apply goes by it.

use std::sync::Arc;

use corten_apimachinery::kind::{KindInfo, ScalePaths, Serve};
use corten_apimachinery::managed::{self, Endpoint, Manager};
use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::status::Status;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::{Map, Value};

use super::conform;
use super::engine::{Registry, not_found};
use super::scale::set_at;
use super::update::{Recorded, Rewrite, serve_of, settle_identity};
use super::{Configuration, Context, FieldValidation, Target, WriteOptions, Written};
use super::{create::New, metadata};

/// How often an apply that finds nothing creates, and one that cannot create updates, before somebody else wins.
const TURNS_MAX: usize = 5;

impl Registry {
    /// Server-side apply: creates the object, or makes it what the configuration says of it.
    pub(super) async fn apply(
        &self,
        context: &Context,
        target: &Target,
        config: Configuration,
        options: WriteOptions,
    ) -> Result<Written, Status> {
        let serve = serve_of(target)?;
        let warnings = check_duplicates(&config, options.field_validation)?;
        let kind = &target.kind;
        let now = stamped(serve, self.now());
        let (config, scale) = match serve {
            Some(Serve::Scale(paths)) => (self.whole_of_scale(target, paths, &config.value)?, Some(paths)),
            _ => (config.value, None),
        };
        let apply = |live: Option<&Value>| {
            let manager = manager(context, target);
            let applied = managed::apply(live, &config, kind.schema.node(), &manager, options.force, now);
            let applied = applied.map_err(|error| error.to_status())?;
            let conformed = conform::conform_patched(&self.kinds(), kind, applied).map_err(Status::bad_request)?;
            let mut value = conformed.0;
            settle_identity(target, &mut value)?;
            kind.schema.default(&mut value);
            Ok(value)
        };
        let make = |old: &Value, told: &mut Vec<String>| {
            told.extend(warnings.iter().cloned());
            apply(Some(old))
        };
        for _ in 0..TURNS_MAX {
            let rewrite = Rewrite { registry: self, context, target, options, recorded: Recorded::Already, scale };
            if let Some(written) = rewrite.run(&make).await? {
                return match scale {
                    Some(paths) => Ok(Written { object: self.show_scale(target, paths, &written.object)?, ..written }),
                    None => Ok(written),
                };
            }
            if !target.subresource.is_empty() {
                return Err(not_found(kind, &target.name));
            }
            let mut value = apply(None)?;
            let uid = Meta::of(&value).uid();
            if !uid.is_empty() {
                let why =
                    format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
                return Err(Status::conflict(&kind.gvk.group, &kind.plural, &target.name, &why));
            }
            metadata::clear_system_fields(&mut value);
            let new = New { value, warnings: warnings.clone(), recorded: Recorded::Already };
            match self.create_conformed(context, target, new, options).await {
                Err(status) if status.reason == "AlreadyExists" => {}
                answer => return answer,
            }
        }
        Err(Status::modified(&kind.gvk.group, &kind.plural, &target.name))
    }

    /// What a scale's configuration says of the object that it belongs to.
    fn whole_of_scale(&self, target: &Target, paths: &ScalePaths, config: &Value) -> Result<Value, Status> {
        let scale = self.scale_kind(target)?;
        let claimed = (config.str_at(&["apiVersion"]), config.str_at(&["kind"]));
        if claimed != (scale.gvk.api_version().as_str(), scale.gvk.kind.as_str()) {
            let why = format!("{} in version {:?} cannot be handled as a {}", claimed.1, claimed.0, scale.gvk.kind);
            return Err(Status::bad_request(why));
        }
        let mut whole = Value::Object(Map::new());
        conform::set_type(&target.kind, &mut whole);
        for field in ["name", "namespace", "uid", "resourceVersion"] {
            if let Some(value) = config.at(&["metadata", field]) {
                metadata_mut(&mut whole).insert(field, value.clone());
            }
        }
        if let Some(replicas) = config.at(&["spec", "replicas"]) {
            set_at(&mut whole, &paths.spec_replicas, replicas.clone());
        }
        Ok(whole)
    }

    /// The time of the registry's clock.
    pub fn now(&self) -> Time {
        Time::from_seconds(self.0.clock.now_s())
    }
}

/// Records what a write that is no apply changes.
pub(super) fn record(context: &Context, target: &Target, old: Option<&Arc<Value>>, new: &mut Value, now: Time) {
    let manager = manager(context, target);
    let now = stamped(target.kind.subresource(&target.subresource).map(|sub| &sub.serve), now);
    managed::update(old.map(Arc::as_ref), new, target.kind.schema.node(), &manager, now);
}

/// When an entry says that it was written: one of a scale does not, as upstream's.
fn stamped(serve: Option<&Serve>, now: Time) -> Option<Time> {
    (!matches!(serve, Some(Serve::Scale(_)))).then_some(now)
}

fn manager<'a>(context: &'a Context, target: &'a Target) -> Manager<'a> {
    let kind: &KindInfo = &target.kind;
    let endpoint = match (kind.strategy.endpoint, kind.subresource(&target.subresource).map(|sub| &sub.serve)) {
        (Some(endpoint), _) => endpoint(&target.subresource),
        (None, None) if kind.strategy.status => Endpoint::WITHOUT_STATUS,
        (None, Some(Serve::Status)) => Endpoint::STATUS,
        (None, _) => Endpoint::All,
    };
    Manager { name: &context.manager, gvk: &kind.gvk, subresource: &target.subresource, endpoint }
}

/// Fields that the configuration's text has twice: a warning, or a refusal.
fn check_duplicates(config: &Configuration, validation: FieldValidation) -> Result<Vec<String>, Status> {
    match (validation, &config.refused) {
        (FieldValidation::Ignore, _) | (_, None) => Ok(Vec::new()),
        (FieldValidation::Warn, Some(why)) => Ok(vec![why.clone()]),
        (FieldValidation::Strict, Some(why)) => Err(Status::bad_request(format!("error strict decoding YAML: {why}"))),
    }
}
