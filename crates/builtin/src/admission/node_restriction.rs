//! NodeRestriction: of what a node may write it writes only what is its own: its object without labels that steer
//! workloads, its lease, the status of its pods, tokens for its pods.

use std::collections::BTreeSet;
use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Value};
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use corten_apiserver::auth::{Attributes, Authorizer, AuthzTarget, Decision};
use futures_core::future::BoxFuture;

use super::{forbidden, references, service_account};
use crate::lookup::{Lookup, PODS, tree};
use crate::node::node_of;
use crate::rbac::rule::strings;
use crate::token::NODES;

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES_NAMESPACE: &str = "kube-node-lease";
const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// Labels of Kubernetes that a node may set on itself.
const OWN_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_LABEL_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

pub struct NodeRestriction {
    lookup: Arc<dyn Lookup>,
    authorizer: Arc<dyn Authorizer>,
}

impl NodeRestriction {
    pub fn new(lookup: Arc<dyn Lookup>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { lookup, authorizer }
    }

    async fn check(&self, request: &AdmissionRequest) -> Result<(), Status> {
        let user = request.user.clone();
        let Some(node) = node_of(&user) else { return Ok(()) };
        if node.is_empty() {
            return Err(forbidden(request, &format!("could not determine node from user {:?}", user.name)));
        }
        let refuse = |why: String| forbidden(request, &why);
        let kind = (request.kind.gvk.group.as_str(), request.kind.plural.as_str());
        match (kind, request.subresource.as_str()) {
            (("", "pods"), "") => self.pod(request, node).await,
            (("", "pods"), "status") => pod_status(request, node).map_err(refuse),
            (("", "pods"), "eviction") => self.eviction(request, node).await,
            (("", "pods"), other) => {
                let why = format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed");
                Err(refuse(why))
            }
            (("", "nodes"), _) => of_node(request, node).map_err(refuse),
            (("", "persistentvolumeclaims"), "status") => claim_status(request, node).map_err(refuse),
            (("", "persistentvolumeclaims"), _) => Err(refuse("may only update PVC status".to_owned())),
            (("", "persistentvolumes"), "") => disk(request, node).map_err(refuse),
            (("", "persistentvolumes"), _) => Err(refuse("may only update volumes of its own disks".to_owned())),
            (("", "serviceaccounts"), "token") if request.operation == Operation::Create => {
                self.token(request, node).await
            }
            (("coordination.k8s.io", "leases"), _) => lease(request, node).map_err(refuse),
            (("storage.k8s.io", "csinodes"), _) => own(request, node, "CSINode").map_err(refuse),
            _ => Ok(()),
        }
    }

    async fn existing(&self, request: &AdmissionRequest, name: &str) -> Result<Value, Status> {
        match self.lookup.get(PODS, &request.namespace, name).await? {
            Some(pod) => tree(&pod),
            None => Err(Status::not_found("", PODS.plural, name)),
        }
    }

    async fn pod(&self, request: &AdmissionRequest, node: &str) -> Result<(), Status> {
        let refuse = |why: String| forbidden(request, &why);
        match request.operation {
            Operation::Create => {
                mirror(&request.object, node).map_err(refuse)?;
                let owner = request.object.at(&["metadata", "ownerReferences"]).and_then(Value::as_array);
                let asked = owner.and_then(|owners| owners.first()).map_or("", |owner| owner.str_at(&["uid"]));
                let found = self.lookup.get(NODES, "", node).await?;
                let found = found.ok_or_else(|| Status::not_found("", NODES.plural, node))?;
                if found.head.uid != asked {
                    let why = format!("node {node} UID mismatch: expected {asked} got {}", found.head.uid);
                    return Err(refuse(why));
                }
                no_references(&request.object, node).map_err(refuse)
            }
            Operation::Delete => {
                let pod = self.existing(request, &request.name).await?;
                if pod.str_at(&["spec", "nodeName"]) == node {
                    return Ok(());
                }
                Err(refuse(format!("node {node:?} can only delete pods with spec.nodeName set to itself")))
            }
            operation => {
                let operation = format!("{operation:?}").to_uppercase();
                let why =
                    format!("unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods");
                Err(refuse(why))
            }
        }
    }

    async fn eviction(&self, request: &AdmissionRequest, node: &str) -> Result<(), Status> {
        let name = match request.name.as_str() {
            "" => request.object.str_at(&["metadata", "name"]),
            name => name,
        };
        if name.is_empty() {
            return Err(forbidden(request, "could not determine pod from request data"));
        }
        if self.existing(request, name).await?.str_at(&["spec", "nodeName"]) == node {
            return Ok(());
        }
        Err(forbidden(request, &format!("node {node} can only evict pods with spec.nodeName set to itself")))
    }

    async fn token(&self, request: &AdmissionRequest, node: &str) -> Result<(), Status> {
        let text = |field| request.object.str_at(&["spec", "boundObjectRef", field]);
        let (name, uid) = (text("name"), text("uid"));
        if text("apiVersion") != "v1" || text("kind") != "Pod" || name.is_empty() {
            return Err(forbidden(request, "node requested token not bound to a pod"));
        }
        if uid.is_empty() {
            return Err(forbidden(request, "node requested token with a pod binding without a uid"));
        }
        let pod = self.existing(request, name).await?;
        if pod.str_at(&["metadata", "uid"]) != uid {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            );
            return Err(forbidden(request, &why));
        }
        if pod.str_at(&["spec", "nodeName"]) != node {
            return Err(forbidden(request, "node requested token bound to a pod scheduled on a different node"));
        }
        self.audience(request, &pod).await
    }

    /// A node asks for the audiences that its pods ask for, or for those that it was given the right to.
    async fn audience(&self, request: &AdmissionRequest, pod: &Value) -> Result<(), Status> {
        let asked = strings(request.object.at(&["spec", "audiences"]));
        // The server's own, which is what a request without audiences has got by now, is nobody's to name.
        let audience = match asked.as_slice() {
            [] => "",
            [one] if one == crate::token::ISSUER => "",
            [one] => one.as_str(),
            _ => return Err(forbidden(request, "node may only request 0 or 1 audiences")),
        };
        if projects(pod, audience) {
            return Ok(());
        }
        let target = AuthzTarget::Resource {
            group: "",
            version: "v1",
            resource: audience,
            subresource: "",
            namespace: &request.namespace,
            name: &request.name,
        };
        let verb = "request-serviceaccounts-token-audience";
        if self.authorizer.authorize(&Attributes { user: &request.user, verb, target }).await == Decision::Allow {
            return Ok(());
        }
        let why = format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            request.user.name
        );
        Err(forbidden(request, &why))
    }
}

impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.check(request))
    }
}

/// Whether a pod has a volume with a token for an audience.
fn projects(pod: &Value, audience: &str) -> bool {
    let volumes = pod.at(&["spec", "volumes"]).and_then(Value::as_array).unwrap_or_default();
    let sources = volumes.iter().filter_map(|volume| volume.at(&["projected", "sources"])?.as_array()).flatten();
    let mut tokens = sources.filter_map(|source| source.get("serviceAccountToken"));
    tokens.any(|token| token.str_at(&["audience"]) == audience)
}

/// A node makes pods only to show the static ones that it runs.
fn mirror(pod: &Value, node: &str) -> Result<(), String> {
    if pod.at(&["metadata", "annotations", MIRROR]).is_none() {
        return Err(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    if pod.str_at(&["spec", "nodeName"]) != node {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owners = pod.at(&["metadata", "ownerReferences"]).and_then(Value::as_array).unwrap_or_default();
    let owner = match owners {
        [owner] => owner,
        [] => return Err(format!("node {node:?} can only create pods with an owner reference set to itself")),
        _ => return Err(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    };
    let text = |field| owner.str_at(&[field]);
    let flag = |field| owner.get(field).and_then(Value::as_bool).unwrap_or(false);
    if (text("apiVersion"), text("kind"), text("name")) != ("v1", "Node", node) {
        return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if !flag("controller") {
        return Err(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if flag("blockOwnerDeletion") {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    Ok(())
}

fn no_references(pod: &Value, node: &str) -> Result<(), String> {
    let referred = [
        ("serviceaccounts", !pod.str_at(&["spec", "serviceAccountName"]).is_empty()),
        ("secrets", !service_account::secrets(pod).is_empty()),
        ("configmaps", !references::config_maps(pod).is_empty()),
        ("persistentvolumeclaims", !references::claims(pod).is_empty()),
        ("resourceclaims", !references::resource_claims(pod).is_empty()),
    ];
    match referred.into_iter().find(|(_, refers)| *refers) {
        Some((resource, _)) => Err(format!("node {node:?} can not create pods that reference {resource}")),
        None => Ok(()),
    }
}

fn pod_status(request: &AdmissionRequest, node: &str) -> Result<(), String> {
    let old = request.old.as_deref().unwrap_or(&Value::Null);
    if request.operation != Operation::Update {
        return Err(format!("unexpected operation {:?}", format!("{:?}", request.operation).to_uppercase()));
    }
    if old.str_at(&["spec", "nodeName"]) != node {
        return Err(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"));
    }
    let same = |path: &[&str]| request.object.at(path) == old.at(path);
    if !changed(&request.object, Some(old)).is_empty() {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    if !same(&["status", "resourceClaimStatuses"]) {
        return Err(format!("node {node:?} cannot update resource claim statues"));
    }
    if !same(&["status", "extendedResourceClaimStatus"]) {
        return Err(format!("node {node:?} cannot update extended resource claim status"));
    }
    Ok(())
}

fn of_node(request: &AdmissionRequest, node: &str) -> Result<(), String> {
    let name = match request.name.as_str() {
        "" => request.object.str_at(&["metadata", "name"]),
        name => name,
    };
    if name != node {
        return Err(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let object = &request.object;
    let steering = |old: Option<&Value>| -> Vec<String> {
        changed(object, old).into_iter().filter(|label| steers(label)).collect()
    };
    match (request.operation, request.old.as_deref()) {
        (Operation::Create, _) => {
            if object.at(&["spec", "configSource"]).is_some_and(|source| !source.is_null()) {
                return Err(format!("node {node:?} is not allowed to create pods with a non-nil configSource"));
            }
            match steering(None).as_slice() {
                [] => Ok(()),
                labels => {
                    Err(format!("node {node:?} is not allowed to set the following labels: {}", labels.join(", ")))
                }
            }
        }
        (Operation::Update, Some(old)) => {
            let differs = |path: &[&str]| {
                let [new, old] = [object.at(path), old.at(path)].map(|part| part.filter(|part| !part.is_null()));
                new != old
            };
            if object.at(&["spec", "configSource"]).is_some_and(|source| !source.is_null())
                && differs(&["spec", "configSource"])
            {
                return Err(format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if differs(&["spec", "taints"]) {
                return Err(format!("node {node:?} is not allowed to modify taints"));
            }
            if differs(&["metadata", "ownerReferences"]) {
                return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            match steering(Some(old)).as_slice() {
                [] => Ok(()),
                labels => Err(format!("is not allowed to modify labels: {}", labels.join(", "))),
            }
        }
        _ => Ok(()),
    }
}

/// The labels in which two objects differ.
fn changed(object: &Value, old: Option<&Value>) -> BTreeSet<String> {
    let labels = |object: &Value| -> BTreeSet<(String, String)> {
        let labels = object.at(&["metadata", "labels"]).and_then(Value::as_object).into_iter().flat_map(Map::iter);
        labels.map(|(key, text)| (key.to_string(), text.as_str().unwrap_or_default().to_owned())).collect()
    };
    let (new, old) = (labels(object), old.map(labels).unwrap_or_default());
    new.symmetric_difference(&old).map(|(key, _)| key.clone()).collect()
}

/// Whether a label could bring workloads to a node that are not meant for it.
fn steers(label: &str) -> bool {
    let namespace = label.split_once('/').map_or("", |(namespace, _)| namespace);
    let within = |of: &str| namespace == of || namespace.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    let own = OWN_LABELS.contains(&label) || OWN_LABEL_NAMESPACES.iter().any(|of| within(of));
    within(RESTRICTED) || (within("kubernetes.io") || within("k8s.io")) && !own
}

fn claim_status(request: &AdmissionRequest, node: &str) -> Result<(), String> {
    let Some(old) = request.old.as_deref().filter(|_| request.operation == Operation::Update) else {
        return Err(format!("unexpected operation {:?}", format!("{:?}", request.operation).to_uppercase()));
    };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for field in ["resourceVersion", "managedFields"] {
            claim.object_entry("metadata").remove(field);
        }
        for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            claim.object_entry("status").remove(field);
        }
        claim
    };
    match rest(&request.object) == rest(old) {
        true => Ok(()),
        false => Err(format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
        )),
    }
}

/// A node may let go of a volume that is a disk of its own, and nothing else of volumes.
fn disk(request: &AdmissionRequest, node: &str) -> Result<(), String> {
    let old = request.old.as_deref().filter(|_| request.operation == Operation::Update);
    let own = old.filter(|old| {
        let csi = |path: &[&str]| old.at(&["spec", "csi"]).map_or("", |csi| csi.str_at(path));
        csi(&["driver"]) == "local.corten.dev" && csi(&["volumeAttributes", "corten.dev/node"]) == node
    });
    let Some(own) = own else { return Err(format!("node {node:?} may only update volumes of its own disks")) };
    let rest = |volume: &Value| {
        let mut volume = volume.clone();
        for field in ["resourceVersion", "managedFields", "finalizers"] {
            volume.object_entry("metadata").remove(field);
        }
        volume
    };
    match rest(&request.object) == rest(own) {
        true => Ok(()),
        false => Err(format!("node {node:?} may only update metadata.finalizers of volumes")),
    }
}

fn lease(request: &AdmissionRequest, node: &str) -> Result<(), String> {
    if request.namespace != LEASES_NAMESPACE {
        return Err(format!("can only access leases in the {LEASES_NAMESPACE:?} system namespace"));
    }
    own(request, node, "node lease")
}

fn own(request: &AdmissionRequest, node: &str, what: &str) -> Result<(), String> {
    let name = match request.operation {
        Operation::Create => request.object.str_at(&["metadata", "name"]),
        _ => request.name.as_str(),
    };
    match name == node {
        true => Ok(()),
        false => Err(format!("can only access {what} with the same name as the requesting node")),
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apiserver::auth::User;

    use super::*;
    use crate::fixture::{Cluster, request};
    use crate::lookup::Resource;
    use crate::rbac::Rbac;
    use crate::token::SERVICE_ACCOUNTS;

    async fn check(
        (resource, subresource): (Resource, &str),
        operation: Operation,
        object: Value,
        old: Option<Value>,
        expect: &str,
    ) {
        let pod = |name: &str, node: &str| {
            let sources = value!([{"serviceAccountToken": {"audience": "vault"}}, {"serviceAccountToken": {}}]);
            let volumes = value!([{"projected": {"sources": sources}}]);
            (PODS, value!({"metadata": {"name": name, "uid": "u"}, "spec": {"nodeName": node, "volumes": volumes}}))
        };
        let cluster = Cluster(vec![pod("here", "n1"), pod("there", "n2")]);
        let plugin = NodeRestriction::new(Arc::new(cluster), Arc::new(Rbac::default()));
        let namespace = if resource == NODES { "" } else { "ns" };
        let mut request = request(resource, operation, namespace, object);
        request.user =
            Arc::new(User { name: "system:node:n1".into(), groups: vec!["system:nodes".into()], ..User::default() });
        request.subresource = subresource.to_owned();
        request.old = old.map(Arc::new);
        let told = plugin.mutate(&mut request).await.map_or_else(|status| status.message, |()| "admitted".to_owned());
        assert!(told.ends_with(expect), "{told}");
    }

    fn node(name: &str, labels: Value) -> Value {
        value!({"metadata": {"name": name, "labels": labels}, "spec": {}})
    }

    #[tokio::test]
    async fn a_node_writes_its_own_object_without_steering() {
        let own = value!({"kubernetes.io/hostname": "n1", "node.kubernetes.io/x": "y", "shop/rack": "1"});
        check((NODES, ""), Operation::Create, node("n1", own), None, "admitted").await;
        let other = r#"node "n1" is not allowed to modify node "n2""#;
        check((NODES, ""), Operation::Create, node("n2", value!({})), None, other).await;
        let steering = value!({"node-restriction.kubernetes.io/x": "y", "sub.k8s.io/z": "y"});
        let refused = r#"is not allowed to set the following labels: node-restriction.kubernetes.io/x, sub.k8s.io/z"#;
        check((NODES, ""), Operation::Create, node("n1", steering), None, refused).await;
        let mut tainted = node("n1", value!({}));
        tainted.object_entry("spec").insert("taints", value!([{"key": "a"}]));
        let old = Some(node("n1", value!({})));
        check((NODES, "status"), Operation::Update, tainted, old, "is not allowed to modify taints").await;
    }

    #[tokio::test]
    async fn a_node_gets_tokens_for_its_pods() {
        let token = async |pod: &str, audience: &str, expect: &str| {
            let reference = value!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": "u"});
            let object = value!({"spec": {"audiences": [audience], "boundObjectRef": reference}});
            check((SERVICE_ACCOUNTS, "token"), Operation::Create, object, None, expect).await;
        };
        token("here", "vault", "admitted").await;
        token("here", crate::token::ISSUER, "admitted").await;
        token("here", "other", "system:node:n1 is not authorized to request tokens for this audience").await;
        token("there", "vault", "node requested token bound to a pod scheduled on a different node").await;
        token("none", "vault", r#"pods "none" not found"#).await;
        let unbound = value!({"spec": {}});
        let refused = "node requested token not bound to a pod";
        check((SERVICE_ACCOUNTS, "token"), Operation::Create, unbound, None, refused).await;
    }

    #[tokio::test]
    async fn a_node_tells_of_its_own_pods() {
        let pod = |node: &str, label: &str| value!({"metadata": {"name": "p", "labels": {"a": label}}, "spec": {"nodeName": node}, "status": {}});
        let status = (PODS, "status");
        check(status, Operation::Update, pod("n1", "b"), Some(pod("n1", "b")), "admitted").await;
        let labels = "cannot update labels through pod status";
        check(status, Operation::Update, pod("n1", "c"), Some(pod("n1", "b")), labels).await;
        let other = "can only update pod status for pods with spec.nodeName set to itself";
        check(status, Operation::Update, pod("n2", "b"), Some(pod("n2", "b")), other).await;
        let made =
            r#"pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods"#;
        check((PODS, ""), Operation::Create, pod("n1", "b"), None, made).await;
    }
}
