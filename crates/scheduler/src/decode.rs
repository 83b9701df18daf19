//! From the objects of the API to what placement looks at. Objects come from the store, so they were validated; what
//! cannot be read all the same is an error that names it, and the pod is not placed.

mod requests;

use std::sync::Arc;

use corten_apimachinery::quantity::{Quantity, QuantityError};
use corten_apimachinery::selector::label::{Operator, Requirement};
use corten_apimachinery::selector::{LabelSelector, SelectorError};
use corten_apimachinery::time::{Time, TimeError};
use corten_apimachinery::value::{Map, Str, Value};

use crate::preempt::Budget;
use crate::view::{
    Effect, HostPort, Image, Labels, NodeSelector, NodeTerm, NodeView, Peer, Pod, Spread, Taint, Term, Terms,
    Toleration, TolerationOperator, Unsatisfiable,
};
use crate::volumes::{self, PodVolumes};

/// A part of an object that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    #[error("quantity of resource {name:?}")]
    Quantity { name: Str, source: QuantityError },
    #[error("label selector")]
    Selector(#[from] SelectorError),
    #[error("time of field {field}")]
    Time { field: &'static str, source: TimeError },
    #[error("weight or priority {0} is out of range")]
    Range(i64),
    #[error("unknown {field} {value:?}")]
    Unknown { field: &'static str, value: Str },
}

/// Reads a Pod.
pub fn pod(object: &Value) -> Result<Pod, DecodeError> {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let meta = object.get("metadata").unwrap_or(&Value::Null);
    let peer = Peer {
        namespace: meta.str_at(&["namespace"]).into(),
        labels: labels(meta.get("labels")),
        terms: terms(spec, meta.str_at(&["namespace"]))?,
    };
    let node_affinity = spec.at(&["affinity", "nodeAffinity"]);
    let required = node_affinity.and_then(|affinity| affinity.get(REQUIRED)).filter(|required| !required.is_null());
    Ok(Pod {
        uid: meta.str_at(&["uid"]).into(),
        name: meta.str_at(&["name"]).into(),
        node_name: spec.str_at(&["nodeName"]).into(),
        nominated: object.str_at(&["status", "nominatedNodeName"]).into(),
        scheduler: spec.str_at(&["schedulerName"]).into(),
        priority: small(spec.i64_at(&["priority"]).unwrap_or(0))?,
        preempts_never: spec.str_at(&["preemptionPolicy"]) == "Never",
        gates: items(spec, "schedulingGates").iter().map(|gate| gate.str_at(&["name"]).into()).collect(),
        requests: requests::of(object)?,
        usual: requests::usual(object)?,
        usual_held: requests::usual_held(object)?,
        tolerations: items(spec, "tolerations").iter().map(toleration).collect::<Result<_, _>>()?,
        node_selector: labels(spec.get("nodeSelector")),
        node_required: required.map(node_selector),
        node_preferred: node_affinity
            .map_or(Ok(Vec::new()), |affinity| preferred(affinity, "preference", node_term))?,
        ports: host_ports(spec),
        spread: items(spec, "topologySpreadConstraints")
            .iter()
            .map(|constraint| spread(constraint, &peer.labels))
            .collect::<Result<_, _>>()?,
        siblings: None,
        claims: volumes::pod_claims(object),
        volumes: PodVolumes::default(),
        images: pod_images(spec),
        containers: i64::try_from(containers(spec).count()).expect("a length fits"),
        terminating: meta.get("deletionTimestamp").is_some_and(|time| !time.is_null()),
        preempted: items(object.get("status").unwrap_or(&Value::Null), "conditions").iter().any(by_preemption),
        started: started(object)?,
        peer: Arc::new(peer),
    })
}

/// Whether a pod holds nothing any more, and the snapshot must not count it.
pub fn is_over(object: &Value) -> bool {
    matches!(object.str_at(&["status", "phase"]), "Succeeded" | "Failed")
}

/// Reads a Node.
pub fn node(object: &Value) -> Result<NodeView, DecodeError> {
    let status = object.get("status").unwrap_or(&Value::Null);
    let mut allocatable = Vec::new();
    for (name, quantity) in status.get("allocatable").and_then(Value::as_object).into_iter().flat_map(Map::iter) {
        allocatable.push((name.clone(), amount(name, &parse(name, quantity)?)));
    }
    allocatable.sort();
    let image = |image: &Value| Image {
        names: items(image, "names").iter().filter_map(Value::as_str).map(Str::from).collect(),
        bytes: image.i64_at(&["sizeBytes"]).unwrap_or(0),
    };
    Ok(NodeView {
        name: object.str_at(&["metadata", "name"]).into(),
        labels: labels(object.at(&["metadata", "labels"])),
        unschedulable: object.at(&["spec", "unschedulable"]).and_then(Value::as_bool).unwrap_or(false),
        taints: items(object.get("spec").unwrap_or(&Value::Null), "taints")
            .iter()
            .map(taint)
            .collect::<Result<_, _>>()?,
        allocatable,
        images: items(status, "images").iter().map(image).collect(),
    })
}

/// Reads a PodDisruptionBudget.
pub fn budget(object: &Value) -> Result<Budget, DecodeError> {
    let disrupted = object.at(&["status", "disruptedPods"]).and_then(Value::as_object);
    Ok(Budget {
        namespace: object.str_at(&["metadata", "namespace"]).into(),
        selector: LabelSelector::from_object(object.at(&["spec", "selector"]))?,
        disruptions_allowed: object.i64_at(&["status", "disruptionsAllowed"]).unwrap_or(0),
        disrupted: disrupted.into_iter().flat_map(Map::keys).cloned().collect(),
    })
}

/// The selector of a pod's siblings, for [`Pod::siblings`]: the selectors of the services that select it, joined, and
/// the selector of the ReplicationController, ReplicaSet or StatefulSet that owns it.
pub fn siblings<'a>(
    services: impl IntoIterator<Item = &'a Labels>,
    owner: Option<&LabelSelector>,
) -> Option<LabelSelector> {
    let mut joined: Labels = services.into_iter().flatten().cloned().collect();
    joined.sort();
    joined.dedup();
    let owner = owner.map(LabelSelector::requirements).unwrap_or_default();
    let of_services = LabelSelector::from_labels(joined.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let selector = of_services.and(owner.iter().cloned());
    (!selector.is_empty()).then_some(selector)
}

/// A map of strings, sorted by key.
pub fn labels(map: Option<&Value>) -> Labels {
    let entries = map.and_then(Value::as_object).into_iter().flat_map(Map::iter);
    let mut labels: Labels = entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.into()))).collect();
    labels.sort();
    labels
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).unwrap_or_default()
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    items(spec, "initContainers").iter().chain(items(spec, "containers"))
}

fn small(number: i64) -> Result<i32, DecodeError> {
    i32::try_from(number).map_err(|_| DecodeError::Range(number))
}

fn parse(name: &Str, quantity: &Value) -> Result<Quantity, DecodeError> {
    Quantity::from_value(quantity).map_err(|source| DecodeError::Quantity { name: name.clone(), source })
}

/// Thousandths of a CPU, or whole units of anything else.
fn amount(name: &str, quantity: &Quantity) -> i64 {
    if name == "cpu" { quantity.milli_value() } else { quantity.value() }
}

fn started(object: &Value) -> Result<Option<Time>, DecodeError> {
    let text = object.str_at(&["status", "startTime"]);
    if text.is_empty() {
        return Ok(None);
    }
    Time::parse(text).map(Some).map_err(|source| DecodeError::Time { field: "status.startTime", source })
}

fn by_preemption(condition: &Value) -> bool {
    let text = |field| condition.str_at(&[field]);
    (text("type"), text("status"), text("reason")) == ("DisruptionTarget", "True", "PreemptionByScheduler")
}

fn effect(text: &str) -> Result<Effect, DecodeError> {
    match text {
        "NoSchedule" => Ok(Effect::NoSchedule),
        "PreferNoSchedule" => Ok(Effect::PreferNoSchedule),
        "NoExecute" => Ok(Effect::NoExecute),
        _ => Err(DecodeError::Unknown { field: "effect", value: text.into() }),
    }
}

fn taint(taint: &Value) -> Result<Taint, DecodeError> {
    let text = |field| taint.str_at(&[field]);
    Ok(Taint { key: text("key").into(), value: text("value").into(), effect: effect(text("effect"))? })
}

fn toleration(toleration: &Value) -> Result<Toleration, DecodeError> {
    let text = |field| toleration.str_at(&[field]);
    let operator = match text("operator") {
        "" | "Equal" => TolerationOperator::Equal,
        "Exists" => TolerationOperator::Exists,
        _ => TolerationOperator::Unknown,
    };
    let effect = Some(text("effect")).filter(|text| !text.is_empty()).map(effect).transpose()?;
    Ok(Toleration { key: text("key").into(), operator, value: text("value").into(), effect })
}

/// Terms of which one must hold.
pub(crate) fn node_selector(required: &Value) -> NodeSelector {
    NodeSelector { terms: items(required, "nodeSelectorTerms").iter().map(node_term).collect() }
}

/// A term of a class's `allowedTopologies`.
pub(crate) fn topology_term(term: &Value) -> NodeTerm {
    let mut read = NodeTerm::default();
    for expression in items(term, "matchLabelExpressions") {
        let (key, values) = (expression.str_at(&["key"]), texts(expression, "values"));
        match Requirement::new(key.into(), Operator::In, values) {
            Ok(requirement) => read.labels.push(requirement),
            Err(_) => read.invalid = true,
        }
    }
    read
}

fn node_term(term: &Value) -> NodeTerm {
    let mut read = NodeTerm::default();
    for expression in items(term, "matchExpressions") {
        match requirement(expression) {
            Some(requirement) => read.labels.push(requirement),
            None => read.invalid = true,
        }
    }
    for field in items(term, "matchFields") {
        match (field.str_at(&["key"]), field.str_at(&["operator"])) {
            ("metadata.name", "In") => read.names.push((true, texts(field, "values"))),
            ("metadata.name", "NotIn") => read.names.push((false, texts(field, "values"))),
            _ => read.invalid = true,
        }
    }
    read
}

fn requirement(expression: &Value) -> Option<Requirement> {
    let operator = match expression.str_at(&["operator"]) {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return None,
    };
    Requirement::new(expression.str_at(&["key"]).into(), operator, texts(expression, "values")).ok()
}

fn texts(value: &Value, field: &str) -> Vec<Str> {
    items(value, field).iter().filter_map(Value::as_str).map(Str::from).collect()
}

/// Weighted terms. A weight of zero means nothing.
fn preferred<T>(affinity: &Value, field: &str, read: impl Fn(&Value) -> T) -> Result<Vec<(i32, T)>, DecodeError> {
    let mut terms = Vec::new();
    for weighted in items(affinity, PREFERRED) {
        let weight = small(weighted.i64_at(&["weight"]).unwrap_or(0))?;
        if weight != 0 {
            terms.push((weight, read(weighted.get(field).unwrap_or(&Value::Null))));
        }
    }
    Ok(terms)
}

fn terms(spec: &Value, namespace: &str) -> Result<Terms, DecodeError> {
    let of = |field| spec.at(&["affinity", field]).unwrap_or(&Value::Null);
    let (near, away) = (of("podAffinity"), of("podAntiAffinity"));
    let required = |affinity| items(affinity, REQUIRED).iter().map(|term| pod_term(term, namespace)).collect();
    let weighted = |affinity| {
        let terms = preferred(affinity, "podAffinityTerm", |term| pod_term(term, namespace))?;
        terms.into_iter().map(|(weight, term)| Ok((weight, term?))).collect::<Result<Vec<_>, DecodeError>>()
    };
    Ok(Terms {
        affinity: Result::<_, DecodeError>::from_iter::<Vec<_>>(required(near))?,
        anti: Result::<_, DecodeError>::from_iter::<Vec<_>>(required(away))?,
        prefers: weighted(near)?,
        avoids: weighted(away)?,
    })
}

fn pod_term(term: &Value, namespace: &str) -> Result<Term, DecodeError> {
    let namespace_selector = term.get("namespaceSelector").filter(|selector| !selector.is_null());
    let mut namespaces = texts(term, "namespaces");
    if namespaces.is_empty() && namespace_selector.is_none() {
        namespaces.push(namespace.into());
    }
    Ok(Term {
        topology_key: term.str_at(&["topologyKey"]).into(),
        selector: LabelSelector::from_object(term.get("labelSelector"))?,
        namespaces,
        namespace_selector: LabelSelector::from_object(namespace_selector)?,
    })
}

fn spread(constraint: &Value, labels: &Labels) -> Result<Spread, DecodeError> {
    let own = texts(constraint, "matchLabelKeys").into_iter().filter_map(|key| {
        let value = crate::view::label(labels, &key)?.clone();
        Some(Requirement { key, operator: Operator::In, values: vec![value] })
    });
    let unsatisfiable = match constraint.str_at(&["whenUnsatisfiable"]) {
        "DoNotSchedule" => Unsatisfiable::DoNotSchedule,
        "ScheduleAnyway" => Unsatisfiable::ScheduleAnyway,
        other => return Err(DecodeError::Unknown { field: "whenUnsatisfiable", value: other.into() }),
    };
    Ok(Spread {
        max_skew: constraint.i64_at(&["maxSkew"]).unwrap_or(0),
        topology_key: constraint.str_at(&["topologyKey"]).into(),
        unsatisfiable,
        selector: LabelSelector::from_object(constraint.get("labelSelector"))?.and(own),
        min_domains: constraint.i64_at(&["minDomains"]).unwrap_or(1),
        honors_affinity: constraint.str_at(&["nodeAffinityPolicy"]) != "Ignore",
        honors_taints: constraint.str_at(&["nodeTaintsPolicy"]) == "Honor",
    })
}

/// Ports of containers and of sidecars: other init containers have none.
fn host_ports(spec: &Value) -> Vec<HostPort> {
    let sidecars = items(spec, "initContainers").iter().filter(|container| requests::is_sidecar(container));
    let ports = sidecars.chain(items(spec, "containers")).flat_map(|container| items(container, "ports"));
    let taken = ports.filter(|port| port.i64_at(&["hostPort"]).unwrap_or(0) > 0);
    let or = |text: &str, default: &str| if text.is_empty() { Str::from(default) } else { text.into() };
    taken
        .map(|port| HostPort {
            ip: or(port.str_at(&["hostIP"]), "0.0.0.0"),
            protocol: or(port.str_at(&["protocol"]), "TCP"),
            port: port.i64_at(&["hostPort"]).unwrap_or(0),
        })
        .collect()
}

fn pod_images(spec: &Value) -> Vec<Str> {
    let of_containers = containers(spec).map(|container| container.str_at(&["image"]));
    let volumes = items(spec, "volumes").iter().filter(|volume| volume.get("image").is_some());
    let of_volumes = volumes.map(|volume| volume.str_at(&["image", "reference"]));
    of_containers.chain(of_volumes).map(with_tag).collect()
}

/// The image's name as nodes report it, with a tag.
fn with_tag(image: &str) -> Str {
    let after_host = image.rfind('/').map_or(0, |at| at + 1);
    let tagged = image[after_host..].contains(':');
    if tagged { image.into() } else { format!("{image}:latest").into() }
}
