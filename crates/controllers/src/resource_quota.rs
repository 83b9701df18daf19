//! Counts what the objects of a namespace use of its quotas (`pkg/controller/resourcequota`): the admission adds to what a quota has
//! used before an object is written, and this takes away what is gone, or was never written.
//!
//! Only kinds that some quota limits are followed. Every change of such an object has its quotas counted again, from caches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use corten_apimachinery::quantity::{Format, Quantity};
use corten_apimachinery::value::{Map, Str, Value};
use corten_client::cache::{Held, Key, View};
use corten_client::controller::{Controller, Mark, Next};
use corten_client::discovery::Discovered;
use corten_client::error::unless_gone;
use corten_client::informer::{Change, Informer, Scope};
use corten_client::{Client, Error, Informers, Resource};
use corten_quota::amounts::{add, read};
use corten_quota::{Amounts, Measure, in_scopes};
use corten_stdx::clock::Clock;

use crate::Base;

const QUOTAS: Resource = Resource::new("", "v1", "resourcequotas");
const DEFINITIONS: Resource = Resource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");

/// The kind of keys that stand for a custom kind, by the name of its definition.
const DEFINITION: &str = "(definition)";

/// An object that was charged is there within this, or was not written.
const SETTLED: Duration = Duration::from_millis(500);

/// Before a cache that is still filling is looked at again.
const UNTIL_SYNCED: Duration = Duration::from_millis(100);

/// What a quota says is counted anew so often in any case: pods that should be gone stop to count without a change.
const COUNT_EVERY: Duration = Duration::from_secs(300);

struct Context {
    client: Client,
    clock: Clock,
    informers: Informers,
    quotas: Informer<Value>,
    followed: RwLock<BTreeMap<Measure, Followed>>,
    mark: OnceLock<Mark>,
    /// When the state in which a quota is was first seen, by its revision.
    since_ms: Mutex<HashMap<Key, (Str, i64)>>,
}

/// The objects of a kind that is followed.
#[derive(Clone)]
enum Followed {
    Pods(Informer<Charged>),
    Whole(Informer<Value>),
    Counted(Informer<()>),
}

/// Of a pod what decides how much it uses, and in which scopes it is.
#[derive(PartialEq)]
struct Charged(Value);

pub fn controller(base: &Base) -> Controller {
    let quotas = base.informers.of::<Value>(Scope::all(QUOTAS));
    let definitions = base.informers.of::<()>(Scope::metadata(DEFINITIONS));
    let context = Arc::new(Context {
        client: (base.client_of)("resourcequota-controller"),
        clock: base.clock.clone(),
        informers: base.informers.clone(),
        quotas: quotas.clone(),
        followed: RwLock::default(),
        mark: OnceLock::new(),
        since_ms: Mutex::default(),
    });
    let begun = context.clone();
    Controller::new("resource-quota", context, reconcile)
        .begins(move |mark| {
            begun.mark.get_or_init(|| mark);
        })
        .watches(&quotas)
        .watches_for(&definitions, |held| vec![Key { kind: DEFINITION.into(), ..held.head.key() }])
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    if key.kind == DEFINITION {
        ctx.redefined(&key.name);
        return Ok(Next::Change);
    }
    let Some(quota) = ctx.quotas.cache().get(&key.namespace, &key.name) else {
        ctx.since_ms.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        return Ok(Next::Change);
    };
    let hard = read(quota.view.at(&["spec", "hard"]));
    let Some(measures) = ctx.follow(&hard).await? else { return Ok(Next::After(UNTIL_SYNCED)) };
    let counted = ctx.count(&quota.view, &hard, &measures);
    let plan = plan(&quota.view, &hard, counted);
    if plan.takes_away && !ctx.is_settled(&key, &quota) {
        return Ok(Next::After(SETTLED));
    }
    if let Some(new) = plan.status {
        unless_gone(ctx.client.update(&QUOTAS, "status", &new).await)?;
    }
    Ok(Next::After(COUNT_EVERY))
}

impl Context {
    /// The kinds that amounts are measured by, all of them followed; `None` while a cache is filling. A name whose kind is
    /// not served is nobody's for now.
    async fn follow(self: &Arc<Self>, hard: &Amounts) -> Result<Option<BTreeSet<Measure>>, Error> {
        let wanted: BTreeSet<Measure> = hard.keys().filter_map(|name| Measure::by_name(name)).collect();
        let mut measures = BTreeSet::new();
        let (mut discovered, mut filling) = (None, false);
        for measure in wanted {
            let followed = match self.followed(&measure) {
                Some(followed) => followed,
                None => {
                    if discovered.is_none() {
                        discovered = Some(self.client.discover().await?);
                    }
                    let served = discovered.as_ref().and_then(|all| resource_of(all, &measure));
                    let Some(resource) = served else { continue };
                    self.begin(measure.clone(), resource)
                }
            };
            filling |= !followed.is_synced();
            measures.insert(measure);
        }
        Ok((!filling).then_some(measures))
    }

    fn followed(&self, measure: &Measure) -> Option<Followed> {
        self.followed.read().unwrap_or_else(PoisonError::into_inner).get(measure).cloned()
    }

    fn begin(self: &Arc<Self>, measure: Measure, resource: Resource) -> Followed {
        let of = &self.informers;
        let followed = match &measure {
            Measure::Pods => Followed::Pods(of.of::<Charged>(Scope::all(resource))),
            Measure::Count(..) => Followed::Counted(of.of::<()>(Scope::metadata(resource))),
            _ => Followed::Whole(of.of::<Value>(Scope::all(resource))),
        };
        self.followed.write().unwrap_or_else(PoisonError::into_inner).insert(measure.clone(), followed.clone());
        match &followed {
            Followed::Pods(pods) => self.hear(pods, measure, |old, new| old.view != new.view),
            Followed::Whole(objects) => self.hear(objects, measure, |_, _| true),
            Followed::Counted(objects) => self.hear(objects, measure, |_, _| false),
        }
        followed
    }

    /// Has quotas counted when objects come and go, or change in a way that counts.
    fn hear<V: View>(
        self: &Arc<Self>,
        objects: &Informer<V>,
        measure: Measure,
        counts: fn(&Held<V>, &Held<V>) -> bool,
    ) {
        let context = self.clone();
        objects.subscribe(move |change: &Change<'_, V>| {
            let stays = matches!((change.old, change.new), (Some(old), Some(new)) if !counts(old, new));
            if !stays {
                context.noted(&measure, &change.held().head.namespace);
            }
        });
    }

    /// Marks the quotas of a namespace that limit a kind.
    fn noted(&self, measure: &Measure, namespace: &str) {
        let Some(mark) = self.mark.get() else { return };
        for quota in self.quotas.cache().in_namespace(namespace) {
            let mut names = read(quota.view.at(&["spec", "hard"])).into_keys();
            if names.any(|name| measure.has(&name)) {
                mark.now(quota.head.key());
            }
        }
    }

    /// A custom kind has come, changed or gone: its objects are followed anew when somebody counts them.
    fn redefined(&self, name: &str) {
        let Some((plural, group)) = name.split_once('.') else { return };
        let measure = Measure::Count(group.into(), plural.into());
        self.followed.write().unwrap_or_else(PoisonError::into_inner).remove(&measure);
        let Some(mark) = self.mark.get() else { return };
        for quota in self.quotas.cache().all() {
            if read(quota.view.at(&["spec", "hard"])).keys().any(|name| measure.has(name)) {
                mark.now(quota.head.key());
            }
        }
    }

    /// What the objects of a quota's namespace use of it.
    fn count(&self, quota: &Value, hard: &Amounts, measures: &BTreeSet<Measure>) -> Amounts {
        let namespace = quota.str_at(&["metadata", "namespace"]);
        let now_s = self.clock.now_s();
        let mut counted = Amounts::new();
        for measure in measures {
            let names = hard.keys().filter(|name| measure.has(name));
            add(&mut counted, &names.map(|name| (name.clone(), Quantity::new(0, Format::DecimalSi))).collect());
            let mut one = |object: &Value| {
                if in_scopes(quota, measure, object) {
                    let mut used = measure.usage(object, now_s);
                    used.retain(|name, _| hard.contains_key(name));
                    add(&mut counted, &used);
                }
            };
            match self.followed(measure) {
                Some(Followed::Pods(pods)) => {
                    pods.cache().in_namespace(namespace).iter().for_each(|pod| one(&pod.view.0))
                }
                Some(Followed::Whole(all)) => {
                    all.cache().in_namespace(namespace).iter().for_each(|held| one(&held.view))
                }
                Some(Followed::Counted(all)) => {
                    all.cache().in_namespace(namespace).iter().for_each(|_| one(&Value::Null))
                }
                None => {}
            }
        }
        counted
    }

    /// Whether a quota has been as it is for long enough that what was charged to it has been written.
    fn is_settled(&self, key: &Key, quota: &Held<Value>) -> bool {
        let now_ms = self.clock.now_ms();
        let mut since_ms = self.since_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let (revision, first_ms) = since_ms.entry(key.clone()).or_insert_with(|| (quota.head.revision.clone(), now_ms));
        if *revision != quota.head.revision {
            (*revision, *first_ms) = (quota.head.revision.clone(), now_ms);
        }
        now_ms - *first_ms >= i64::try_from(SETTLED.as_millis()).unwrap_or(i64::MAX)
    }
}

impl Followed {
    fn is_synced(&self) -> bool {
        match self {
            Self::Pods(pods) => pods.is_synced(),
            Self::Whole(objects) => objects.is_synced(),
            Self::Counted(objects) => objects.is_synced(),
        }
    }
}

/// Where a kind's objects are read.
fn resource_of(discovered: &Discovered, measure: &Measure) -> Option<Resource> {
    let (group, plural) = measure.kind();
    let is_meant = |resource: &Resource| resource.group == group && resource.plural == plural;
    let served = discovered.served.iter().find(|served| is_meant(&served.resource))?;
    (served.namespaced && served.can("list") && served.can("watch")).then(|| served.resource.clone())
}

/// What becomes of a quota.
struct Plan {
    /// The quota with its new status, where that is another.
    status: Option<Value>,
    /// It will have used less of something than it says.
    takes_away: bool,
}

fn plan(quota: &Value, hard: &Amounts, counted: Amounts) -> Plan {
    let said = read(quota.at(&["status", "used"]));
    let mut used = said.clone();
    used.retain(|name, _| hard.contains_key(name));
    let takes_away = counted.iter().any(|(name, amount)| used.get(name).is_some_and(|said| said > amount));
    used.extend(counted);
    let is_told = quota.at(&["status", "used"]).is_some_and(|used| !used.is_null());
    if is_told && read(quota.at(&["status", "hard"])) == *hard && said == used {
        return Plan { status: None, takes_away: false };
    }
    let mut new = quota.clone();
    let status = new.object_entry("status");
    status.insert("hard", quota.at(&["spec", "hard"]).cloned().unwrap_or_else(Value::object));
    status.insert("used", print(&used));
    Plan { status: Some(new), takes_away }
}

fn print(amounts: &Amounts) -> Map {
    amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect()
}

impl View for Charged {
    fn from_object(pod: &Value) -> Option<Self> {
        let part = |from: &Value, fields: &[&str]| {
            let kept = fields.iter().filter_map(|field| Some((Str::from(*field), from.get(field)?.clone())));
            kept.collect::<Map>()
        };
        let section = |name: &str, fields: &[&str]| part(pod.get(name).unwrap_or(&Value::Null), fields);
        let fields = ["activeDeadlineSeconds", "priorityClassName", "overhead", "resources", "affinity"];
        let mut spec = section("spec", &fields);
        for list in ["containers", "initContainers"] {
            let containers = pod.at(&["spec", list]).and_then(Value::as_array).unwrap_or_default();
            let slim = containers.iter().map(|one| Value::Object(part(one, &["name", "resources", "restartPolicy"])));
            spec.insert(list, slim.collect::<Vec<_>>());
        }
        let mut slim = Map::new();
        slim.insert("metadata", section("metadata", &["deletionTimestamp", "deletionGracePeriodSeconds"]));
        slim.insert("spec", spec);
        slim.insert("status", section("status", &["phase", "qosClass"]));
        Some(Self(Value::Object(slim)))
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn amounts(of: Value) -> Amounts {
        read(Some(&of))
    }

    fn check(status: Value, counted: Value, expect: Option<Value>) -> bool {
        let hard = || value!({"pods": "2", "requests.cpu": "1000m", "strange": "1"});
        let quota = value!({"metadata": {"name": "q"}, "spec": {"hard": (hard())}, "status": status});
        let plan = plan(&quota, &amounts(hard()), amounts(counted));
        assert_eq!(plan.status.and_then(|new| new.at(&["status", "used"]).cloned()), expect);
        plan.takes_away
    }

    #[test]
    fn a_status_is_written_where_it_is_another() {
        let counted = || value!({"pods": "1", "requests.cpu": "500m"});
        check(value!({}), counted(), Some(counted()));
        let hard = || value!({"pods": "2", "requests.cpu": "1", "strange": "1"});
        let said =
            |pods: &str| value!({"hard": (hard()), "used": {"pods": pods, "requests.cpu": "0.5", "strange": "1"}});
        assert!(!check(said("1"), counted(), None), "the same in other words");
        let used = |pods: &str| value!({"pods": pods, "requests.cpu": "500m", "strange": "1"});
        assert!(check(said("2"), counted(), Some(used("1"))), "less than was charged");
        assert!(!check(said("0"), counted(), Some(used("1"))));
        let other = value!({"hard": {"pods": "3"}, "used": {"pods": "1", "services": "7"}});
        check(other, counted(), Some(counted()));
        check(value!({"used": null}), value!({}), Some(value!({})));
    }

    #[test]
    fn what_is_held_of_a_pod_counts_as_the_pod() {
        let pod = value!({
            "metadata": {"name": "p", "deletionTimestamp": "1970-01-01T00:01:00Z", "deletionGracePeriodSeconds": 9},
            "spec": {"nodeName": "n", "priorityClassName": "high", "activeDeadlineSeconds": 5, "containers": [
                {"name": "c", "image": "i", "resources": {"limits": {"memory": "1Mi"}}}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1"}
        });
        let Charged(slim) = Charged::from_object(&pod).expect("held");
        assert_eq!(Measure::Pods.usage(&slim, 0), Measure::Pods.usage(&pod, 0));
        assert_eq!(Measure::Pods.usage(&slim, 99), amounts(value!({"count/pods": "1"})), "it should be gone");
        let scopes = value!({"spec": {"scopes": ["Terminating", "NotBestEffort", "PriorityClass"]}});
        assert!(in_scopes(&scopes, &Measure::Pods, &slim));
        assert_eq!(slim.str_at(&["spec", "nodeName"]), "", "nothing else is held");
    }
}
