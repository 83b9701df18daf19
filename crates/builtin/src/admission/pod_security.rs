//! PodSecurity: what the labels of a namespace allow its pods (`pod-security.kubernetes.io/…`): a level that is
//! enforced and one of which its users are warned, each as it was in some version.

mod checks;
mod policy;

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use futures_core::future::BoxFuture;

use super::{forbidden, is};
use crate::lookup::{Lookup, NAMESPACES, PODS, Resource, tree};
use checks::{Subject, violations};
use policy::{Level, Policy};

/// Subresources that say nothing of what a pod may do.
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// Kinds with a template, and where it is.
const TEMPLATES: [(Resource, &[&str]); 8] = [
    (Resource { group: "", plural: "podtemplates" }, &["template"]),
    (Resource { group: "", plural: "replicationcontrollers" }, &["spec", "template"]),
    (Resource { group: "apps", plural: "replicasets" }, &["spec", "template"]),
    (Resource { group: "apps", plural: "deployments" }, &["spec", "template"]),
    (Resource { group: "apps", plural: "statefulsets" }, &["spec", "template"]),
    (Resource { group: "apps", plural: "daemonsets" }, &["spec", "template"]),
    (Resource { group: "batch", plural: "jobs" }, &["spec", "template"]),
    (Resource { group: "batch", plural: "cronjobs" }, &["spec", "jobTemplate", "spec", "template"]),
];

pub struct PodSecurity {
    lookup: Arc<dyn Lookup>,
}

impl PodSecurity {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    async fn check(&self, request: &mut AdmissionRequest) -> Result<(), Status> {
        if is(request, NAMESPACES) {
            return if request.subresource.is_empty() { self.namespace(request).await } else { Ok(()) };
        }
        if is(request, PODS) {
            let ignored = IGNORED.contains(&request.subresource.as_str());
            let old = request.old.as_deref().filter(|_| request.operation == Operation::Update);
            if ignored || old.is_some_and(|old| !matters(&request.object, old)) {
                return Ok(());
            }
            let policy = self.policy(request).await?;
            return evaluate(request, &[], &policy, true);
        }
        let template = TEMPLATES.iter().find(|(resource, _)| is(request, *resource)).map(|(_, path)| *path);
        match template.filter(|_| request.subresource.is_empty()) {
            Some(path) if request.object.at(path).is_some() => {
                let policy = self.policy(request).await?;
                evaluate(request, path, &policy, false)
            }
            _ => Ok(()),
        }
    }

    async fn policy(&self, request: &AdmissionRequest) -> Result<Policy, Status> {
        match self.lookup.get(NAMESPACES, "", &request.namespace).await? {
            Some(namespace) => Ok(Policy::of(&tree(&namespace)?).0),
            None => Err(Status::internal(format_args!("failed to lookup namespace {:?}", request.namespace))),
        }
    }

    /// Labels have to be readable; pods that a stricter level would refuse are named.
    async fn namespace(&self, request: &mut AdmissionRequest) -> Result<(), Status> {
        let (new, errors) = Policy::of(&request.object);
        let old = request.old.as_deref().filter(|_| request.operation == Operation::Update).map(Policy::of);
        let known = old.as_ref().is_some_and(|(_, known)| {
            let texts = |errors: &corten_apimachinery::field::FieldErrors| -> Vec<String> {
                errors.iter().map(ToString::to_string).collect()
            };
            texts(known) == texts(&errors)
        });
        if !errors.is_empty() && !known {
            return Err(Status::invalid("", "Namespace", &request.name, &errors));
        }
        let Some((old, _)) = old else { return Ok(()) };
        let relaxed = new.enforce.version == old.enforce.version && new.enforce.level <= old.enforce.level;
        if new.enforce == old.enforce || new.enforce.level == Level::Privileged || relaxed {
            return Ok(());
        }
        let told = self.existing(&request.name, &new).await?;
        request.warnings.extend(told);
        Ok(())
    }

    async fn existing(&self, namespace: &str, policy: &Policy) -> Result<Vec<String>, Status> {
        let all = self.lookup.list(PODS).await?;
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in all.iter().filter(|pod| pod.head.namespace == namespace) {
            let tree = tree(pod)?;
            let violated = violations(&Subject::of(&tree), policy.enforce);
            if !violated.is_empty() {
                let reasons: Vec<&str> = violated.iter().map(|violation| violation.reason.as_str()).collect();
                found.entry(reasons.join(", ")).or_default().push(pod.head.name.to_string());
            }
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let enforce = policy.enforce;
        let mut told: Vec<String> = found
            .into_iter()
            .map(|(reasons, mut names)| {
                names.sort();
                match names.len() {
                    1 => format!("{}: {reasons}", names[0]),
                    2 => format!("{} (and 1 other pod): {reasons}", names[0]),
                    many => format!("{} (and {} other pods): {reasons}", names[0], many - 1),
                }
            })
            .collect();
        told.sort();
        let first =
            format!("existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\"");
        told.insert(0, first);
        Ok(told)
    }
}

impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.check(request))
    }
}

/// `template`: where the pod is in the object. Templates are never refused, their pods are.
fn evaluate(request: &mut AdmissionRequest, template: &[&str], policy: &Policy, enforce: bool) -> Result<(), Status> {
    let pod = if template.is_empty() { Some(&request.object) } else { request.object.at(template) };
    let Some(pod) = pod else { return Ok(()) };
    let subject = Subject::of(pod);
    let told = |violated: &[checks::Violation]| violated.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if enforce {
        let violated = violations(&subject, policy.enforce);
        if !violated.is_empty() {
            let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, told(&violated));
            return Err(forbidden(request, &why));
        }
    }
    let warned = violations(&subject, policy.warn);
    if !warned.is_empty() {
        let warning = format!("would violate PodSecurity \"{}\": {}", policy.warn, told(&warned));
        request.warnings.push(warning);
    }
    Ok(())
}

/// Whether an update changes what containers there are, or what they run.
fn matters(pod: &Value, old: &Value) -> bool {
    let images = |pod: &Value, field: &str| -> Vec<(String, String)> {
        let containers = pod.at(&["spec", field]).and_then(Value::as_array).unwrap_or_default();
        let text = |container: &Value, field: &str| container.str_at(&[field]).to_owned();
        containers.iter().map(|container| (text(container, "name"), text(container, "image"))).collect()
    };
    let (added, known) = (images(pod, "ephemeralContainers"), images(old, "ephemeralContainers"));
    ["containers", "initContainers"].iter().any(|field| images(pod, field) != images(old, field))
        || added.iter().any(|container| !known.contains(container))
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::fixture::{Cluster, request};

    fn namespace(labels: Value) -> Value {
        value!({"metadata": {"name": "ns", "labels": labels}})
    }

    async fn admit(labels: Value, resource: Resource, object: Value) -> (Result<(), String>, Vec<String>) {
        let plugin = PodSecurity::new(Arc::new(Cluster(vec![(NAMESPACES, namespace(labels))])));
        let mut request = request(resource, Operation::Create, "ns", object);
        let admitted = plugin.validate(&mut request).await.map_err(|status| status.message);
        (admitted, request.warnings)
    }

    fn pod(spec: Value) -> Value {
        value!({"metadata": {"name": "p"}, "spec": spec})
    }

    #[tokio::test]
    async fn a_level_is_enforced_with_upstreams_text() {
        let baseline = value!({"pod-security.kubernetes.io/enforce": "baseline"});
        let spec =
            value!({"hostNetwork": true, "containers": [{"name": "a", "securityContext": {"privileged": true}}]});
        let (refused, _) = admit(baseline.clone(), PODS, pod(spec.clone())).await;
        let text = r#"pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true), privileged (container "a" must not set securityContext.privileged=true)"#;
        assert_eq!(refused, Err(text.to_owned()));
        assert_eq!(admit(value!({}), PODS, pod(spec)).await, (Ok(()), Vec::new()));
        let (plain, warned) = admit(baseline, PODS, pod(value!({"containers": [{"name": "a"}]}))).await;
        assert_eq!((plain, warned), (Ok(()), Vec::new()));
    }

    #[tokio::test]
    async fn templates_are_warned_about() {
        let restricted = value!({"pod-security.kubernetes.io/enforce": "restricted"});
        let deployment = value!({"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}});
        let (admitted, warned) = admit(restricted, TEMPLATES[3].0, deployment).await;
        assert_eq!(admitted, Ok(()));
        let text = r#"would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#;
        assert_eq!(warned, [text]);
    }

    #[tokio::test]
    async fn labels_have_to_be_readable() {
        let plugin = PodSecurity::new(Arc::new(Cluster::default()));
        let labels =
            value!({"pod-security.kubernetes.io/enforce": "strict", "pod-security.kubernetes.io/warn-version": "1"});
        let mut create = request(NAMESPACES, Operation::Create, "", namespace(labels.clone()));
        let refused = plugin.validate(&mut create).await.expect_err("refused").message;
        let text = r#"Namespace "ns" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "1": must be "latest" or "v1.x"]"#;
        assert_eq!(refused, text);
        let mut update = request(NAMESPACES, Operation::Update, "", namespace(labels.clone()));
        update.old = Some(Arc::new(namespace(labels)));
        assert_eq!(plugin.validate(&mut update).await, Ok(()), "what was there already may stay");
    }

    #[tokio::test]
    async fn a_stricter_level_names_the_pods_that_it_would_refuse() {
        let pods = ["b", "a"].map(|name| {
            let spec = value!({"hostPID": true, "containers": [{"name": "c"}]});
            (PODS, value!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec}))
        });
        let plugin = PodSecurity::new(Arc::new(Cluster(pods.into())));
        let labels = value!({"pod-security.kubernetes.io/enforce": "baseline"});
        let mut update = request(NAMESPACES, Operation::Update, "", namespace(labels));
        update.old = Some(Arc::new(namespace(value!({}))));
        plugin.validate(&mut update).await.expect("allowed");
        let text = r#"existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest""#;
        assert_eq!(update.warnings, [text, "a (and 1 other pod): host namespaces"]);
    }
}
