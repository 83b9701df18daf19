//! A kind is a record: names, scope, schema, rules, columns, strategy. The API server's generic path reads these
//! records and nothing else; built-in kinds, Corten's own and users' custom resources differ only in what the record
//! holds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::field::{FieldErrors, FieldPath};
use crate::managed::Endpoint;
use crate::schema::ObjectSchema;
use crate::value::{Str, Value};

/// Group, version and kind of an object. The core group is `""`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    pub group: Str,
    pub version: Str,
    pub kind: Str,
}

/// Group, version and plural name of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    pub group: Str,
    pub version: Str,
    pub resource: Str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// Everything that the API server knows of one kind in one version.
pub struct KindInfo {
    pub gvk: GroupVersionKind,
    /// `PodList` and the like.
    pub list_kind: Str,
    /// As in paths; empty for a kind that is only the body of a subresource.
    pub plural: Str,
    pub singular: Str,
    pub short_names: Vec<Str>,
    pub categories: Vec<Str>,
    pub scope: Scope,
    /// Verbs of the main endpoint as discovery prints them; empty where only subresources are served.
    pub verbs: Vec<Str>,
    /// Where objects are stored, as in `/registry/pods`. Versions of one resource share it; so may two groups.
    pub storage_prefix: Str,
    /// Present where the stored version is another one than this.
    pub convert: Option<Conversion>,
    pub schema: Arc<dyn ObjectSchema>,
    pub strategy: Strategy,
    pub columns: Vec<Column>,
    /// Field selectors besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<SelectableField>,
    pub subresources: Vec<Subresource>,
}

/// To the stored version and back. Both work on whole objects, `apiVersion` and `kind` included.
#[derive(Clone)]
pub struct Conversion {
    pub to_storage: Arc<dyn Fn(Value) -> Result<Value, String> + Send + Sync>,
    pub from_storage: Arc<dyn Fn(Value) -> Result<Value, String> + Send + Sync>,
}

/// What happens to an object of this kind on its way to the store.
#[derive(Clone)]
pub struct Strategy {
    pub name: NameRule,
    /// The group that refusals of an object's content name, where it is not the kind's own: that of the form in which
    /// upstream holds an object that is served in two groups.
    pub refused_in: Option<&'static str>,
    /// How a field that objects cannot be selected by is refused, where not in the common words.
    pub refuse_field: Option<fn(&str) -> String>,
    /// What a delete is told that does not say what becomes of dependents.
    pub warn_delete: Option<&'static str>,
    /// Finalizers are of Kubernetes itself or have a domain in front.
    pub qualified_finalizers: bool,
    /// On create, metadata is judged only where the kind's own rules hold.
    pub metadata_last: bool,
    /// `metadata.generation` starts at 1 and rises when the object changes outside metadata and status.
    pub generation: bool,
    /// `status` is written through its subresource alone: dropped on create, kept on update.
    pub status: bool,
    /// Where `status` is set: a create keeps it all the same (an agent registers itself together with its state).
    pub status_on_create: bool,
    /// What becomes of dependents when a delete request does not say.
    pub default_propagation: Propagation,
    /// `PUT` to an absent name creates it.
    pub create_on_update: bool,
    /// `PUT` without a resourceVersion is taken as it stands.
    pub unconditional_update: bool,
    /// Objects are gone so many seconds after their last write.
    pub ttl_s: Option<u64>,
    /// Runs on create and on update of the object itself, after defaults, system metadata and the rules for status and
    /// generation above, before admission's validating half: clears what users may not set, derives fields. The second
    /// value is the stored object on update.
    pub prepare: Option<fn(&mut Value, Option<&Value>)>,
    /// Runs last of all preparation, on create and on update, of subresources too: what follows from who writes and when.
    pub settle: Option<fn(&mut Value, &Write<'_>)>,
    /// The fields that writes of an endpoint (`""` for the object itself) take over and own, where these are not all but
    /// the status, or the status alone.
    pub endpoint: Option<fn(&str) -> Endpoint<'static>>,
    /// The text of the `Warning:` that every request for the kind gets.
    pub deprecated: Option<Str>,
    /// A write of `status` leaves labels, annotations, finalizers and owners as they are.
    pub status_keeps_metadata: bool,
    /// Rules that hold for the whole object; those of one schema type are attached to the type.
    pub validate: Option<fn(Validation<'_>, &mut FieldErrors)>,
    /// Texts for `Warning:` headers on create and update.
    pub warn: Option<fn(&Value, Option<&Value>) -> Vec<String>>,
    /// Delete marks the object and waits for a node to confirm: gives the grace period in seconds for an object and the
    /// period asked for. `None`: deletes at once.
    pub graceful: Option<fn(&Value, Option<i64>) -> i64>,
    /// Whether the object may not go yet although its metadata has no finalizers (finalizers in its spec): a delete
    /// marks it, and the update that lets it go deletes it.
    pub hold: Option<fn(&Value) -> bool>,
    /// Runs when a delete is asked for the first time, before it is decided whether the object may go: marks it as going
    /// (finalizers, a phase, a condition). The number is the time in Unix seconds.
    pub begin_delete: Option<fn(&mut Value, i64)>,
    /// A delete answers with the object it had, not with a `Status`.
    pub delete_returns_object: bool,
}

/// One write on its way: what it is of, by whom, and when.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    /// `""` for the object itself.
    pub subresource: &'a str,
    /// The stored object on update.
    pub old: Option<&'a Value>,
    /// Unix seconds.
    pub now_s: i64,
    pub user: Writer<'a>,
}

/// Who writes (`authentication.k8s.io/v1` `UserInfo`).
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    pub name: &'a str,
    pub uid: &'a str,
    pub groups: &'a [Str],
    pub extra: &'a BTreeMap<Str, Vec<Str>>,
}

/// One object under validation.
#[derive(Clone, Copy)]
pub struct Validation<'a> {
    pub object: &'a Value,
    /// The stored object on update.
    pub old: Option<&'a Value>,
    /// `""` for the main endpoint, else the subresource.
    pub subresource: &'a str,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            name: NameRule::DnsSubdomain,
            refused_in: None,
            refuse_field: None,
            warn_delete: None,
            qualified_finalizers: false,
            metadata_last: false,
            generation: false,
            status: false,
            status_on_create: false,
            default_propagation: Propagation::Background,
            create_on_update: false,
            unconditional_update: true,
            ttl_s: None,
            prepare: None,
            settle: None,
            endpoint: None,
            deprecated: None,
            status_keeps_metadata: false,
            validate: None,
            warn: None,
            graceful: None,
            hold: None,
            begin_delete: None,
            delete_returns_object: false,
        }
    }
}

/// Which names an object may have (RFC 1123, RFC 1035, or anything that is one path segment).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    DnsSubdomain,
    DnsLabel,
    Dns1035Label,
    PathSegment,
}

/// What becomes of an object's dependents when it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// One column of server-side printing (`as=Table`).
#[derive(Clone)]
pub struct Column {
    pub name: Str,
    /// An OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: Str,
    /// An OpenAPI format: `name` marks the object's name.
    pub format: Str,
    pub description: Str,
    /// 0 is always shown; above it only by `-o wide`.
    pub priority: i32,
    pub cell: Cell,
}

/// Where a column's value comes from.
#[derive(Clone)]
pub enum Cell {
    /// The value at a path of plain fields; absent prints as `<none>`.
    Field(&'static [&'static str]),
    /// The age of the timestamp at a path, as `5d`; absent prints as `<unknown>`.
    Age(&'static [&'static str]),
    /// Computed from the object at a time (Unix seconds).
    Computed(fn(&Value, i64) -> Value),
    /// A custom resource's `jsonPath`, compiled.
    Path(Arc<dyn Fn(&Value, i64) -> Value + Send + Sync>),
}

/// A field that field selectors may name.
#[derive(Clone)]
pub struct SelectableField {
    /// As users write it: `spec.nodeName`.
    pub name: Str,
    pub value: FieldValue,
}

/// How a selectable field is read.
#[derive(Clone)]
pub enum FieldValue {
    Path(Vec<Str>),
    Computed(fn(&Value) -> Str),
}

/// An endpoint below an object.
#[derive(Clone)]
pub struct Subresource {
    /// `status`, `scale`, `log`, `exec`, …
    pub name: Str,
    pub verbs: Vec<Str>,
    /// The kind of its body, which may belong to another group (`autoscaling/v1` `Scale`).
    pub gvk: GroupVersionKind,
    pub serve: Serve,
}

/// Who answers a subresource.
#[derive(Clone)]
pub enum Serve {
    /// The generic path: the object itself; only `status` and metadata are taken from the request.
    Status,
    /// The generic path: replicas of the object, by field paths.
    Scale(ScalePaths),
    /// The generic path: the object itself, with only what the filter takes over from the request (new, stored).
    Part(fn(&mut Value, &Value)),
    /// A handler that the binary registers under `group/resource/subresource`.
    Handler,
}

/// Field paths of the scale subresource, without a leading dot: `["spec", "replicas"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: Vec<Str>,
    pub status_replicas: Vec<Str>,
    /// A label selector, as a string or an object.
    pub selector: Option<Vec<Str>>,
}

impl GroupVersionKind {
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> Str {
        api_version(&self.group, &self.version)
    }

    /// Splits an `apiVersion` and a kind; more than one slash in `api_version` is refused by the caller's look-up.
    pub fn from_api_version(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self::new(group, version, kind)
    }
}

/// `v1` for the core group, else `group/version`.
pub fn api_version(group: &str, version: &str) -> Str {
    if group.is_empty() { version.into() } else { compact_str::format_compact!("{group}/{version}") }
}

impl fmt::Display for GroupVersionKind {
    /// As upstream prints it: `apps/v1, Kind=Deployment`, `/v1, Kind=Pod`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

impl KindInfo {
    /// Whether paths name it; else it is the body of a subresource alone.
    pub fn is_resource(&self) -> bool {
        !self.plural.is_empty()
    }

    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource {
            group: self.gvk.group.clone(),
            version: self.gvk.version.clone(),
            resource: self.plural.clone(),
        }
    }

    /// `deployments.apps`, or `pods` in the core group: how messages name a resource.
    pub fn group_resource(&self) -> Str {
        if self.gvk.group.is_empty() {
            self.plural.clone()
        } else {
            compact_str::format_compact!("{}.{}", self.plural, self.gvk.group)
        }
    }

    /// `Deployment.apps`, or `Pod` in the core group: how messages of invalid objects name a kind.
    pub fn group_kind(&self) -> Str {
        if self.gvk.group.is_empty() {
            self.gvk.kind.clone()
        } else {
            compact_str::format_compact!("{}.{}", self.gvk.kind, self.gvk.group)
        }
    }

    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Rules of the schema's types first, then those of the whole object.
    pub fn validate(&self, validation: Validation<'_>) -> FieldErrors {
        let mut errors = FieldErrors::default();
        self.schema.validate(validation, &FieldPath::root(), &mut errors);
        if let Some(validate) = self.strategy.validate {
            validate(validation, &mut errors);
        }
        errors
    }
}
