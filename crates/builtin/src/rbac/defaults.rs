//! Upstream's default roles and bindings, read from `facts/rbac.txt`, those of our own parts, and how they are kept: what is missing is added,
//! what an administrator added stays, and an object annotated `autoupdate: "false"` is left alone
//! (`component-helpers/auth/rbac/reconciliation`).

use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};

use super::GROUP;
use super::index::{Policy, RoleRef};
use super::rule::{Rule, rules_of, uncovered};

const FACTS: &str = include_str!("../../facts/rbac.txt");
/// Parts that upstream does not have, in the same form.
const OWN: &str = "\
ClusterRole corten:edge
  list,watch services,namespaces,nodes,secrets in \"\"
  list,watch endpointslices in discovery.k8s.io
  list,watch ingresses,ingressclasses in networking.k8s.io
  patch ingresses/status in networking.k8s.io
ClusterRoleBinding corten:edge
  to ClusterRole corten:edge
  for Group corten:edges
ClusterRole corten:disks
  get,list,watch,update persistentvolumes in \"\"
ClusterRoleBinding corten:disks
  to ClusterRole corten:disks
  for Group system:nodes
ClusterRole corten:certificates
  approve signers in certificates.k8s.io named kubernetes.io/kubelet-serving,corten.dev/edge
  sign signers in certificates.k8s.io named corten.dev/edge
ClusterRoleBinding corten:certificates
  to ClusterRole corten:certificates
  for ServiceAccount kube-system/certificate-controller
ClusterRoleBinding corten:node-bootstrapper
  to ClusterRole system:node-bootstrapper
  for Group system:bootstrappers:corten
ClusterRoleBinding corten:nodes-join
  to ClusterRole system:certificates.k8s.io:certificatesigningrequests:nodeclient
  for Group system:bootstrappers:corten
ClusterRoleBinding corten:nodes-renew
  to ClusterRole system:certificates.k8s.io:certificatesigningrequests:selfnodeclient
  for Group system:nodes
ClusterRole corten:scheduler
  list nodes in metrics.k8s.io
ClusterRoleBinding corten:scheduler
  to ClusterRole corten:scheduler
  for User system:kube-scheduler
ClusterRole corten:notifier
  get,list,watch notifiers in corten.dev
  patch notifiers/status in corten.dev
  get secrets in \"\"
  get nodes/proxy in \"\"
  create,patch,update events in \"\"
ClusterRoleBinding corten:notifier
  to ClusterRole corten:notifier
  for ServiceAccount kube-system/notifier
Role kube-public/corten:cluster-info
  get configmaps in \"\" named cluster-info
RoleBinding kube-public/corten:cluster-info
  to Role corten:cluster-info
  for Group system:unauthenticated
  for Group system:authenticated
";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What has to be done so that an object is as the defaults want it.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Create(Value),
    /// The existing object with what was missing.
    Update(Value),
    /// A binding to another role: deleted and made anew, as `roleRef` cannot change.
    Recreate(Value),
}

/// A line of the facts that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the default roles is not understood: {text}")]
pub struct FactsError {
    line: usize,
    text: String,
}

/// All default objects: roles before bindings, cluster-wide ones first.
pub fn objects() -> Result<Vec<(Policy, Value)>, FactsError> {
    read(FACTS.lines().chain(OWN.lines()))
}

/// Objects of a table in the form of the facts.
pub(crate) fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<(Policy, Value)>, FactsError> {
    let mut objects: Vec<(Policy, Value)> = Vec::new();
    for (at, line) in lines.enumerate() {
        if line.starts_with('#') {
            continue;
        }
        let read = match (line.strip_prefix("  "), objects.last_mut()) {
            (Some(detail), Some((policy, object))) => add_detail(*policy, object, detail),
            (Some(_), None) => None,
            (None, _) => head(line).map(|object| objects.push(object)),
        };
        read.ok_or_else(|| FactsError { line: at + 1, text: line.to_owned() })?;
    }
    Ok(objects)
}

/// The object that starts at a line: `Role kube-system/a label=value`.
fn head(line: &str) -> Option<(Policy, Value)> {
    let mut words = line.split(' ');
    let kind = words.next()?;
    let policy = Policy::ALL.into_iter().find(|policy| policy.kind() == kind)?;
    let (namespace, name) = in_namespace(words.next()?);
    let mut labels = Map::new();
    labels.insert("kubernetes.io/bootstrapping", "rbac-defaults");
    for word in words {
        let (label, value) = word.split_once('=')?;
        labels.insert(label, value);
    }
    let mut metadata = Map::new();
    metadata.insert("name", name);
    if !namespace.is_empty() {
        metadata.insert("namespace", namespace);
    }
    metadata.insert("labels", labels);
    metadata.insert("annotations", value!({"rbac.authorization.kubernetes.io/autoupdate": "true"}));
    let object = value!({
        "kind": (policy.kind()),
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": metadata
    });
    Some((policy, object))
}

fn in_namespace(word: &str) -> (&str, &str) {
    word.split_once('/').unwrap_or(("", word))
}

/// One indented line: a rule, an aggregation selector, the role of a binding or a subject.
fn add_detail(policy: Policy, object: &mut Value, detail: &str) -> Option<()> {
    let words: Vec<&str> = detail.split(' ').collect();
    let map = object.as_object_mut()?;
    match words.as_slice() {
        ["aggregate", label] => {
            let (label, value) = label.split_once('=')?;
            let mut labels = Map::new();
            labels.insert(label, value);
            push(map.object_entry("aggregationRule"), "clusterRoleSelectors", value!({"matchLabels": labels}));
        }
        ["to", kind, name] => {
            map.insert("roleRef", value!({"apiGroup": GROUP, "kind": (*kind), "name": (*name)}));
        }
        ["for", "ServiceAccount", account] => {
            let (namespace, name) = in_namespace(account);
            push(map, "subjects", value!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
        }
        ["for", kind, name] => {
            push(map, "subjects", value!({"kind": (*kind), "apiGroup": GROUP, "name": (*name)}));
        }
        _ => push(map, "rules", rule(policy, &words)?.to_value()),
    }
    Some(())
}

fn rule(policy: Policy, words: &[&str]) -> Option<Rule> {
    let of_role = matches!(policy, Policy::Role | Policy::ClusterRole);
    let rule = match words {
        [verbs, "at", urls] => Rule { verbs: list(verbs), non_resource_urls: list(urls), ..Rule::default() },
        [verbs, resources, "in", groups, rest @ ..] => {
            let names = match rest {
                [] => Vec::new(),
                ["named", names] => list(names),
                _ => return None,
            };
            Rule {
                verbs: list(verbs),
                api_groups: list(groups),
                resources: list(resources),
                resource_names: names,
                ..Rule::default()
            }
        }
        _ => return None,
    };
    of_role.then_some(rule)
}

fn list(text: &str) -> Vec<Str> {
    text.split(',').map(|word| if word == "\"\"" { Str::default() } else { word.into() }).collect()
}

fn push(map: &mut Map, key: &str, item: Value) {
    map.insert_if_absent(key, || Value::Array(Vec::new()));
    map.get_mut(key).and_then(Value::as_array_mut).expect("the facts give each field one type").push(item);
}

/// Compares what is there with what the defaults want. `None`: nothing to do.
pub fn plan(policy: Policy, existing: Option<&Value>, expected: &Value) -> Option<Change> {
    let Some(existing) = existing else { return Some(Change::Create(expected.clone())) };
    if existing.str_at(&["metadata", "annotations", AUTOUPDATE]) == "false" {
        return None;
    }
    let is_binding = matches!(policy, Policy::RoleBinding | Policy::ClusterRoleBinding);
    if is_binding && RoleRef::of(existing) != RoleRef::of(expected) {
        return Some(Change::Recreate(expected.clone()));
    }
    let mut wanted = existing.clone();
    merge_metadata(&mut wanted, expected);
    if is_binding {
        append_missing(wanted.as_object_mut()?, expected.as_object()?, "subjects");
    } else {
        merge_role(wanted.as_object_mut()?, expected);
    }
    (wanted != *existing).then_some(Change::Update(wanted))
}

/// Labels and annotations that are missing; those that are there win.
fn merge_metadata(wanted: &mut Value, expected: &Value) {
    for field in ["labels", "annotations"] {
        let texts = expected.at(&["metadata", field]).and_then(Value::as_object);
        for (key, text) in texts.into_iter().flat_map(Map::iter) {
            wanted.object_entry("metadata").object_entry(field).insert_if_absent(key, || text.clone());
        }
    }
}

fn merge_role(wanted: &mut Map, expected: &Value) {
    let held: Vec<Rule> =
        wanted.get("rules").and_then(Value::as_array).unwrap_or_default().iter().map(Rule::from_value).collect();
    for missing in uncovered(&held, &rules_of(expected)) {
        push(wanted, "rules", missing.to_value());
    }
    match expected.get("aggregationRule").and_then(Value::as_object) {
        None => {
            wanted.remove("aggregationRule");
        }
        Some(rule) => append_missing(wanted.object_entry("aggregationRule"), rule, "clusterRoleSelectors"),
    }
}

fn append_missing(wanted: &mut Map, expected: &Map, key: &str) {
    for item in expected.get(key).and_then(Value::as_array).unwrap_or_default() {
        let known = wanted.get(key).and_then(Value::as_array).is_some_and(|items| items.contains(item));
        if !known {
            push(wanted, key, item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> (Policy, Value) {
        let all = objects().expect("the committed facts are readable");
        all.into_iter().find(|(_, object)| object.str_at(&["metadata", "name"]) == name).expect("a default")
    }

    #[test]
    fn what_is_there_needs_nothing() {
        for (policy, object) in objects().expect("the committed facts are readable") {
            assert_eq!(plan(policy, None, &object), Some(Change::Create(object.clone())));
            assert_eq!(plan(policy, Some(&object), &object), None);
        }
    }

    #[test]
    fn missing_rules_and_labels_come_back_and_added_ones_stay() {
        let (policy, expected) = named("system:kube-scheduler");
        let mut existing = expected.clone();
        let rules = existing.get_mut("rules").and_then(Value::as_array_mut).expect("has rules");
        rules.remove(0);
        rules.push(value!({"verbs": ["get"], "apiGroups": ["mine"], "resources": ["things"]}));
        existing.object_entry("metadata").insert("labels", value!({"mine": "too"}));
        let Some(Change::Update(wanted)) = plan(policy, Some(&existing), &expected) else { panic!("an update") };
        assert!(uncovered(&rules_of(&wanted), &rules_of(&expected)).is_empty());
        assert!(uncovered(&rules_of(&wanted), &rules_of(&existing)).is_empty());
        assert_eq!(wanted.str_at(&["metadata", "labels", "mine"]), "too");
        assert_eq!(wanted.str_at(&["metadata", "labels", "kubernetes.io/bootstrapping"]), "rbac-defaults");
        assert_eq!(plan(policy, Some(&wanted), &expected), None, "stable");
    }

    #[test]
    fn an_object_that_opted_out_is_left_alone() {
        let (policy, expected) = named("system:discovery");
        let mut existing = expected.clone();
        existing.as_object_mut().expect("an object").remove("rules");
        existing
            .object_entry("metadata")
            .insert("annotations", value!({"rbac.authorization.kubernetes.io/autoupdate": "false"}));
        assert_eq!(plan(policy, Some(&existing), &expected), None);
    }

    #[test]
    fn a_binding_to_another_role_is_made_anew() {
        let all = objects().expect("the committed facts are readable");
        let (policy, expected) =
            all.iter().find(|(policy, _)| *policy == Policy::ClusterRoleBinding).expect("a binding");
        let mut existing = expected.clone();
        existing.object_entry("roleRef").insert("name", "other");
        assert_eq!(plan(*policy, Some(&existing), expected), Some(Change::Recreate(expected.clone())));
    }
}
