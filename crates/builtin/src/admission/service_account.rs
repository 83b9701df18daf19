//! ServiceAccount: a pod runs as an account of its namespace, has that account's pull secrets, and finds its token, the
//! cluster's authority and its namespace in a volume.

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use corten_apiserver::registry::name_suffix;
use corten_stdx::random::Random;
use futures_core::future::BoxFuture;

use super::{forbidden, is};
use crate::lookup::{Lookup, PODS, tree};
use crate::rbac::rule::strings;
use crate::token::SERVICE_ACCOUNTS;

const DEFAULT: &str = "default";
const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

const VOLUME: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What the API server knows as the time of a token that programs may not know to read anew.
const TOKEN_S: i64 = 3607;
const MODE: i64 = 0o644;

/// A namespace's default account is made by a controller, which a pod that comes with the namespace waits for.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);

pub struct ServiceAccount {
    lookup: Arc<dyn Lookup>,
    random: Random,
}

impl ServiceAccount {
    pub fn new(lookup: Arc<dyn Lookup>, random: Random) -> Self {
        Self { lookup, random }
    }

    async fn admit(&self, request: &mut AdmissionRequest) -> Result<(), Status> {
        if is_mirror(&request.object) {
            return Ok(());
        }
        let pod = &mut request.object;
        if pod.str_at(&["spec", "serviceAccountName"]).is_empty() {
            pod.object_entry("spec").insert("serviceAccountName", DEFAULT);
        }
        // The field's former name says the same.
        let name = pod.str_at(&["spec", "serviceAccountName"]).to_owned();
        pod.object_entry("spec").insert("serviceAccount", name.as_str());
        let account = self.account(request, &name).await?;
        let pod = &mut request.object;
        if mounts_token(&account, pod) {
            mount_token(pod, || format!("{VOLUME}{}", name_suffix(&self.random)));
        }
        if list(pod, &["spec", "imagePullSecrets"]).is_empty() {
            let secrets = list(&account, &["imagePullSecrets"]).to_vec();
            if !secrets.is_empty() {
                pod.object_entry("spec").insert("imagePullSecrets", secrets);
            }
        }
        Ok(())
    }

    async fn check(&self, request: &AdmissionRequest) -> Result<(), Status> {
        let pod = &request.object;
        if is_mirror(pod) && request.operation == Operation::Create {
            return mirror(pod).map_err(|why| forbidden(request, why));
        }
        let name = pod.str_at(&["spec", "serviceAccountName"]);
        if name.is_empty() {
            let own = pod.str_at(&["metadata", "name"]);
            let why = format!("no service account specified for pod {}/{own}", request.namespace);
            return Err(forbidden(request, &why));
        }
        let account = self.account(request, name).await?;
        if account.str_at(&["metadata", "annotations", ENFORCE]) != "true" {
            return Ok(());
        }
        let refused = match request.subresource.as_str() {
            "" => only_own_secrets(pod, &account),
            _ => containers(pod, "ephemeralContainers", "ephemeral container", &account),
        };
        refused.map_err(|why| forbidden(request, &why))
    }

    async fn account(&self, request: &AdmissionRequest, name: &str) -> Result<Value, Status> {
        let namespace = request.namespace.as_str();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            match self.lookup.get(SERVICE_ACCOUNTS, namespace, name).await {
                Ok(Some(account)) => return tree(&account),
                Ok(None) if name == DEFAULT => {}
                Ok(None) => break,
                Err(status) => return Err(forbidden(request, &unknown(namespace, name, &status.message))),
            }
        }
        let absent = format!("serviceaccount {name:?} not found");
        Err(forbidden(request, &unknown(namespace, name, &absent)))
    }
}

impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if concerns(request) && request.subresource.is_empty() && request.operation == Operation::Create {
                self.admit(request).await?;
            }
            self.validate(request).await
        })
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { if concerns(request) { self.check(request).await } else { Ok(()) } })
    }
}

/// Creates of pods, and updates that add containers.
fn concerns(request: &AdmissionRequest) -> bool {
    let asked = (request.operation, request.subresource.as_str());
    is(request, PODS) && matches!(asked, (Operation::Create, "") | (Operation::Update, "ephemeralcontainers"))
}

fn unknown(namespace: &str, name: &str, why: &str) -> String {
    format!("error looking up service account {namespace}/{name}: {why}")
}

fn is_mirror(pod: &Value) -> bool {
    pod.at(&["metadata", "annotations", MIRROR]).is_some()
}

fn list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    object.at(path).and_then(Value::as_array).unwrap_or_default()
}

/// A static pod has no account to act for it.
fn mirror(pod: &Value) -> Result<(), &'static str> {
    if !pod.str_at(&["spec", "serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if !secrets(pod).is_empty() {
        return Err("a mirror pod may not reference secrets");
    }
    let mut sources = list(pod, &["spec", "volumes"]).iter().flat_map(|volume| list(volume, &["projected", "sources"]));
    match sources.any(|source| source.get("serviceAccountToken").is_some()) {
        true => Err("a mirror pod may not use ServiceAccountToken volume projections"),
        false => Ok(()),
    }
}

/// The names of all secrets that a pod refers to.
pub(crate) fn secrets(pod: &Value) -> Vec<&str> {
    let mut names = super::references::names(pod, "secretKeyRef", "secretRef");
    for volume in list(pod, &["spec", "volumes"]) {
        names.push(volume.str_at(&["secret", "secretName"]));
        names.extend(list(volume, &["projected", "sources"]).iter().map(|source| source.str_at(&["secret", "name"])));
        for source in super::references::SECRET_VOLUMES {
            names.push(volume.str_at(&[source, "secretRef", "name"]));
        }
        names.push(volume.str_at(&["azureFile", "secretName"]));
        names.push(volume.str_at(&["csi", "nodePublishSecretRef", "name"]));
    }
    names.extend(list(pod, &["spec", "imagePullSecrets"]).iter().map(|secret| secret.str_at(&["name"])));
    names.retain(|name| !name.is_empty());
    names
}

/// The pod's word counts, then its account's.
fn mounts_token(account: &Value, pod: &Value) -> bool {
    let field = "automountServiceAccountToken";
    let said = pod.at(&["spec", field]).and_then(Value::as_bool);
    said.or_else(|| account.get(field).and_then(Value::as_bool)).unwrap_or(true)
}

/// Adds the volume, and mounts it in every container that has nothing at its place.
fn mount_token(pod: &mut Value, new_name: impl FnOnce() -> String) {
    let volumes = list(pod, &["spec", "volumes"]).iter();
    let existing = volumes.map(|volume| volume.str_at(&["name"])).find(|name| name.starts_with(VOLUME));
    let existing = existing.map(str::to_owned);
    let is_new = existing.is_none();
    let name = existing.unwrap_or_else(new_name);
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        let containers = pod.at_mut(&["spec", field]).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let taken = list(container, &["volumeMounts"]).iter().any(|own| own.str_at(&["mountPath"]) == MOUNT_PATH);
            if !taken {
                let mount = value!({"name": (name.as_str()), "readOnly": true, "mountPath": MOUNT_PATH});
                append(container, "volumeMounts", mount);
                mounted = true;
            }
        }
    }
    if let Some(spec) = pod.get_mut("spec").filter(|_| is_new && mounted) {
        append(spec, "volumes", volume(&name));
    }
}

fn append(object: &mut Value, field: &str, item: Value) {
    match object.get_mut(field).and_then(Value::as_array_mut) {
        Some(items) => items.push(item),
        None => drop(object.as_object_mut().map(|object| object.insert(field, vec![item]))),
    }
}

fn volume(name: &str) -> Value {
    let token = value!({"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_S}});
    let authority = value!({"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}});
    let field = value!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
    let namespace = value!({"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}});
    let projected = value!({"defaultMode": MODE, "sources": [token, authority, namespace]});
    value!({"name": name, "projected": projected})
}

/// An account that asks for it lets its pods refer to no secrets but its own.
fn only_own_secrets(pod: &Value, account: &Value) -> Result<(), String> {
    let own: Vec<Str> = names(account, "secrets");
    let of = account.str_at(&["metadata", "name"]);
    for volume in list(pod, &["spec", "volumes"]) {
        let secret = volume.str_at(&["secret", "secretName"]);
        if volume.get("secret").is_some() && !own.iter().any(|own| own == secret) {
            return Err(format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account {of} does not \
                 reference that secret"
            ));
        }
    }
    containers(pod, "initContainers", "init container", account)?;
    containers(pod, "containers", "container", account)?;
    let pulling = names(account, "imagePullSecrets");
    for (index, secret) in list(pod, &["spec", "imagePullSecrets"]).iter().enumerate() {
        let name = secret.str_at(&["name"]);
        if !pulling.iter().any(|own| own == name) {
            return Err(format!(
                "imagePullSecrets[{index}].name=\"{name}\" is not allowed because service account {of} does not \
                 reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

fn names(account: &Value, field: &str) -> Vec<Str> {
    let names: Vec<Value> = list(account, &[field]).iter().filter_map(|secret| secret.get("name").cloned()).collect();
    strings(Some(&Value::Array(names)))
}

fn containers(pod: &Value, field: &str, what: &str, account: &Value) -> Result<(), String> {
    let own = names(account, "secrets");
    let refused = |how: String, secret: &str| {
        let of = account.str_at(&["metadata", "name"]);
        Err(format!(
            "{how} referencing secret.secretName=\"{secret}\" is not allowed because service account {of} does not \
             reference that secret"
        ))
    };
    for container in list(pod, &["spec", field]) {
        let name = container.str_at(&["name"]);
        for env in list(container, &["env"]) {
            let secret = env.str_at(&["valueFrom", "secretKeyRef", "name"]);
            let refers = env.at(&["valueFrom", "secretKeyRef"]).is_some();
            if refers && !own.iter().any(|own| own == secret) {
                return refused(format!("{what} {name} with envVar {}", env.str_at(&["name"])), secret);
            }
        }
        for from in list(container, &["envFrom"]) {
            let secret = from.str_at(&["secretRef", "name"]);
            if from.get("secretRef").is_some() && !own.iter().any(|own| own == secret) {
                return refused(format!("{what} {name} with envFrom"), secret);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::json;

    use super::*;
    use crate::fixture::{Cluster, request};
    use crate::lookup::Resource;

    fn account(name: &str, more: Value) -> (Resource, Value) {
        let mut account = value!({"metadata": {"name": name, "annotations": {}}});
        account.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        (SERVICE_ACCOUNTS, account)
    }

    async fn admit(accounts: Vec<(Resource, Value)>, spec: Value) -> Result<Value, String> {
        let plugin = ServiceAccount::new(Arc::new(Cluster(accounts)), Random::seeded(1));
        let pod = value!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec});
        let mut request = request(PODS, Operation::Create, "ns", pod);
        plugin.mutate(&mut request).await.map_err(|status| status.message)?;
        Ok(request.object.get("spec").cloned().expect("a spec"))
    }

    #[tokio::test]
    async fn a_pod_gets_its_token_as_upstream_gives_it() {
        let accounts = || vec![account("default", value!({"imagePullSecrets": [{"name": "pull"}]}))];
        let spec = value!({"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"mountPath": MOUNT_PATH}]}]});
        let pod = admit(accounts(), spec).await.expect("admitted");
        let name = pod.at(&["volumes"]).expect("volumes").as_array().expect("a list")[0].str_at(&["name"]).to_owned();
        assert!(name.len() == VOLUME.len() + 5 && name.starts_with(VOLUME), "{name}");
        let expected = format!(
            r#"{{"containers":[{{"name":"a","volumeMounts":[{{"name":"{name}","readOnly":true,"mountPath":"{MOUNT_PATH}"}}]}},{{"name":"b","volumeMounts":[{{"mountPath":"{MOUNT_PATH}"}}]}}],"serviceAccountName":"default","serviceAccount":"default","volumes":[{{"name":"{name}","projected":{{"defaultMode":420,"sources":[{{"serviceAccountToken":{{"path":"token","expirationSeconds":3607}}}},{{"configMap":{{"name":"kube-root-ca.crt","items":[{{"key":"ca.crt","path":"ca.crt"}}]}}}},{{"downwardAPI":{{"items":[{{"path":"namespace","fieldRef":{{"apiVersion":"v1","fieldPath":"metadata.namespace"}}}}]}}}}]}}}}],"imagePullSecrets":[{{"name":"pull"}}]}}"#
        );
        assert_eq!(json::to_string(&pod), expected);
        let again = admit(accounts(), pod.clone()).await.expect("admitted");
        assert_eq!(again, pod, "a pod that has its volume gets no second one");
        let without = admit(accounts(), value!({"automountServiceAccountToken": false, "containers": [{"name": "a"}]}));
        assert_eq!(without.await.expect("admitted").get("volumes"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_that_is_not_there_is_named() {
        let pod = || value!({"serviceAccountName": "web", "containers": [{"name": "a"}]});
        let text = r#"pods "p" is forbidden: error looking up service account ns/web: serviceaccount "web" not found"#;
        assert_eq!(admit(Vec::new(), pod()).await, Err(text.to_owned()));
        let text =
            r#"pods "p" is forbidden: error looking up service account ns/default: serviceaccount "default" not found"#;
        assert_eq!(admit(Vec::new(), value!({})).await, Err(text.to_owned()));
    }

    #[tokio::test]
    async fn an_account_may_keep_its_pods_to_its_own_secrets() {
        let strict = || {
            let metadata =
                value!({"name": "default", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}});
            vec![account("default", value!({"metadata": metadata, "secrets": [{"name": "own"}]}))]
        };
        let volume = |secret: &str| value!({"volumes": [{"name": "v", "secret": {"secretName": secret}}]});
        assert!(admit(strict(), volume("own")).await.is_ok());
        let text = "volume with secret.secretName=\"other\" is not allowed because service account default does not reference that secret";
        assert_eq!(admit(strict(), volume("other")).await, Err(format!("pods \"p\" is forbidden: {text}")));
        let from = value!({"containers": [{"name": "a", "envFrom": [{"secretRef": {"name": "other"}}]}]});
        let refused = admit(strict(), from).await.expect_err("refused");
        assert!(refused.contains("container a with envFrom referencing secret.secretName=\"other\""), "{refused}");
    }
}
