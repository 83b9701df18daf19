//! Create.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::kind::{KindInfo, Validation, Write};
use corten_apimachinery::meta::{self, metadata_mut};
use corten_apimachinery::status::{Details, Status};
use corten_apimachinery::value::Value;
use corten_store::{Entry, Expect, Revision};

use super::engine::Registry;
use super::object::encode;
use super::storage::WriteError;
use super::update::Recorded;
use super::{Body, Context, Object, Shown, Target, WriteOptions, Written};
use super::{admit, conform, fields, key, metadata};
use crate::admission::Operation;
use crate::around::Outcome;

/// Names tried for one `generateName` before the client is told to try again; upstream's figure.
const GENERATED_NAMES_MAX: usize = 8;

/// An object on its way to be created.
pub(super) struct New {
    pub(super) value: Value,
    pub(super) warnings: Vec<String>,
    pub(super) recorded: Recorded,
}

impl Registry {
    /// Writes a new object. `target.name` is empty where the body (or the server) names it.
    pub async fn create(
        &self,
        context: &Context,
        target: &Target,
        body: Body,
        options: WriteOptions,
    ) -> Result<Written, Status> {
        let kind = &target.kind;
        let (mut value, mut warnings) = conform::conform(&self.kinds(), kind, body, options.field_validation)?;
        metadata::clear_system_fields(&mut value);
        if let Err(status) = metadata::settle_namespace(kind, &target.namespace, &mut value) {
            context.keep_warnings(warnings);
            return Err(status);
        }
        warnings.extend(metadata::dedup_owners(&mut value, false));
        self.create_conformed(context, target, New { value, warnings, recorded: Recorded::NotYet }, options).await
    }

    /// Gives an object that is answered and never stored the metadata that every new object gets: what only the server
    /// sets is dropped, and who sent it is recorded. Returns the warnings.
    pub(crate) fn begin_unstored(
        &self,
        context: &Context,
        target: &Target,
        value: &mut Value,
    ) -> Result<Option<String>, Status> {
        metadata::clear_system_fields(value);
        metadata::settle_namespace(&target.kind, &target.namespace, value)?;
        let warning = metadata::dedup_owners(value, false);
        fields::record(context, target, None, value, self.now());
        Ok(warning)
    }

    /// Creates an object that is already of the kind, as a create on update and an apply do.
    pub(super) async fn create_conformed(
        &self,
        context: &Context,
        target: &Target,
        new: New,
        options: WriteOptions,
    ) -> Result<Written, Status> {
        let New { value, mut warnings, recorded } = new;
        match self.create_told(context, target, (value, recorded), options, &mut warnings).await {
            Ok(object) => Ok(Written { object, created: true, warnings }),
            Err(status) => {
                context.keep_warnings(warnings);
                Err(status)
            }
        }
    }

    async fn create_told(
        &self,
        context: &Context,
        target: &Target,
        (mut value, recorded): (Value, Recorded),
        options: WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Shown, Status> {
        let kind = &target.kind;
        kind.schema.default(&mut value);
        let named = Target { name: admit::name_of(target, &value), ..target.clone() };
        if recorded == Recorded::NotYet {
            fields::record(context, &named, None, &mut value, self.now());
        }
        let mut chain = self.admission(context, &named, Operation::Create, None, options.dry_run);
        let is_asked = !chain.is_empty();
        let mutated = if is_asked { chain.mutate(value).await } else { Ok(value) };
        warnings.extend(chain.into_warnings());
        value = mutated?;
        if is_asked {
            metadata::clear_system_fields(&mut value);
            kind.schema.default(&mut value);
            warnings.extend(metadata::dedup_owners(&mut value, true));
        }
        let mut attempts = 1;
        loop {
            let draft = value.clone();
            match self.create_once(context, &named, draft, options, warnings).await {
                Err(Refused::Exists { generated: true, .. }) if attempts < GENERATED_NAMES_MAX => attempts += 1,
                created => return created.map_err(|refused| refused.into_status(kind)),
            }
        }
    }

    /// One attempt, under one generated name where that is asked for.
    async fn create_once(
        &self,
        context: &Context,
        target: &Target,
        mut value: Value,
        options: WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Shown, Refused> {
        let kind = &target.kind;
        metadata::set_system_fields(&mut value, &self.0.clock, &self.0.random);
        let generated = metadata::generate_name(&mut value, &self.0.random);
        metadata::settle_namespace(kind, &target.namespace, &mut value)?;
        let Some(around) = self.around(kind) else {
            return self.create_named(context, target, value, options, warnings, generated).await;
        };
        let begun = around.create(&mut value, options.dry_run).await?;
        let created = self.create_named(context, target, value, options, warnings, generated).await;
        begun.end(created.as_ref().err().map_or(Outcome::Written, Refused::outcome)).await;
        created
    }

    /// Prepares, checks and stores an object that has its name.
    async fn create_named(
        &self,
        context: &Context,
        target: &Target,
        mut value: Value,
        options: WriteOptions,
        warnings: &mut Vec<String>,
        generated: bool,
    ) -> Result<Shown, Refused> {
        let kind = &target.kind;
        value = prepare_new(kind, value, &self.write(context, "", None))?;
        warnings.extend(check(kind, &value, None, "")?);
        let mut chain = self.admission(context, target, Operation::Create, None, options.dry_run);
        let validated = chain.validate(value).await;
        for warning in chain.into_warnings() {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        value = validated?;
        // A default may follow from what was prepared; upstream has it because it reads the object back.
        kind.schema.default(&mut value);
        // The store's refusal upstream, which a dry run does not reach.
        if !options.dry_run && !matches!(value.str_at(&["metadata", "resourceVersion"]), "" | "0") {
            return Err(resource_version_on_create().into());
        }
        let name = value.str_at(&["metadata", "name"]).to_owned();
        let home = self.home(kind)?;
        let key = key::absolute(&home, &target.namespace, &name);
        let stored = to_storage(kind, &value)?;
        let exists = |entry: Option<Arc<Entry>>| Refused::Exists {
            name: name.clone(),
            asked_generated: !value.str_at(&["metadata", "generateName"]).is_empty(),
            generated,
            deleting: entry.and_then(|entry| self.object_of(&home, &entry).ok()).is_some_and(|own| own.head.deleting),
        };
        let revision = if options.dry_run {
            match self.0.storage.entry(&key).await? {
                Some(entry) => return Err(exists(Some(entry))),
                // What was asked for is shown as it was sent.
                None => value.str_at(&["metadata", "resourceVersion"]).parse().unwrap_or(0),
            }
        } else {
            let ttl = time_to_live(kind);
            match self.0.storage.put(&home, key, Expect::Absent, encode(&stored), ttl).await {
                Ok(revision) => revision,
                Err(WriteError::Conflict(entry)) => return Err(exists(entry)),
                Err(WriteError::Refused(status)) => return Err(status.into()),
            }
        };
        Ok(shown(kind, &home, &stored, revision))
    }
}

/// The stored version of an object.
pub(super) fn to_storage<'a>(kind: &KindInfo, value: &'a Value) -> Result<Cow<'a, Value>, Status> {
    match &kind.convert {
        None => Ok(Cow::Borrowed(value)),
        Some(convert) => (convert.to_storage)(value.clone()).map(Cow::Owned).map_err(Status::internal),
    }
}

/// A written object as the answer shows it.
pub(super) fn shown(kind: &Arc<KindInfo>, home: &KindInfo, stored: &Value, revision: Revision) -> Shown {
    Shown { kind: kind.clone(), object: Arc::new(Object::of(stored, revision, &home.selectable_fields)) }
}

pub(super) fn time_to_live(kind: &KindInfo) -> Option<Duration> {
    kind.strategy.ttl_s.map(Duration::from_secs)
}

/// What every kind has in common when it begins.
fn prepare_new(kind: &KindInfo, mut value: Value, write: &Write<'_>) -> Result<Value, Status> {
    if kind.strategy.status
        && !kind.strategy.status_on_create
        && let Some(map) = value.as_object_mut()
    {
        map.remove("status");
    }
    if kind.strategy.generation {
        metadata_mut(&mut value).insert("generation", 1);
    }
    if let Some(prepare) = kind.strategy.prepare {
        prepare(&mut value, None);
    }
    if let Some(settle) = kind.strategy.settle {
        settle(&mut value, write);
    }
    // A struct that is never absent may have been taken away.
    Ok(kind.schema.conform(value).map_err(|error| Status::internal(error.to_string()))?.value)
}

/// The kind's rules; the texts it wants the client to be told.
pub(super) fn check(
    kind: &KindInfo,
    value: &Value,
    old: Option<&Value>,
    subresource: &str,
) -> Result<Vec<String>, Status> {
    let mut errors = FieldErrors::default();
    match old {
        None => meta::validate_create(value, kind.namespaced(), kind.strategy.name, &mut errors),
        Some(old) => meta::validate_update(value, old, &mut errors),
    }
    if kind.strategy.qualified_finalizers {
        meta::validate_qualified_finalizers(value, &mut errors);
    }
    let own = kind.validate(Validation { object: value, old, subresource });
    if kind.strategy.metadata_last && old.is_none() && !own.is_empty() {
        errors = own;
    } else {
        errors.extend(own);
    }
    if !errors.is_empty() {
        let name = value.str_at(&["metadata", "name"]);
        let group = kind.strategy.refused_in.unwrap_or(&kind.gvk.group);
        return Err(Status::invalid(group, &kind.gvk.kind, name, &errors));
    }
    Ok(kind.strategy.warn.map(|warn| warn(value, old)).unwrap_or_default())
}

/// Why an attempt to create failed.
enum Refused {
    Exists {
        name: String,
        /// The body has a `generateName`, whether or not it was used.
        asked_generated: bool,
        /// The server chose the name, and may choose another.
        generated: bool,
        deleting: bool,
    },
    Status(Status),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl Refused {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Status(status) => Outcome::of(Some(status)),
            Self::Exists { .. } => Outcome::Refused,
        }
    }

    fn into_status(self, kind: &KindInfo) -> Status {
        let (name, asked_generated, deleting) = match self {
            Self::Status(status) => return status,
            Self::Exists { name, asked_generated, deleting, .. } => (name, asked_generated, deleting),
        };
        let mut status = Status::already_exists(&kind.gvk.group, &kind.plural, &name);
        if asked_generated {
            status.message.push_str(", the server was not able to generate a unique name for the object");
            status.details.get_or_insert_with(Box::<Details>::default).retry_after_s = 1;
        }
        if deleting {
            status.message.insert_str(0, "object is being deleted: ");
        }
        status
    }
}

/// Upstream's answer, which has no reason.
fn resource_version_on_create() -> Status {
    let message = "resourceVersion should not be set on objects to be created".to_owned();
    Status { code: 500, reason: "", message, details: None, continue_token: None }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use corten_apimachinery::value;
    use corten_stdx::{clock::Clock, random::Random, task::Tasks};
    use corten_store::model::ModelStore;
    use corten_store::{At, Store as _};
    use futures_core::future::BoxFuture;

    use super::super::ListOptions;
    use super::super::seal::{SealError, Sealer};
    use super::*;
    use crate::admission::{Admission, AdmissionRequest};
    use crate::testing::{START_MS, body, context, kinds, target};

    /// Turns every bit of the widgets around.
    struct Inverted;

    impl Sealer for Inverted {
        fn seal(&self, resource: &str, _key: &[u8], plain: Bytes) -> Result<Bytes, SealError> {
            assert_eq!(resource, "widgets.test.corten.dev");
            Ok(plain.iter().map(|byte| !byte).collect())
        }

        fn open(&self, resource: &str, key: &[u8], sealed: Bytes) -> Result<Bytes, SealError> {
            self.seal(resource, key, sealed)
        }
    }

    /// Paints everything, and refuses blue.
    struct Painter;

    impl Admission for Painter {
        fn name(&self) -> &'static str {
            "Painter"
        }

        fn handles(&self, operation: Operation) -> bool {
            operation == Operation::Create
        }

        fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
            let painted = request.object.object_entry("spec").insert("color", request.name.as_str());
            request.warnings.push(format!("was {painted:?}"));
            Box::pin(std::future::ready(Ok(())))
        }

        fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
            let blue = request.object.str_at(&["spec", "color"]) == "blue";
            let refusal = Status::forbidden("test.corten.dev", "widgets", &request.name, "blue is taken");
            Box::pin(std::future::ready(if blue { Err(refusal) } else { Ok(()) }))
        }
    }

    #[tokio::test]
    async fn admission_sees_the_object_and_the_store_sees_it_sealed() {
        let clock = Clock::manual(START_MS);
        let store = Arc::new(ModelStore::new(clock.clone()));
        let tasks = Tasks::new();
        let admission: Vec<Arc<dyn crate::admission::Admission>> = vec![Arc::new(Painter)];
        let sealer = Arc::new(Inverted);
        let registry = Registry::new(store.clone(), clock, Random::seeded(1), admission, sealer, &tasks);
        registry.install([kinds::widget()]);
        let kind = registry.kinds().iter().next().unwrap().clone();
        let create = async |name: &str| {
            let value = value!({"metadata": {"name": name}});
            registry.create(&context(), &target(&kind, ""), body(value), WriteOptions::default()).await
        };
        let written = create("red").await.unwrap();
        assert_eq!(written.warnings, ["was None"]);
        assert_eq!(written.object.to_value().unwrap().str_at(&["spec", "color"]), "red");
        let refused = create("blue").await.err().unwrap();
        assert_eq!(refused.message, r#"widgets.test.corten.dev "blue" is forbidden: blue is taken"#);

        let stored = store.list(b"/", None, 0, At::Latest).await.unwrap();
        let [entry] = stored.entries.as_slice() else { panic!("one object: {stored:?}") };
        assert!(memchr::memmem::find(&entry.value, b"red").is_none(), "in plain text: {entry:?}");
        let list = registry.list(&kind, "default", &ListOptions::default()).await.unwrap();
        assert_eq!(list.items[0].head.name, "red");
    }

    #[tokio::test]
    async fn bodies_of_other_kinds_are_refused() {
        let bench = crate::testing::Bench::new([kinds::widget(), kinds::gadget()]);
        let kind = bench.kind("widgets");
        for (version, claimed, message) in [
            (
                "test.corten.dev/v1",
                "Gadget",
                r#"Gadget in version "v1" cannot be handled as a Widget: converting (v1.Gadget) to (test.Widget): unknown conversion"#,
            ),
            (
                "test.corten.dev/v2",
                "Widget",
                r#"Widget in version "v2" cannot be handled as a Widget: no kind "Widget" is registered for version "test.corten.dev/v2" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
            ),
        ] {
            let value = value!({"apiVersion": version, "kind": claimed, "metadata": {"name": "a"}});
            let refused =
                bench.registry.create(&context(), &target(&kind, ""), body(value), WriteOptions::default()).await;
            let refused = refused.err().unwrap();
            assert_eq!((refused.code, refused.message.as_str()), (400, message));
        }
        for (value, message) in [
            (
                value!({"apiVersion": 7}),
                "the object provided is unrecognized (must be of type Widget): couldn't get version/kind; json parse \
                 error: json: cannot unmarshal number into Go struct field .apiVersion of type string ({\"apiVersion\":7})",
            ),
            (
                value!({"apiVersion": "a/b/c"}),
                "the object provided is unrecognized (must be of type Widget): unexpected GroupVersion string: a/b/c \
                 ({\"apiVersion\":\"a/b/c\"})",
            ),
        ] {
            let refused =
                bench.registry.create(&context(), &target(&kind, ""), body(value), WriteOptions::default()).await;
            assert_eq!(refused.err().unwrap().message, message);
        }
        let dated = value!({"metadata": {"name": "a", "resourceVersion": "5"}});
        let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
        let tried = bench.registry.create(&context(), &target(&kind, ""), body(dated.clone()), dry).await;
        assert!(tried.is_ok(), "a dry run does not reach the store");
        let refused = bench.registry.create(&context(), &target(&kind, ""), body(dated), WriteOptions::default()).await;
        assert_eq!(refused.err().unwrap().code, 500);
        let other = value!({"metadata": {"name": "a", "namespace": "other"}});
        let refused = bench.registry.create(&context(), &target(&kind, ""), body(other), WriteOptions::default()).await;
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        assert_eq!(refused.err().unwrap().message, message);
    }
}
