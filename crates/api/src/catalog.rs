//! Facts and rules joined: the type table, and one record a kind.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use corten_apimachinery::kind::{
    Cell, Column, Conversion, GroupVersionKind, KindInfo, ScalePaths, Scope, Serve, Strategy, Subresource,
};
use corten_apimachinery::schema::ObjectSchema;
use corten_apimachinery::schema::table::{TableSchema, TypeTable};
use corten_apimachinery::value::{Str, Value};

use crate::facts::{self, KindFact, KindFacts, SubresourceFact};
use crate::kinds::KindRules;
use crate::{kinds as kind_rules, rules};

/// Where stored objects live; below it each resource has a key of its own.
const STORAGE_ROOT: &str = "/registry/";

static FACTS: LazyLock<KindFacts> = LazyLock::new(facts::kinds);
static TABLE: LazyLock<TypeTable> = LazyLock::new(|| {
    let mut table = facts::types();
    attach(&mut table);
    table.link();
    table
});

/// Every type of the published API packages, with the rules attached.
pub fn table() -> &'static TypeTable {
    &TABLE
}

/// Where upstream's metrics server, and an adapter of other metrics beside it, are found.
const MEASURED: [&str; 2] = ["metrics.k8s.io/v1beta1", "custom.metrics.k8s.io/v1beta2"];

/// The order in which discovery shows groups, which is upstream's by weight: clients take the first that has a resource.
const GROUPS: [&str; 21] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
];

/// The kinds that a server serves by default, then those that appear only as the body of a subresource (with no verbs
/// and no plural name).
pub fn kinds() -> Vec<KindInfo> {
    let served = FACTS.kinds.iter().filter(|fact| fact.served);
    let mut kinds: Vec<KindInfo> = served.map(kind).chain(body_kinds()).collect();
    let rank = |group: &str| GROUPS.iter().position(|own| *own == group).unwrap_or(GROUPS.len());
    kinds.sort_by_key(|kind| rank(&kind.gvk.group));
    kinds
}

/// The kinds of what is measured: a server that collects what nodes and pods use serves them besides. Nothing of them is
/// stored.
pub fn measured() -> Vec<KindInfo> {
    FACTS.kinds.iter().filter(|fact| MEASURED.contains(&fact.api_version)).map(kind).collect()
}

/// The schema of a kind in one version, whether or not it is served: `("apps/v1", "Deployment")`,
/// `("policy/v1", "Eviction")`. Options and other kinds that upstream registers in every group are found in any.
pub fn schema(api_version: &str, kind: &str) -> Option<Arc<TableSchema>> {
    let package = FACTS.packages.get(api_version)?;
    let ty = table().lookup(&format!("{package}.{kind}")).or_else(|| table().lookup(&format!("meta/v1.{kind}")))?;
    Some(Arc::new(TableSchema::new(table(), ty)))
}

/// The schema of `metadata` alone, for custom resources.
pub fn metadata_schema() -> Arc<dyn ObjectSchema> {
    let ty = table().lookup("meta/v1.ObjectMeta").expect("the facts hold the type of metadata");
    Arc::new(TableSchema::new(table(), ty))
}

/// Puts every rule at its type.
///
/// # Panics
/// If a rule names no type of the facts, or one that has such a hook.
fn attach(table: &mut TypeTable) {
    for (name, hooks) in rules::ALL.iter().copied().flatten() {
        let id = table.lookup(name).unwrap_or_else(|| panic!("rules for a type that is not there: {name}"));
        let def = &mut table.types[id.0 as usize];
        if hooks.default.is_some() {
            assert!(def.default.is_none(), "two default hooks for {name}");
            def.default = hooks.default;
        }
        if hooks.validate.is_some() {
            assert!(def.validate.is_none(), "two validation hooks for {name}");
            def.validate = hooks.validate;
        }
    }
}

fn kind(fact: &KindFact) -> KindInfo {
    let gvk = gvk(fact.api_version, fact.kind);
    let rules = rules_of(&gvk);
    // One that is not served by default is served whole.
    let subresources = fact.subresources.iter().filter(|sub| sub.served || !fact.served);
    let subresources: Vec<_> = subresources.map(|sub| subresource(sub, &rules)).collect();
    let status = subresources.iter().any(|sub| sub.name == "status");
    KindInfo {
        list_kind: format!("{}List", fact.kind).into(),
        plural: fact.plural.into(),
        singular: fact.singular.into(),
        short_names: strings(&fact.short_names),
        categories: strings(&fact.categories),
        scope: if fact.namespaced { Scope::Namespaced } else { Scope::Cluster },
        verbs: strings(&fact.verbs),
        storage_prefix: fact.storage.map(|(_, key)| format!("{STORAGE_ROOT}{key}").into()).unwrap_or_default(),
        convert: conversion(fact, &gvk, &rules),
        schema: schema_of(fact.api_version, fact.kind),
        strategy: (rules.strategy)(Strategy { status, qualified_finalizers: true, ..Strategy::default() }),
        columns: columns(&rules),
        selectable_fields: (rules.selectable_fields)(),
        subresources,
        gvk,
    }
}

/// Kinds that are served only as the body of a subresource.
fn body_kinds() -> impl Iterator<Item = KindInfo> {
    let resources: BTreeSet<_> = FACTS.kinds.iter().map(|fact| (fact.api_version, fact.kind)).collect();
    let served = FACTS.kinds.iter().filter(|fact| fact.served);
    let bodies = served.flat_map(|fact| fact.subresources.iter().map(move |sub| (sub, fact.namespaced)));
    let bodies = bodies.filter(move |(sub, _)| sub.served && !resources.contains(&(sub.api_version, sub.kind)));
    let mut seen = BTreeSet::new();
    bodies
        .filter(move |(sub, _)| seen.insert((sub.api_version, sub.kind)))
        .map(|(sub, namespaced)| body_kind(sub, namespaced))
}

fn body_kind(sub: &SubresourceFact, namespaced: bool) -> KindInfo {
    let gvk = gvk(sub.api_version, sub.kind);
    let rules = rules_of(&gvk);
    KindInfo {
        list_kind: Str::default(),
        plural: Str::default(),
        singular: Str::default(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope: if namespaced { Scope::Namespaced } else { Scope::Cluster },
        verbs: Vec::new(),
        storage_prefix: Str::default(),
        convert: None,
        schema: schema_of(sub.api_version, sub.kind),
        strategy: (rules.strategy)(Strategy::default()),
        columns: columns(&rules),
        selectable_fields: Vec::new(),
        subresources: Vec::new(),
        gvk,
    }
}

fn schema_of(api_version: &str, kind: &str) -> Arc<dyn ObjectSchema> {
    schema(api_version, kind).unwrap_or_else(|| panic!("the facts hold no type for {api_version} {kind}"))
}

fn rules_of(gvk: &GroupVersionKind) -> KindRules {
    let all = kind_rules::ALL.iter().copied().flatten();
    let mut fitting = all.filter(|rules| {
        let version = rules.versions.is_empty() || rules.versions.contains(&gvk.version.as_str());
        rules.group == gvk.group && rules.kind == gvk.kind && version
    });
    let rules = fitting.next().copied();
    assert!(fitting.next().is_none(), "two sets of rules for {gvk}");
    rules.unwrap_or(KindRules::new("", ""))
}

fn subresource(fact: &SubresourceFact, rules: &KindRules) -> Subresource {
    let serve = (rules.serve)(fact.name).unwrap_or_else(|| match fact.name {
        "status" => Serve::Status,
        "scale" => Serve::Scale(replica_paths()),
        _ => Serve::Handler,
    });
    Subresource { name: fact.name.into(), verbs: strings(&fact.verbs), gvk: gvk(fact.api_version, fact.kind), serve }
}

/// Where every built-in kind that scales keeps its replicas.
fn replica_paths() -> ScalePaths {
    ScalePaths {
        spec_replicas: strings(&["spec", "replicas"]),
        status_replicas: strings(&["status", "replicas"]),
        selector: Some(strings(&["spec", "selector"])),
    }
}

/// Between a version and the stored one. A version that upstream stores but that is not served by default is no reason
/// to convert: the served one is stored.
fn conversion(fact: &KindFact, gvk: &GroupVersionKind, rules: &KindRules) -> Option<Conversion> {
    let (stored, _) = fact.storage?;
    let served = |other: &KindFact| other.served && other.api_version == stored && other.kind == fact.kind;
    if stored == fact.api_version || !FACTS.kinds.iter().any(served) {
        return None;
    }
    Some(
        (rules.convert)(&gvk.version)
            .unwrap_or_else(|| Conversion { to_storage: renamed(stored), from_storage: renamed(fact.api_version) }),
    )
}

/// Between versions that differ in their name alone.
fn renamed(api_version: &'static str) -> Arc<dyn Fn(Value) -> Result<Value, String> + Send + Sync> {
    Arc::new(move |mut object| {
        if let Some(map) = object.as_object_mut() {
            map.insert("apiVersion", api_version);
        }
        Ok(object)
    })
}

/// What upstream prints for a kind without columns of its own: its name and when it was made.
fn columns(rules: &KindRules) -> Vec<Column> {
    let columns = (rules.columns)();
    if !columns.is_empty() {
        return columns;
    }
    let column = |name: &str, kind: &str, format: &str, description: &str, cell| Column {
        name: name.into(),
        kind: kind.into(),
        format: format.into(),
        description: description.into(),
        priority: 0,
        cell,
    };
    let name = column("Name", "string", "name", "The name of the object.", Cell::Field(&["metadata", "name"]));
    let created = Cell::Field(&["metadata", "creationTimestamp"]);
    vec![name, column("Created At", "date", "", "When the object was made.", created)]
}

fn gvk(api_version: &str, kind: &str) -> GroupVersionKind {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    GroupVersionKind::new(group, version, kind)
}

fn strings(texts: &[&str]) -> Vec<Str> {
    texts.iter().map(|text| Str::from(*text)).collect()
}
