//! What an object may not be, with upstream's texts (`pkg/apis/*/validation` of Kubernetes 1.36, with the feature gates
//! that are on by default there).
//!
//! Upstream walks an object from the top down and hands context along (a mount needs the pod's volumes, a probe the
//! pod's grace period). So do these functions: one a struct, called by its parent in upstream's order, from a kind's
//! `Strategy::validate`.

pub(crate) mod admission_policy;
mod annotation;
pub(crate) mod api_service;
pub(crate) mod apps;
pub(crate) mod autoscaling;
pub(crate) mod certificates;
pub(crate) mod claim;
pub(crate) mod cluster;
pub(crate) mod condition;
pub(crate) mod config;
mod container;
pub(crate) mod controller;
mod cron;
pub(crate) mod cron_job;
mod difference;
pub(crate) mod discovery;
mod dns;
mod domain;
pub(crate) mod endpoints;
mod env;
pub(crate) mod event;
mod expressions;
pub(crate) mod flow_control;
mod index;
pub(crate) mod ingress;
pub(crate) mod job;
mod job_policy;
mod job_status;
mod mounts;
pub(crate) mod network_policy;
pub(crate) mod networking;
pub(crate) mod node;
mod os;
mod paths;
mod percent;
pub(crate) mod persistent;
pub(crate) mod pod;
pub(crate) mod pod_spec;
mod pod_status;
pub(crate) mod policy;
mod probe;
pub(crate) mod projected;
pub(crate) mod quota;
pub(crate) mod rbac;
mod remote;
mod resize;
pub(crate) mod resources;
pub(crate) mod scheduling;
mod security;
pub(crate) mod service;
mod service_address;
pub(crate) mod storage;
mod volume;
pub(crate) mod webhook;

use corten_apimachinery::field::{FieldErrorKind, FieldErrors, FieldPath};
use corten_apimachinery::kind::NameRule;
use corten_apimachinery::name;
use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::{Map, Str, Value};

pub(crate) const IMMUTABLE: &str = "field is immutable";
pub(crate) const NEGATIVE: &str = "must be greater than or equal to 0";

/// A struct under validation and where it stands. What is null counts as absent.
#[derive(Clone)]
pub(crate) struct At<'a> {
    pub(crate) map: &'a Map,
    pub(crate) path: FieldPath,
}

impl<'a> At<'a> {
    pub(crate) fn new(map: &'a Map, path: FieldPath) -> Self {
        Self { map, path }
    }

    /// A whole object.
    pub(crate) fn root(object: &'a Value) -> Self {
        Self::new(object.as_object().unwrap_or(&EMPTY), FieldPath::root())
    }

    pub(crate) fn path(&self, field: &str) -> FieldPath {
        self.path.child(field)
    }

    pub(crate) fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub(crate) fn given(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// What stands in a field, as an error shows it.
    pub(crate) fn value(&self, field: &str) -> Value {
        self.map.get(field).cloned().unwrap_or_default()
    }

    pub(crate) fn text(&self, field: &str) -> &'a str {
        self.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn int(&self, field: &str) -> Option<i64> {
        self.get(field).and_then(Value::as_i64)
    }

    pub(crate) fn flag(&self, field: &str) -> bool {
        self.get(field).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(crate) fn object(&self, field: &str) -> Option<At<'a>> {
        Some(At::new(self.get(field)?.as_object()?, self.path(field)))
    }

    /// The same as [`Self::object`], empty where there is none.
    pub(crate) fn object_or_empty(&self, field: &str) -> At<'a> {
        self.object(field).unwrap_or_else(|| At::new(&EMPTY, self.path(field)))
    }

    pub(crate) fn items(&self, field: &str) -> &'a [Value] {
        self.get(field).and_then(Value::as_array).unwrap_or_default()
    }

    /// The structs of a list.
    pub(crate) fn each(&self, field: &str) -> impl Iterator<Item = At<'a>> + use<'a> {
        let path = self.path(field);
        let items = self.items(field).iter().enumerate();
        items.filter_map(move |(index, item)| Some(At::new(item.as_object()?, path.index(index))))
    }

    /// The strings of a list, each with its path.
    pub(crate) fn texts(&self, field: &str) -> impl Iterator<Item = (&'a str, FieldPath)> + use<'a> {
        let path = self.path(field);
        let items = self.items(field).iter().enumerate();
        items.filter_map(move |(index, item)| Some((item.as_str()?, path.index(index))))
    }

    /// The entries of a map.
    pub(crate) fn entries(&self, field: &str) -> impl Iterator<Item = (&'a Str, &'a Value)> + use<'a> {
        self.get(field).and_then(Value::as_object).into_iter().flat_map(Map::iter)
    }

    /// The entries of a map of strings.
    pub(crate) fn strings(&self, field: &str) -> impl Iterator<Item = (&'a Str, &'a str)> + use<'a> {
        self.entries(field).filter_map(|(key, value)| Some((key, value.as_str()?)))
    }

    /// An empty or absent string is an error; says whether there is one.
    pub(crate) fn require(&self, field: &str, errors: &mut FieldErrors) -> bool {
        let given = !self.text(field).is_empty();
        if !given {
            errors.required(&self.path(field), "");
        }
        given
    }

    /// A string that is one of `supported`. An absent one is not looked at.
    pub(crate) fn one_of(&self, field: &str, supported: &[&str], errors: &mut FieldErrors) {
        if let Some(text) = self.get(field).and_then(Value::as_str)
            && !supported.contains(&text)
        {
            errors.not_supported(&self.path(field), text, supported);
        }
    }

    /// A string that is there and one of `supported`.
    pub(crate) fn require_one_of(&self, field: &str, supported: &[&str], errors: &mut FieldErrors) {
        if self.require(field, errors) {
            self.one_of(field, supported, errors);
        }
    }

    pub(crate) fn nonnegative(&self, field: &str, errors: &mut FieldErrors) {
        if let Some(number @ ..0) = self.int(field) {
            errors.invalid(&self.path(field), number, NEGATIVE);
        }
    }

    /// A string that a rule of names allows; an absent one is not looked at.
    pub(crate) fn named(&self, field: &str, rule: fn(&str) -> name::Reasons, errors: &mut FieldErrors) {
        if let Some(text) = self.get(field).and_then(Value::as_str) {
            reasons(&self.path(field), text, rule(text), errors);
        }
    }

    /// As [`Self::named`], and not empty.
    pub(crate) fn require_named(&self, field: &str, rule: fn(&str) -> name::Reasons, errors: &mut FieldErrors) {
        if self.require(field, errors) {
            self.named(field, rule, errors);
        }
    }

    /// A number from `low` to `high`; an absent one is not looked at.
    pub(crate) fn in_range(&self, field: &str, low: i64, high: i64, errors: &mut FieldErrors) {
        if let Some(number) = self.int(field) {
            reasons(&self.path(field), number, name::in_range(number, low, high), errors);
        }
    }

    /// A field that must stay as the stored object has it.
    pub(crate) fn immutable(&self, old: &At<'_>, field: &str, errors: &mut FieldErrors) {
        self.immutable_because(old, field, IMMUTABLE, errors);
    }

    pub(crate) fn immutable_because(&self, old: &At<'_>, field: &str, why: &str, errors: &mut FieldErrors) {
        if !same(self.get(field), old.get(field)) {
            errors.invalid(&self.path(field), self.value(field), why);
        }
    }

    /// Labels or a selector of equalities.
    pub(crate) fn labels(&self, field: &str, errors: &mut FieldErrors) {
        corten_apimachinery::meta::validate_labels(self.strings(field), &self.path(field), errors);
    }

    /// A label selector, where there is one.
    pub(crate) fn selector(&self, field: &str, errors: &mut FieldErrors) {
        if let Some(selector) = self.get(field) {
            corten_apimachinery::selector::label::validate(selector, false, &self.path(field), errors);
        }
    }

    /// A port by number or name; an absent one is the number 0.
    pub(crate) fn port(&self, field: &str, errors: &mut FieldErrors) {
        let path = self.path(field);
        match self.get(field) {
            Some(Value::String(text)) => reasons(&path, text.as_str(), name::port_name(text), errors),
            number => {
                let number = number.and_then(Value::as_i64).unwrap_or_default();
                reasons(&path, number, name::port_number(number), errors);
            }
        }
    }
}

static EMPTY: std::sync::LazyLock<Map> = std::sync::LazyLock::new(Map::new);

/// One error for each reason why a value is refused.
pub(crate) fn reasons(path: &FieldPath, value: impl Into<Value>, reasons: name::Reasons, errors: &mut FieldErrors) {
    let value = value.into();
    for reason in reasons {
        errors.invalid(path, value.clone(), reason);
    }
}

/// A value that stands nowhere, with more to say than that.
pub(crate) fn not_found(path: &FieldPath, value: &str, detail: &str, errors: &mut FieldErrors) {
    errors.push(FieldErrorKind::NotFound, path, value, detail);
}

/// Whether two fields say the same: absent, empty lists and maps are alike, as in upstream's semantic equality, and
/// amounts are compared by value where they are written differently only by the caller.
pub(crate) fn same(left: Option<&Value>, right: Option<&Value>) -> bool {
    let bare = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(_) | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_)) => false,
    };
    match (left, right) {
        (left, right) if bare(left) && bare(right) => true,
        (Some(left), Some(right)) => left == right,
        _ => false,
    }
}

/// The amount that a value says; what is none was refused when the object was read.
pub(crate) fn quantity(value: &Value) -> Quantity {
    Quantity::from_value(value).unwrap_or_else(|_| Quantity::new(0, corten_apimachinery::quantity::Format::DecimalSi))
}

pub(crate) fn subdomain(text: &str) -> name::Reasons {
    name::dns1123_subdomain(text)
}

/// The start of a name, to which a suffix is yet to come.
pub(crate) fn subdomain_prefix(text: &str) -> name::Reasons {
    name::object_name(NameRule::DnsSubdomain, text, true)
}

#[cfg(test)]
pub(crate) mod testing {
    use corten_apimachinery::kind::Validation;

    use super::*;

    /// The errors of one function over one struct at `at`, in order.
    pub(crate) fn errors(input: &Value, validate: impl FnOnce(&At<'_>, &mut FieldErrors)) -> Vec<String> {
        let mut errors = FieldErrors::default();
        validate(&At::new(input.as_object().expect("a struct"), FieldPath::new("at")), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    /// Runs the rules of a whole object, changed from `old`, and compares the texts of their errors.
    pub(crate) fn check_rule(
        rule: fn(Validation<'_>, &mut FieldErrors),
        old: Option<&Value>,
        new: &Value,
        expect: &[&str],
    ) {
        let mut errors = FieldErrors::default();
        rule(Validation { object: new, old, subresource: "" }, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }
}
