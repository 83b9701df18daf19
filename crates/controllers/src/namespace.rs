//! Empties a namespace that is being deleted, pods first, then everything else that discovery knows, and lets it go when
//! nothing is left. What holds it up stands in its conditions (`pkg/controller/namespace/deletion`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::kind::Propagation;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::Key;
use corten_client::controller::{Controller, Next};
use corten_client::discovery::Served;
use corten_client::error::unless_gone;
use corten_client::informer::Scope;
use corten_client::{Client, Delete, Error, Resource, Select};
use corten_stdx::clock::Clock;

use crate::Base;

pub const NAMESPACES: Resource = Resource::new("", "v1", "namespaces");
const PODS: Resource = Resource::new("", "v1", "pods");

/// The finalizer that is this controller's.
const FINALIZER: &str = "kubernetes";

/// Bounds of the pause between two looks at what remains.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(8));

/// Objects a page of what remains.
const PAGE: usize = 500;

struct Context {
    client: Client,
    clock: Clock,
}

pub fn controller(base: &Base) -> Controller {
    let context = Context { client: (base.client_of)("namespace-controller"), clock: base.clock.clone() };
    let namespaces = base.informers.of::<()>(Scope::metadata(NAMESPACES));
    Controller::new("namespace", Arc::new(context), reconcile).watches_for(&namespaces, |held| {
        if held.head.deleting { vec![Key::new("", held.head.name.clone())] } else { Vec::new() }
    })
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(namespace) = unless_gone(ctx.client.get(&NAMESPACES, "", &key.name).await)? else {
        return Ok(Next::Change);
    };
    if Meta::of(&namespace).deletion_timestamp().is_none() || !is_ours(&namespace) {
        return Ok(Next::Change);
    }
    let now_s = ctx.clock.now_s();
    let found = ctx.empty(&key.name, now_s - deleted_s(&namespace)).await?;
    let plan = plan(&namespace, &found, now_s);
    let mut current = namespace;
    if let Some(status) = plan.status {
        current = match unless_gone(ctx.client.update(&NAMESPACES, "status", &status).await)? {
            Some(written) => written,
            None => return Ok(Next::Change),
        };
    }
    if plan.release {
        unless_gone(ctx.client.update(&NAMESPACES, "finalize", &without_finalizer(current)).await)?;
    }
    Ok(plan.next)
}

impl Context {
    /// Deletes what there is, and tells what is left.
    async fn empty(&self, namespace: &str, since_s: i64) -> Result<Found, Error> {
        let discovered = self.client.discover().await?;
        let mut found = Found { stale: discovered.stale, ..Found::default() };
        let (pods, others): (Vec<_>, Vec<_>) = discovered
            .served
            .into_iter()
            .filter(|served| served.namespaced && served.can("delete"))
            .partition(|served| served.resource == PODS);
        for served in &pods {
            found.note(self.empty_of(served, namespace).await, served, since_s);
        }
        found.pods_remain = found.remaining.values().any(|count| *count > 0);
        if !found.pods_remain {
            for served in &others {
                found.note(self.empty_of(served, namespace).await, served, since_s);
            }
        }
        Ok(found)
    }

    /// Deletes all objects of a kind; gives the metadata of those that are still there.
    async fn empty_of(&self, served: &Served, namespace: &str) -> Result<Vec<Value>, Error> {
        let resource = &served.resource;
        if !served.can("list") {
            return Ok(Vec::new());
        }
        let left = self.left(resource, namespace).await?;
        if left.is_empty() {
            return Ok(left);
        }
        let background = Delete { propagation: Some(Propagation::Background), ..Delete::default() };
        if served.can("deletecollection") {
            unless_gone(self.client.delete_collection(resource, namespace, &Select::default(), &background).await)?;
        } else {
            for object in &left {
                let meta = Meta::of(object);
                let exactly = Delete { uid: Some(meta.uid().into()), ..background.clone() };
                unless_gone(self.client.delete(resource, namespace, meta.name(), &exactly).await)?;
            }
        }
        self.left(resource, namespace).await
    }

    async fn left(&self, resource: &Resource, namespace: &str) -> Result<Vec<Value>, Error> {
        let mut select = Select { metadata_only: true, limit: PAGE, ..Select::default() };
        let mut left = Vec::new();
        loop {
            // A kind may go while its objects are being deleted.
            let Some(page) = unless_gone(self.client.list(resource, namespace, &select).await)? else {
                return Ok(left);
            };
            left.extend(page.items);
            if page.continue_token.is_empty() {
                return Ok(left);
            }
            select.continue_token = page.continue_token;
        }
    }
}

/// What an attempt to empty a namespace has found.
#[derive(Debug, Default)]
struct Found {
    /// Group versions that discovery could not ask.
    stale: Vec<String>,
    /// Objects left, by `plural.group`.
    remaining: BTreeMap<String, usize>,
    finalizers: BTreeMap<Str, usize>,
    failures: Vec<String>,
    pods_remain: bool,
}

impl Found {
    fn note(&mut self, left: Result<Vec<Value>, Error>, served: &Served, since_s: i64) {
        let resource = &served.resource;
        let left = match left {
            Ok(left) => left,
            Err(error) => return self.failures.push(error.to_string()),
        };
        if left.is_empty() {
            return;
        }
        self.remaining.insert(format!("{}.{}", resource.plural, resource.group), left.len());
        let (mut patience_s, mut held) = (0, false);
        for object in &left {
            let meta = Meta::of(object);
            patience_s = patience_s.max(meta.deletion_grace_period_seconds().unwrap_or_default());
            for finalizer in meta.finalizers() {
                *self.finalizers.entry(finalizer.into()).or_default() += 1;
                held = true;
            }
        }
        if since_s > patience_s && !held {
            let Resource { group, version, plural } = resource;
            let namespace = Meta::of(&left[0]).namespace();
            self.failures.push(format!(
                "unexpected items still remain in namespace: {namespace} for gvr: {group}/{version}, Resource={plural}"
            ));
        }
    }
}

/// What is to be done next.
#[derive(Debug, PartialEq)]
struct Plan {
    /// The namespace with its new conditions, where they differ.
    status: Option<Value>,
    /// Nothing is left: this controller lets go.
    release: bool,
    next: Next,
}

fn plan(namespace: &Value, found: &Found, now_s: i64) -> Plan {
    let mut conditions = namespace.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default().to_vec();
    let mut changed = namespace.str_at(&["status", "phase"]) != "Terminating";
    for (kind, ok, trouble) in conditions_of(found) {
        changed |= set_condition(&mut conditions, kind, ok, trouble, now_s);
    }
    let status = changed.then(|| {
        let mut namespace = namespace.clone();
        let status = namespace.object_entry("status");
        status.insert("phase", "Terminating");
        status.insert("conditions", conditions);
        namespace
    });
    let empty = found.remaining.is_empty() && found.failures.is_empty() && found.stale.is_empty();
    if empty {
        return Plan { status, release: true, next: Next::Change };
    }
    // The longer it takes, the less often it is worth a look.
    let since_s = u64::try_from(now_s - deleted_s(namespace)).unwrap_or_default();
    let pause = Duration::from_millis(since_s * 250).clamp(LOOK_AGAIN.0, LOOK_AGAIN.1);
    Plan { status, release: false, next: Next::After(pause) }
}

type Trouble = Option<(&'static str, String)>;

/// Every condition with what it says when all is well and, where it is not, a reason and a text.
fn conditions_of(found: &Found) -> [(&'static str, (&'static str, &'static str), Trouble); 5] {
    let stale = (!found.stale.is_empty()).then(|| {
        let text =
            format!("Discovery failed for some groups, {} failing: {}", found.stale.len(), found.stale.join(", "));
        ("DiscoveryFailed", text)
    });
    let mut failures = found.failures.clone();
    failures.sort();
    let failed = (!failures.is_empty()).then(|| {
        let text =
            format!("Failed to delete all resource types, {} remaining: {}", failures.len(), failures.join(", "));
        ("ContentDeletionFailed", text)
    });
    let counted = |counts: Vec<String>| (!counts.is_empty() && !found.pods_remain).then(|| counts.join(", "));
    let remaining = found.remaining.iter().map(|(what, count)| format!("{what} has {count} resource instances"));
    let remaining = counted(remaining.collect());
    let held = found.finalizers.iter().map(|(what, count)| format!("{what} in {count} resource instances"));
    let held = counted(held.collect());
    [
        ("NamespaceDeletionDiscoveryFailure", ("ResourcesDiscovered", "All resources successfully discovered"), stale),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            None,
        ),
        (
            "NamespaceDeletionContentFailure",
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            failed,
        ),
        (
            "NamespaceContentRemaining",
            ("ContentRemoved", "All content successfully removed"),
            remaining.map(|text| ("SomeResourcesRemain", format!("Some resources are remaining: {text}"))),
        ),
        (
            "NamespaceFinalizersRemaining",
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            held.map(|text| {
                ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {text}"))
            }),
        ),
    ]
}

/// Writes a condition; its time moves with its status. Tells whether anything changed.
fn set_condition(conditions: &mut Vec<Value>, kind: &str, ok: (&str, &str), trouble: Trouble, now_s: i64) -> bool {
    let (status, reason, message) = match trouble {
        Some((reason, text)) => ("True", reason, text),
        None => ("False", ok.0, ok.1.to_owned()),
    };
    let old = conditions.iter_mut().find(|condition| condition.str_at(&["type"]) == kind);
    let now = Time::from_seconds(now_s).to_rfc3339();
    let since = old.as_ref().filter(|old| old.str_at(&["status"]) == status);
    let since = since.map_or(now, |old| old.str_at(&["lastTransitionTime"]).into());
    let new = value!({
        "type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message
    });
    match old {
        Some(old) if *old == new => false,
        Some(old) => {
            *old = new;
            true
        }
        None => {
            conditions.push(new);
            true
        }
    }
}

fn is_ours(namespace: &Value) -> bool {
    finalizers(namespace).iter().any(|own| own.as_str() == Some(FINALIZER))
}

fn finalizers(namespace: &Value) -> &[Value] {
    namespace.at(&["spec", "finalizers"]).and_then(Value::as_array).unwrap_or_default()
}

fn without_finalizer(mut namespace: Value) -> Value {
    let others: Vec<Value> =
        finalizers(&namespace).iter().filter(|own| own.as_str() != Some(FINALIZER)).cloned().collect();
    namespace.object_entry("spec").insert("finalizers", others);
    namespace
}

/// When the deletion was asked for; now, where that cannot be read.
fn deleted_s(namespace: &Value) -> i64 {
    let text = Meta::of(namespace).deletion_timestamp().unwrap_or_default();
    Time::parse(text).map_or(i64::MAX, |time| time.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> Value {
        value!({
            "metadata": {"name": "shop", "deletionTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"finalizers": ["kubernetes", "other"]}, "status": {"phase": "Terminating"}
        })
    }

    fn served() -> Served {
        Served {
            resource: Resource::new("apps", "v1", "things"),
            kind: "Thing".into(),
            namespaced: true,
            verbs: vec![],
        }
    }

    fn object(finalizer: &str) -> Value {
        let finalizers: Vec<&str> = [finalizer].into_iter().filter(|text| !text.is_empty()).collect();
        value!({"metadata": {"name": "a", "namespace": "shop", "finalizers": finalizers}})
    }

    /// `type reason status` of those that are not well, and the pause.
    fn check(left: Vec<Value>, pods: bool, since_s: i64, expect: &[&str], pause_ms: u64) {
        let mut found = Found::default();
        found.note(Ok(left), &served(), since_s);
        found.pods_remain = pods;
        let plan = plan(&namespace(), &found, since_s);
        let status = plan.status.expect("conditions are new");
        let conditions = status.at(&["status", "conditions"]).and_then(Value::as_array).expect("conditions");
        assert_eq!(conditions.len(), 5);
        let bad = conditions.iter().filter(|condition| condition.str_at(&["status"]) == "True");
        let messages: Vec<&str> = bad.map(|condition| condition.str_at(&["message"])).collect();
        assert_eq!(messages, expect);
        assert_eq!((plan.release, plan.next), (false, Next::After(Duration::from_millis(pause_ms))));
    }

    #[test]
    fn what_remains_is_told() {
        check(
            vec![object("x.y/z"), object("")],
            false,
            1,
            &[
                "Some resources are remaining: things.apps has 2 resource instances",
                "Some content in the namespace has finalizers remaining: x.y/z in 1 resource instances",
            ],
            250,
        );
        let unexpected = "Failed to delete all resource types, 1 remaining: unexpected items still remain in namespace: shop for \
             gvr: apps/v1, Resource=things";
        check(vec![object("")], true, 100, &[unexpected], 8000);
        check(vec![object("")], true, 0, &[], 200);
    }

    #[test]
    fn an_empty_namespace_is_let_go_and_good_news_are_written_once() {
        let first = plan(&namespace(), &Found::default(), 0);
        let written = first.status.expect("conditions are new");
        assert!(first.release);
        assert_eq!(plan(&written, &Found::default(), 9), Plan { status: None, release: true, next: Next::Change });
        assert_eq!(finalizers(&without_finalizer(written)), [Value::from("other")]);
    }
}
