//! `corten why OBJECT`: the fact that blocks an object, and the command that helps. Everything is read from the Kubernetes API and
//! judged by pure functions, one file a kind.

mod claim;
pub(crate) mod finding;
mod ingress;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod notifier;
pub(crate) mod pod;
mod read;
pub(crate) mod service;
mod workload;

use anyhow::Context as _;
use clap::Args;
use corten_client::Resource;

use self::finding::Finding;
use self::read::Reader;
use crate::connect::{Session, Target, refused};
use crate::option::Output;

#[derive(Debug, Args)]
pub struct Why {
    #[command(flatten)]
    target: Target,
    /// What to look at, as kubectl names it: pod/web, service/web, ingress/web, pvc/data, namespace/shop, deployment/web, node/one,
    /// notifier/ops.
    #[arg(value_name = "KIND/NAME", num_args = 1..=2, required = true)]
    object: Vec<String>,
    /// How to print the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// A kind that can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Pod,
    Service,
    Ingress,
    Claim,
    Namespace,
    Node,
    Notifier,
    /// By its singular name.
    Workload(&'static str),
}

pub(crate) const NOTIFIERS: Resource = Resource::new("corten.dev", "v1alpha1", "notifiers");

/// Names by which kubectl knows the kinds, the singular first.
static KINDS: [(&[&str], Kind, Resource); 12] = [
    (&["pod", "pods", "po"], Kind::Pod, Resource::new("", "v1", "pods")),
    (&["service", "services", "svc"], Kind::Service, Resource::new("", "v1", "services")),
    (&["ingress", "ingresses", "ing"], Kind::Ingress, Resource::new("networking.k8s.io", "v1", "ingresses")),
    (
        &["pvc", "persistentvolumeclaim", "persistentvolumeclaims"],
        Kind::Claim,
        Resource::new("", "v1", "persistentvolumeclaims"),
    ),
    (&["namespace", "namespaces", "ns"], Kind::Namespace, Resource::new("", "v1", "namespaces")),
    (&["node", "nodes", "no"], Kind::Node, Resource::new("", "v1", "nodes")),
    (&["notifier", "notifiers"], Kind::Notifier, NOTIFIERS),
    (
        &["deployment", "deployments", "deploy"],
        Kind::Workload("deployment"),
        Resource::new("apps", "v1", "deployments"),
    ),
    (&["replicaset", "replicasets", "rs"], Kind::Workload("replicaset"), Resource::new("apps", "v1", "replicasets")),
    (
        &["statefulset", "statefulsets", "sts"],
        Kind::Workload("statefulset"),
        Resource::new("apps", "v1", "statefulsets"),
    ),
    (&["daemonset", "daemonsets", "ds"], Kind::Workload("daemonset"), Resource::new("apps", "v1", "daemonsets")),
    (&["job", "jobs"], Kind::Workload("job"), Resource::new("batch", "v1", "jobs")),
];

/// An object as the user has named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) kind: Kind,
    pub(crate) resource: Resource,
    /// The kind's name in the answer.
    pub(crate) word: &'static str,
    pub(crate) name: String,
}

impl Named {
    /// `pod/web`, or `pod` and `web`.
    fn parse(words: &[String]) -> anyhow::Result<Self> {
        let (kind, name) = match words {
            [both] => both.split_once('/').unwrap_or((both, "")),
            [kind, name] => (kind.as_str(), name.as_str()),
            _ => ("", ""),
        };
        anyhow::ensure!(!name.is_empty(), "which one? name it as {kind}/NAME");
        // `deployment.apps/web` is what kubectl prints.
        let plain = kind.split('.').next().unwrap_or_default().to_lowercase();
        let found = KINDS.iter().find(|(names, ..)| names.contains(&plain.as_str()));
        let (names, kind, resource) = found.with_context(|| {
            let known: Vec<&str> = KINDS.iter().map(|(names, ..)| names[0]).collect();
            format!("nothing is known of {kind:?}; it explains {}; for others use `kubectl describe`", known.join(", "))
        })?;
        Ok(Self { kind: *kind, resource: resource.clone(), word: names[0], name: name.to_owned() })
    }

    /// Whether it stands in a namespace.
    pub(crate) fn namespaced(&self) -> bool {
        !matches!(self.kind, Kind::Namespace | Kind::Node)
    }
}

/// Says what blocks the object.
///
/// # Errors
/// When the object is not there, or the cluster does not answer.
pub fn run(why: &Why) -> anyhow::Result<()> {
    let named = Named::parse(&why.object)?;
    why.target.with(async |session| {
        let found = answer(&session, &named).await?;
        match why.output {
            Output::Text => print!("{}", text(&named, &session.namespace, &found)),
            Output::Json => println!("{}", serde_json::to_string_pretty(&json(&named, &session.namespace, &found))?),
        }
        Ok(())
    })
}

async fn answer(session: &Session, named: &Named) -> anyhow::Result<Vec<Finding>> {
    let namespace = if named.namespaced() { session.namespace.as_str() } else { "" };
    let object = match session.client.get(&named.resource, namespace, &named.name).await {
        Err(error) if error.is_not_found() => {
            let place = if namespace.is_empty() { String::new() } else { format!(" in the namespace {namespace}") };
            let list = if namespace.is_empty() { String::new() } else { " -A".to_owned() };
            anyhow::bail!(
                "there is no {} {}{place}; `kubectl get {}{list}` shows those there are",
                named.word,
                named.name,
                named.word
            )
        }
        other => other.context(refused())?,
    };
    Reader { client: &session.client, namespace, now_s: session.clock.wall_s() }
        .explain(named, &object)
        .await
        .context(refused())
}

fn text(named: &Named, namespace: &str, found: &[Finding]) -> String {
    let place = if named.namespaced() { format!(" in {namespace}") } else { String::new() };
    let head = format!("{}/{}{place}", named.word, named.name);
    if found.is_empty() {
        return format!("{head}: nothing blocks it\n");
    }
    let mut out = format!("{head}:\n");
    for finding in found {
        out.push('\n');
        for (number, line) in finding.fact.lines().enumerate() {
            let mark = if number == 0 { "  - " } else { "      " };
            out.push_str(&format!("{mark}{line}\n"));
        }
        for (number, command) in finding.next.iter().enumerate() {
            let mark = if number == 0 { "    next: " } else { "          " };
            out.push_str(&format!("{mark}{command}\n"));
        }
    }
    out
}

fn json(named: &Named, namespace: &str, found: &[Finding]) -> serde_json::Value {
    let findings: Vec<serde_json::Value> =
        found.iter().map(|finding| serde_json::json!({"fact": finding.fact, "next": finding.next})).collect();
    let namespace = if named.namespaced() { namespace } else { "" };
    serde_json::json!({"kind": named.word, "name": named.name, "namespace": namespace, "findings": findings})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], expect: Result<(&str, &str), &str>) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let parsed = Named::parse(&words);
        match expect {
            Ok((word, name)) => {
                let named = parsed.expect("understood");
                assert_eq!((named.word, named.name.as_str()), (word, name));
            }
            Err(text) => assert!(parsed.expect_err("refused").to_string().contains(text)),
        }
    }

    #[test]
    fn objects_are_named_as_with_kubectl() {
        check(&["pod/web"], Ok(("pod", "web")));
        check(&["po", "web"], Ok(("pod", "web")));
        check(&["deployment.apps/web"], Ok(("deployment", "web")));
        check(&["PersistentVolumeClaims/data"], Ok(("pvc", "data")));
        check(&["pod"], Err("name it as pod/NAME"));
        check(&["pod/"], Err("name it as pod/NAME"));
        check(&["widget/a"], Err("it explains pod, service"));
    }

    #[test]
    fn the_answer_reads_well() {
        let named = Named::parse(&["svc/web".to_owned()]).expect("understood");
        assert_eq!(text(&named, "shop", &[]), "service/web in shop: nothing blocks it\n");
        let found = [Finding::new("it is ill\nvery").then("look").then("help"), Finding::new("and old").then("wait")];
        let expected = "\
service/web in shop:

  - it is ill
      very
    next: look
          help

  - and old
    next: wait
";
        assert_eq!(text(&named, "shop", &found), expected);
        assert_eq!(json(&named, "shop", &found)["findings"][1]["next"][0], "wait");
    }
}
