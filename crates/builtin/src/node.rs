//! What a node may do: everything that upstream's role of nodes says, but of what pods need only what the pods on that
//! node refer to (`plugin/pkg/auth/authorizer/node`). The way from a node to an object is followed in the cache at each
//! request, so that nothing has to be kept in step.

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::auth::{Attributes, Authorizer, AuthzTarget, Decision, User};
use futures_core::future::BoxFuture;

use crate::admission::{references, service_account};
use crate::lookup::{Lookup, PODS, Resource, tree};
use crate::rbac::Policy;
use crate::rbac::defaults::{self, FactsError};
use crate::rbac::rule::{Rule, rules_of};

/// Nodes are members, and their names begin with this.
pub const NODES_GROUP: &str = "system:nodes";
pub const NODE_PREFIX: &str = "system:node:";

const ROLE: &str = "system:node";
const CLAIMS: Resource = Resource { group: "", plural: "persistentvolumeclaims" };
const VOLUMES: Resource = Resource { group: "", plural: "persistentvolumes" };
const ATTACHMENTS: Resource = Resource { group: "storage.k8s.io", plural: "volumeattachments" };
const LEASES_NAMESPACE: &str = "kube-node-lease";

/// The node that a user is: `None` for others, an empty name for a member of the group without a node's name.
pub fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix(NODE_PREFIX)?;
    user.in_group(NODES_GROUP).then_some(name)
}

/// Decides for nodes; has no opinion of others.
pub struct NodeAuthorizer {
    lookup: Arc<dyn Lookup>,
    rules: Vec<Rule>,
}

/// Why not.
type Refused = String;

impl NodeAuthorizer {
    pub fn new(lookup: Arc<dyn Lookup>) -> Result<Self, FactsError> {
        let objects = defaults::objects()?;
        let is_role = |policy: Policy, object: &Value| {
            policy == Policy::ClusterRole && object.str_at(&["metadata", "name"]) == ROLE
        };
        let role = objects.into_iter().find(|(policy, object)| is_role(*policy, object));
        Ok(Self { lookup, rules: role.map(|(_, role)| rules_of(&role)).unwrap_or_default() })
    }

    async fn decide(&self, attributes: &Attributes<'_>) -> Result<(), Refused> {
        let Some(node) = node_of(attributes.user) else { return Err(String::new()) };
        if node.is_empty() {
            return Err(format!("unknown node for user {:?}", attributes.user.name));
        }
        let verb = attributes.verb;
        if let AuthzTarget::Resource { group, resource, subresource, namespace, name, .. } = attributes.target {
            let target = Target { node, verb, subresource, namespace, name };
            match (group, resource) {
                ("", "secrets" | "configmaps") => return self.read(resource, &target).await,
                ("", "persistentvolumeclaims") => return self.claim(&target).await,
                ("", "persistentvolumes")
                | ("storage.k8s.io", "volumeattachments")
                | ("resource.k8s.io", "resourceclaims") => {
                    return self.get(resource, &target).await;
                }
                ("", "serviceaccounts") => return self.account(&target).await,
                ("coordination.k8s.io", "leases") => return lease(&target),
                ("storage.k8s.io", "csinodes") => return csi_node(&target),
                ("", "nodes") => return of_node(&target),
                ("", "pods") if verb == "get" && !self.has_pod(&target).await? => return Err(unrelated(node)),
                _ => {}
            }
        }
        let allowed = self.rules.iter().any(|rule| rule.allows(verb, &attributes.target));
        if allowed { Ok(()) } else { Err(String::new()) }
    }

    /// Secrets and config maps, one at a time.
    async fn read(&self, resource: &str, target: &Target<'_>) -> Result<(), Refused> {
        if !matches!(target.verb, "get" | "list" | "watch") {
            return Err("can only read resources of this type".to_owned());
        }
        if !target.subresource.is_empty() {
            return Err("cannot read subresource".to_owned());
        }
        if target.namespace.is_empty() {
            return Err("can only read namespaced object of this type".to_owned());
        }
        self.related(resource, target).await
    }

    async fn claim(&self, target: &Target<'_>) -> Result<(), Refused> {
        match target.subresource {
            "status" if matches!(target.verb, "update" | "patch") => {
                self.related("persistentvolumeclaims", target).await
            }
            "status" => Err("can only get/update/patch this type".to_owned()),
            _ => self.get("persistentvolumeclaims", target).await,
        }
    }

    async fn get(&self, resource: &str, target: &Target<'_>) -> Result<(), Refused> {
        if target.verb != "get" {
            return Err("can only get individual resources of this type".to_owned());
        }
        if !target.subresource.is_empty() {
            return Err("cannot get subresource".to_owned());
        }
        self.related(resource, target).await
    }

    async fn account(&self, target: &Target<'_>) -> Result<(), Refused> {
        if target.verb == "get" && target.subresource.is_empty() {
            return self.read("serviceaccounts", target).await;
        }
        if target.verb != "create" || target.name.is_empty() {
            return Err("can only create tokens for individual service accounts".to_owned());
        }
        if target.subresource != "token" {
            return Err("can only create token subresource of serviceaccount".to_owned());
        }
        self.related("serviceaccounts", target).await
    }

    async fn related(&self, resource: &str, target: &Target<'_>) -> Result<(), Refused> {
        if target.name.is_empty() {
            return Err("No Object name found".to_owned());
        }
        match self.is_related(resource, target).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(unrelated(target.node)),
            Err(status) => {
                tracing::warn!(error = %status, "what a node's pods need could not be read");
                Err(unrelated(target.node))
            }
        }
    }

    async fn is_related(&self, resource: &str, target: &Target<'_>) -> Result<bool, Status> {
        let name = target.name;
        if resource == "volumeattachments" {
            let found = self.lookup.get(ATTACHMENTS, "", name).await?;
            let attachment = found.map(|attachment| tree(&attachment)).transpose()?;
            return Ok(attachment.is_some_and(|attachment| attachment.str_at(&["spec", "nodeName"]) == target.node));
        }
        for pod in self.pods(target.node, target.namespace).await? {
            let found = match resource {
                "secrets" => service_account::secrets(&pod).contains(&name),
                "configmaps" => references::config_maps(&pod).contains(&name),
                "serviceaccounts" => pod.str_at(&["spec", "serviceAccountName"]) == name,
                "resourceclaims" => references::resource_claims(&pod).contains(&name),
                "persistentvolumeclaims" => references::claims(&pod).iter().any(|claim| claim == name),
                _ => self.has_volume(&pod, name).await?,
            };
            if found {
                return Ok(true);
            }
        }
        // A secret may also be what a volume is mounted with.
        if resource == "secrets" { self.is_volumes_secret(target).await } else { Ok(false) }
    }

    /// The pods on a node, in one namespace or all.
    async fn pods(&self, node: &str, namespace: &str) -> Result<Vec<Value>, Status> {
        let all = self.lookup.list(PODS).await?;
        // The node is among the fields by which pods are selected; the others are told apart below.
        let here = all.iter().filter(|pod| namespace.is_empty() || pod.head.namespace == namespace);
        let here = here.filter(|pod| pod.head.fields.is_empty() || pod.head.fields.iter().any(|field| field == node));
        let pods: Vec<Value> = here.map(|pod| tree(pod)).collect::<Result<_, _>>()?;
        Ok(pods.into_iter().filter(|pod| pod.str_at(&["spec", "nodeName"]) == node).collect())
    }

    async fn has_pod(&self, target: &Target<'_>) -> Result<bool, Refused> {
        let found = self.lookup.get(PODS, target.namespace, target.name).await.map_err(|status| status.message)?;
        let Some(pod) = found else { return Ok(false) };
        let pod = tree(&pod).map_err(|status| status.message)?;
        Ok(pod.str_at(&["spec", "nodeName"]) == target.node)
    }

    async fn has_volume(&self, pod: &Value, volume: &str) -> Result<bool, Status> {
        for claim in references::claims(pod) {
            let found = self.lookup.get(CLAIMS, pod.str_at(&["metadata", "namespace"]), &claim).await?;
            let claim = found.map(|claim| tree(&claim)).transpose()?;
            if claim.is_some_and(|claim| claim.str_at(&["spec", "volumeName"]) == volume) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn is_volumes_secret(&self, target: &Target<'_>) -> Result<bool, Status> {
        for volume in self.lookup.list(VOLUMES).await? {
            let tree = tree(&volume)?;
            if !names_secret(&tree, target.namespace, target.name) {
                continue;
            }
            let claimed = tree.str_at(&["spec", "claimRef", "namespace"]);
            for pod in self.pods(target.node, claimed).await? {
                if self.has_volume(&pod, &volume.head.name).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl Authorizer for NodeAuthorizer {
    fn authorize<'a>(&'a self, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        Box::pin(async move {
            match self.decide(attributes).await {
                Ok(()) => Decision::Allow,
                Err(why) => Decision::NoOpinion(why),
            }
        })
    }
}

/// What a node wants to do.
struct Target<'a> {
    node: &'a str,
    verb: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

fn unrelated(node: &str) -> Refused {
    format!("no relationship found between node '{node}' and this object")
}

/// Its own object to read; what it writes, admission looks at.
fn of_node(target: &Target<'_>) -> Result<(), Refused> {
    let Target { node, name, .. } = target;
    match (target.subresource, target.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") if name == node => Ok(()),
        ("", "get" | "list" | "watch") if name.is_empty() => {
            Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => Err(format!("node '{node}' cannot read '{name}', only its own Node object")),
        _ => Err(String::new()),
    }
}

fn lease(target: &Target<'_>) -> Result<(), Refused> {
    if !matches!(target.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a node lease".to_owned());
    }
    if target.namespace != LEASES_NAMESPACE {
        return Err(format!("can only access leases in the {LEASES_NAMESPACE:?} system namespace"));
    }
    // The name of what is created is not known here; admission looks at it.
    if target.verb != "create" && target.name != target.node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

fn csi_node(target: &Target<'_>) -> Result<(), Refused> {
    if !matches!(target.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a CSINode".to_owned());
    }
    if !target.subresource.is_empty() {
        return Err("cannot authorize CSINode subresources".to_owned());
    }
    if target.verb != "create" && target.name != target.node {
        return Err("can only access CSINode with the same name as the requesting node".to_owned());
    }
    Ok(())
}

/// Whether a volume is mounted with a secret.
fn names_secret(volume: &Value, namespace: &str, name: &str) -> bool {
    let claimed = volume.str_at(&["spec", "claimRef", "namespace"]);
    let spec = volume.get("spec").and_then(Value::as_object).into_iter().flat_map(|spec| spec.values());
    let mut references = spec.filter_map(Value::as_object).flat_map(|source| source.iter());
    references.any(|(field, reference)| {
        let of = match reference.str_at(&["namespace"]) {
            "" => claimed,
            own => own,
        };
        (field == "secretRef" || field.ends_with("SecretRef")) && reference.str_at(&["name"]) == name && of == namespace
    })
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::fixture::Cluster;

    async fn ask(verb: &str, path: &str, namespace: &str, name: &str) -> Decision {
        let pod = |name: &str, node: &str, secret: &str| {
            value!({
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {
                    "nodeName": node, "serviceAccountName": name,
                    "volumes": [{"secret": {"secretName": secret}}, {"persistentVolumeClaim": {"claimName": "data"}}]
                }
            })
        };
        let claim = value!({"metadata": {"name": "data", "namespace": "shop"}, "spec": {"volumeName": "v1"}});
        let volume = value!({
            "metadata": {"name": "v1"},
            "spec": {"claimRef": {"namespace": "shop"}, "csi": {"nodeStageSecretRef": {"name": "key", "namespace": "vault"}}}
        });
        let cluster = Cluster(vec![
            (PODS, pod("here", "n1", "mine")),
            (PODS, pod("there", "n2", "theirs")),
            (CLAIMS, claim),
            (VOLUMES, volume),
        ]);
        let authorizer = NodeAuthorizer::new(Arc::new(cluster)).expect("the facts are readable");
        let user = User { name: "system:node:n1".into(), groups: vec![NODES_GROUP.into()], ..User::default() };
        let (group, resource) = path.split_once('/').expect("group and resource");
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let target = AuthzTarget::Resource { group, version: "v1", resource, subresource, namespace, name };
        authorizer.authorize(&Attributes { user: &user, verb, target }).await
    }

    #[tokio::test]
    async fn a_node_has_what_its_pods_need_and_no_more() {
        let no = || Decision::NoOpinion("no relationship found between node 'n1' and this object".to_owned());
        assert_eq!(ask("get", "/secrets", "shop", "mine").await, Decision::Allow);
        assert_eq!(ask("watch", "/secrets", "shop", "mine").await, Decision::Allow);
        assert_eq!(ask("get", "/secrets", "shop", "theirs").await, no());
        assert_eq!(ask("get", "/secrets", "ops", "mine").await, no());
        assert_eq!(ask("get", "/secrets", "vault", "key").await, Decision::Allow);
        assert_eq!(ask("get", "/persistentvolumes", "", "v1").await, Decision::Allow);
        assert_eq!(ask("get", "/persistentvolumes", "", "v2").await, no());
        assert_eq!(ask("create", "/serviceaccounts/token", "shop", "here").await, Decision::Allow);
        assert_eq!(ask("create", "/serviceaccounts/token", "shop", "there").await, no());
        assert_eq!(ask("get", "/pods", "shop", "here").await, Decision::Allow);
        assert_eq!(ask("get", "/pods", "shop", "there").await, no());
        let all = Decision::NoOpinion("No Object name found".to_owned());
        assert_eq!(ask("list", "/secrets", "shop", "").await, all);
        let write = Decision::NoOpinion("can only read resources of this type".to_owned());
        assert_eq!(ask("update", "/secrets", "shop", "mine").await, write);
    }

    #[tokio::test]
    async fn a_node_keeps_to_itself() {
        assert_eq!(ask("update", "coordination.k8s.io/leases", "kube-node-lease", "n1").await, Decision::Allow);
        assert_ne!(ask("update", "coordination.k8s.io/leases", "kube-node-lease", "n2").await, Decision::Allow);
        assert_eq!(ask("patch", "/nodes/status", "", "n1").await, Decision::Allow);
        assert_eq!(ask("get", "/nodes", "", "n1").await, Decision::Allow);
        let other = "node 'n1' cannot read 'n2', only its own Node object";
        assert_eq!(ask("get", "/nodes", "", "n2").await, Decision::NoOpinion(other.to_owned()));
        assert_eq!(ask("create", "/events", "shop", "").await, Decision::Allow);
        assert_eq!(ask("list", "/services", "", "").await, Decision::Allow);
        assert_ne!(ask("create", "/services", "shop", "").await, Decision::Allow);
    }
}
