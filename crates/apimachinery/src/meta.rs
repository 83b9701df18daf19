//! `metadata`: reading it, and the rules that hold for every kind
//! (`k8s.io/apimachinery/pkg/api/validation`).

use crate::field::{FieldErrorKind, FieldErrors, FieldPath};
use crate::kind::NameRule;
use crate::name;
use crate::time::Time;
use crate::value::{Map, Str, Value};

/// All keys and values of an object's annotations together.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Longest name of a field manager.
pub const FIELD_MANAGER_BYTES_MAX: usize = 128;
/// Longest name of a subresource in `managedFields`.
pub const SUBRESOURCE_BYTES_MAX: usize = 256;

pub const FINALIZER_ORPHAN: &str = "orphan";
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";

const IMMUTABLE: &str = "field is immutable";

/// The metadata of one object, read only. Fields of the wrong type read as absent: conforming refused them before.
#[derive(Clone, Copy)]
pub struct Meta<'a>(Option<&'a Map>);

/// One entry of `ownerReferences`.
#[derive(Clone, Copy)]
pub struct OwnerReference<'a>(&'a Value);

impl<'a> Meta<'a> {
    /// The metadata of an object.
    pub fn of(object: &'a Value) -> Self {
        Self(object.get("metadata").and_then(Value::as_object))
    }

    fn field(self, name: &str) -> Option<&'a Value> {
        self.0?.get(name)
    }

    fn text(self, name: &str) -> &'a str {
        self.field(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn name(self) -> &'a str {
        self.text("name")
    }

    pub fn generate_name(self) -> &'a str {
        self.text("generateName")
    }

    pub fn namespace(self) -> &'a str {
        self.text("namespace")
    }

    pub fn uid(self) -> &'a str {
        self.text("uid")
    }

    pub fn resource_version(self) -> &'a str {
        self.text("resourceVersion")
    }

    /// 0 where there is none.
    pub fn generation(self) -> i64 {
        self.field("generation").and_then(Value::as_i64).unwrap_or_default()
    }

    /// `""` where there is none.
    pub fn creation_timestamp(self) -> &'a str {
        self.text("creationTimestamp")
    }

    /// Present while the object waits for its finalizers or its grace period.
    pub fn deletion_timestamp(self) -> Option<&'a str> {
        self.field("deletionTimestamp")?.as_str()
    }

    pub fn deletion_grace_period_seconds(self) -> Option<i64> {
        self.field("deletionGracePeriodSeconds")?.as_i64()
    }

    pub fn labels(self) -> impl Iterator<Item = (&'a Str, &'a str)> {
        texts(self.field("labels"))
    }

    pub fn label(self, key: &str) -> Option<&'a str> {
        self.field("labels")?.get(key)?.as_str()
    }

    pub fn annotations(self) -> impl Iterator<Item = (&'a Str, &'a str)> {
        texts(self.field("annotations"))
    }

    pub fn annotation(self, key: &str) -> Option<&'a str> {
        self.field("annotations")?.get(key)?.as_str()
    }

    pub fn finalizers(self) -> impl Iterator<Item = &'a str> {
        self.items("finalizers").iter().filter_map(Value::as_str)
    }

    pub fn owner_references(self) -> impl Iterator<Item = OwnerReference<'a>> {
        self.items("ownerReferences").iter().map(OwnerReference)
    }

    pub fn managed_fields(self) -> &'a [Value] {
        self.items("managedFields")
    }

    fn items(self, name: &str) -> &'a [Value] {
        self.field(name).and_then(Value::as_array).unwrap_or_default()
    }

    /// The labels in the order of their keys, as selectors match them.
    pub fn sorted_labels(self) -> Vec<(Str, Str)> {
        let mut labels: Vec<(Str, Str)> = self.labels().map(|(key, value)| (key.clone(), value.into())).collect();
        labels.sort_unstable();
        labels
    }
}

impl<'a> OwnerReference<'a> {
    pub fn api_version(self) -> &'a str {
        self.0.str_at(&["apiVersion"])
    }

    pub fn kind(self) -> &'a str {
        self.0.str_at(&["kind"])
    }

    pub fn name(self) -> &'a str {
        self.0.str_at(&["name"])
    }

    pub fn uid(self) -> &'a str {
        self.0.str_at(&["uid"])
    }

    /// Whether this owner is the managing controller.
    pub fn controller(self) -> bool {
        self.0.get("controller").and_then(Value::as_bool).unwrap_or_default()
    }

    pub fn block_owner_deletion(self) -> bool {
        self.0.get("blockOwnerDeletion").and_then(Value::as_bool).unwrap_or_default()
    }
}

fn texts(map: Option<&Value>) -> impl Iterator<Item = (&Str, &str)> {
    let fields = map.and_then(Value::as_object).into_iter().flat_map(Map::iter);
    fields.filter_map(|(key, value)| Some((key, value.as_str()?)))
}

/// The object's `metadata`, made an empty object where it is absent.
pub fn metadata_mut(object: &mut Value) -> &mut Map {
    object.object_entry("metadata")
}

/// The rules for the metadata of a new object. Its name is set already, from `generateName` where need be.
pub fn validate_create(object: &Value, namespaced: bool, rule: NameRule, errors: &mut FieldErrors) {
    let meta = Meta::of(object);
    let path = FieldPath::new("metadata");
    if !meta.generate_name().is_empty() {
        for reason in name::object_name(rule, meta.generate_name(), true) {
            errors.invalid(&path.child("generateName"), meta.generate_name(), reason);
        }
    }
    if meta.name().is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    }
    if !meta.name().is_empty() {
        for reason in name::object_name(rule, meta.name(), false) {
            errors.invalid(&path.child("name"), meta.name(), reason);
        }
    }
    validate_namespace(meta, namespaced, &path.child("namespace"), errors);
    if meta.generation() < 0 {
        errors.invalid(&path.child("generation"), meta.generation(), "must be greater than or equal to 0");
    }
    validate_labels(meta.labels(), &path.child("labels"), errors);
    validate_annotations(meta, &path.child("annotations"), errors);
    validate_owner_references(meta, &path.child("ownerReferences"), errors);
    validate_finalizers(meta, &path.child("finalizers"), errors);
    validate_managed_fields(meta, &path.child("managedFields"), errors);
}

fn validate_namespace(meta: Meta<'_>, namespaced: bool, path: &FieldPath, errors: &mut FieldErrors) {
    match (namespaced, meta.namespace()) {
        (true, "") => errors.required(path, ""),
        (true, namespace) => {
            for reason in name::dns1123_label(namespace) {
                errors.invalid(path, namespace, reason);
            }
        }
        (false, "") => {}
        (false, _) => errors.forbidden(path, "not allowed on this type"),
    }
}

/// The rules for the metadata of a changed object, against the stored one.
pub fn validate_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (meta, stored) = (Meta::of(new), Meta::of(old));
    let path = FieldPath::new("metadata");
    if stored.deletion_timestamp().is_some() {
        validate_no_new_finalizers(meta, stored, &path.child("finalizers"), errors);
    }
    if meta.resource_version().is_empty() {
        errors.invalid(&path.child("resourceVersion"), "", "must be specified for an update");
    }
    if meta.generation() < stored.generation() {
        errors.invalid(&path.child("generation"), meta.generation(), "must not be decremented");
    }
    for field in ["name", "namespace", "uid"] {
        if meta.text(field) != stored.text(field) {
            errors.invalid(&path.child(field), meta.text(field), IMMUTABLE);
        }
    }
    for field in ["creationTimestamp", "deletionTimestamp"] {
        if !same_time(meta.field(field), stored.field(field)) {
            errors.invalid(&path.child(field), meta.field(field).cloned().unwrap_or_default(), IMMUTABLE);
        }
    }
    let field = "deletionGracePeriodSeconds";
    if meta.deletion_grace_period_seconds() != stored.deletion_grace_period_seconds() {
        errors.invalid(&path.child(field), meta.field(field).cloned().unwrap_or_default(), IMMUTABLE);
    }
    validate_labels(meta.labels(), &path.child("labels"), errors);
    validate_annotations(meta, &path.child("annotations"), errors);
    validate_owner_references(meta, &path.child("ownerReferences"), errors);
    validate_managed_fields(meta, &path.child("managedFields"), errors);
}

/// Timestamps are equal as points in time; null, absent and Go's zero time are one.
fn same_time(left: Option<&Value>, right: Option<&Value>) -> bool {
    let time = |value: Option<&Value>| {
        let text = value.and_then(Value::as_str)?;
        Time::parse(text).ok().filter(|time| !time.is_zero())
    };
    time(left) == time(right)
}

/// The rules for labels, also those of pod templates.
pub fn validate_labels<'a>(
    labels: impl Iterator<Item = (&'a Str, &'a str)>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    for (key, value) in labels {
        for reason in name::qualified_name(key) {
            errors.invalid(path, key.clone(), reason);
        }
        for reason in name::label_value(value) {
            errors.invalid(path, value, reason);
        }
    }
}

/// The rules for annotations, also those of pod templates.
pub fn validate_annotations(meta: Meta<'_>, path: &FieldPath, errors: &mut FieldErrors) {
    let mut bytes = 0;
    for (key, value) in meta.annotations() {
        bytes += key.len() + value.len();
        for reason in name::qualified_name(&key.to_lowercase()) {
            errors.invalid(path, key.clone(), reason);
        }
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

fn validate_owner_references(meta: Meta<'_>, path: &FieldPath, errors: &mut FieldErrors) {
    let mut controller: Option<String> = None;
    for owner in meta.owner_references() {
        let version = owner.api_version().rsplit('/').next().unwrap_or_default();
        if version.is_empty() || owner.api_version().matches('/').count() > 1 {
            errors.invalid(&path.child("apiVersion"), owner.api_version(), "version must not be empty");
        }
        for (field, value) in [("kind", owner.kind()), ("name", owner.name()), ("uid", owner.uid())] {
            if value.is_empty() {
                errors.invalid(&path.child(field), value, "must not be empty");
            }
        }
        if (owner.api_version(), owner.kind()) == ("v1", "Event") {
            errors.invalid(path, owner.0.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.controller() {
            let current = format!("{}/{}", owner.kind(), owner.name());
            match &controller {
                None => controller = Some(current),
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {current}"
                    );
                    errors.invalid(path, meta.items("ownerReferences").to_vec(), detail);
                }
            }
        }
    }
}

fn validate_finalizers(meta: Meta<'_>, path: &FieldPath, errors: &mut FieldErrors) {
    for finalizer in meta.finalizers() {
        for reason in name::qualified_name(finalizer) {
            errors.invalid(path, finalizer, reason);
        }
    }
    let has = |name| meta.finalizers().any(|finalizer| finalizer == name);
    if has(FINALIZER_ORPHAN) && has(FINALIZER_FOREGROUND) {
        let detail = format!("finalizer {FINALIZER_ORPHAN} and {FINALIZER_FOREGROUND} cannot be both set");
        errors.invalid(path, meta.items("finalizers").to_vec(), detail);
    }
}

/// The rule of most built-in kinds: a finalizer without a domain is one of Kubernetes itself.
pub fn validate_qualified_finalizers(object: &Value, errors: &mut FieldErrors) {
    const STANDARD: [&str; 3] = ["kubernetes", FINALIZER_ORPHAN, FINALIZER_FOREGROUND];
    let path = FieldPath::new("metadata").child("finalizers");
    for (index, finalizer) in Meta::of(object).finalizers().enumerate() {
        if !finalizer.contains('/') && !STANDARD.contains(&finalizer) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(&path.index(index), finalizer, detail);
        }
    }
}

fn validate_no_new_finalizers(meta: Meta<'_>, stored: Meta<'_>, path: &FieldPath, errors: &mut FieldErrors) {
    let old: Vec<&str> = stored.finalizers().collect();
    let mut new: Vec<&str> = meta.finalizers().filter(|finalizer| !old.contains(finalizer)).collect();
    new.sort_unstable();
    new.dedup();
    if !new.is_empty() {
        let quoted: Vec<String> = new.iter().map(|finalizer| format!("{finalizer:?}")).collect();
        let list = format!("[]string{{{}}}", quoted.join(", "));
        let detail =
            format!("no new finalizers can be added if the object is being deleted, found new finalizers {list}");
        errors.forbidden(path, detail);
    }
}

fn validate_managed_fields(meta: Meta<'_>, path: &FieldPath, errors: &mut FieldErrors) {
    for (index, entry) in meta.managed_fields().iter().enumerate() {
        let path = path.index(index);
        let operation = entry.str_at(&["operation"]);
        if !matches!(operation, "Apply" | "Update") {
            errors.invalid(&path.child("operation"), operation, "must be `Apply` or `Update`");
        }
        let fields_type = entry.str_at(&["fieldsType"]);
        if !matches!(fields_type, "" | "FieldsV1") {
            errors.invalid(&path.child("fieldsType"), fields_type, "must be `FieldsV1`");
        }
        validate_field_manager(entry.str_at(&["manager"]), &path.child("manager"), errors);
        if entry.str_at(&["subresource"]).len() > SUBRESOURCE_BYTES_MAX {
            errors.too_long(&path.child("subresource"), SUBRESOURCE_BYTES_MAX);
        }
    }
}

/// The rule for a field manager's name, in `managedFields` and in `?fieldManager=`.
pub fn validate_field_manager(manager: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if manager.len() > FIELD_MANAGER_BYTES_MAX {
        errors.push(
            FieldErrorKind::TooLong,
            path,
            Value::Null,
            format!("may not be more than {FIELD_MANAGER_BYTES_MAX} bytes"),
        );
    }
    for reason in name::unprintable(manager) {
        errors.invalid(path, manager, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value;

    fn created(object: &Value, namespaced: bool) -> String {
        let mut errors = FieldErrors::default();
        validate_create(object, namespaced, NameRule::DnsSubdomain, &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn updated(new: &Value, old: &Value) -> String {
        let mut errors = FieldErrors::default();
        validate_update(new, old, &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn reads() {
        let object = value!({"metadata": {
            "name": "a", "namespace": "b", "uid": "u", "generation": 3, "labels": {"z": "1", "a": "2"},
            "finalizers": ["x"], "ownerReferences": [{"uid": "o", "controller": true}], "deletionTimestamp": "2026-01-01T00:00:00Z"
        }});
        let meta = Meta::of(&object);
        assert_eq!((meta.name(), meta.namespace(), meta.uid(), meta.generation()), ("a", "b", "u", 3));
        assert_eq!(meta.sorted_labels(), [(Str::from("a"), Str::from("2")), (Str::from("z"), Str::from("1"))]);
        assert_eq!(meta.label("z"), Some("1"));
        assert!(meta.finalizers().eq(["x"]) && meta.deletion_timestamp().is_some());
        assert!(meta.owner_references().all(|owner| owner.controller() && owner.uid() == "o"));
        assert_eq!(Meta::of(&Value::Null).name(), "");
    }

    #[test]
    fn rules_of_creation() {
        assert_eq!(created(&value!({"metadata": {"name": "a", "namespace": "b"}}), true), "");
        assert_eq!(
            created(&value!({}), true),
            "metadata.name: Required value: name or generateName is required\nmetadata.namespace: Required value"
        );
        assert_eq!(
            created(&value!({"metadata": {"name": "a", "namespace": "b"}}), false),
            "metadata.namespace: Forbidden: not allowed on this type"
        );
        assert_eq!(
            created(&value!({"metadata": {"name": "A", "generateName": "a-"}}), false),
            "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        );
        let wrong = value!({"metadata": {
            "name": "a", "labels": {"a b": "c"}, "annotations": {"Ok/Ok": "x"}, "finalizers": ["orphan", "foregroundDeletion", "a b"], "generation": (-1),
            "ownerReferences": [{"apiVersion": "v1", "kind": "Cat", "name": "e", "uid": "1", "controller": true}, {"controller": true}],
            "managedFields": [{"operation": "Create", "fieldsType": "FieldsV2", "manager": "a\u{1}"}]
        }});
        let text = created(&wrong, false);
        for piece in [
            "metadata.generation: Invalid value: -1: must be greater than or equal to 0",
            "metadata.labels: Invalid value: \"a b\": name part must consist of",
            "metadata.finalizers: Invalid value: \"a b\": name part must",
            "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\",\"a b\"]: finalizer orphan and foregroundDeletion cannot be both set",
            "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
            "Only one reference can have Controller set to true. Found \"true\" in references for Cat/e and /",
            "metadata.managedFields[0].operation: Invalid value: \"Create\": must be `Apply` or `Update`",
            "metadata.managedFields[0].fieldsType: Invalid value: \"FieldsV2\": must be `FieldsV1`",
            "invalid character U+0001 (at position 1)",
        ] {
            assert!(text.contains(piece), "{piece}\n{text}");
        }
        let long = "x".repeat(ANNOTATIONS_BYTES_MAX);
        assert_eq!(
            created(&value!({"metadata": {"name": "a", "annotations": {"a": long}}}), false),
            "metadata.annotations: Too long: may not be more than 262144 bytes"
        );
    }

    #[test]
    fn finalizers_without_a_domain() {
        let mut errors = FieldErrors::default();
        let finalizers = ["kubernetes", "orphan", "example.com/a", "mine"].map(Value::from).to_vec();
        validate_qualified_finalizers(&value!({"metadata": {"finalizers": finalizers}}), &mut errors);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        assert_eq!(errors, [format!("metadata.finalizers[3]: Invalid value: \"mine\": {why}")]);
    }

    #[test]
    fn rules_of_change() {
        let old = value!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "1", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(updated(&old, &old), "");
        let mut same = old.clone();
        metadata_mut(&mut same).insert("creationTimestamp", "2026-01-01T01:00:00+01:00");
        assert_eq!(updated(&same, &old), "");
        let new = value!({"metadata": {"name": "b", "uid": "v", "generation": 1}});
        assert_eq!(
            updated(&new, &old).lines().collect::<Vec<_>>(),
            [
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
                "metadata.generation: Invalid value: 1: must not be decremented",
                "metadata.name: Invalid value: \"b\": field is immutable",
                "metadata.uid: Invalid value: \"v\": field is immutable",
                "metadata.creationTimestamp: Invalid value: null: field is immutable",
            ]
        );
        let deleted = value!({"metadata": {"resourceVersion": "1", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a"]}});
        let more = value!({"metadata": {"resourceVersion": "1", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a", "c", "b"]}});
        assert_eq!(
            updated(&more, &deleted),
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"b\", \"c\"}"
        );
    }
}
