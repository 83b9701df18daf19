//! Keeps the index in step with the stored roles and bindings, and aggregated cluster roles in step with those that
//! they select. Level-triggered: a change only says "look again".

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::auth::User;
use corten_apiserver::registry::{Body, Context, ListOptions, Registry, Shown, Target, WriteOptions};
use corten_stdx::task::{Stopped, Tasks};
use tokio::sync::watch;

use super::aggregation::plan;
use super::rule::Rule;
use super::{GROUP, Policy, Rbac};
use crate::follow::{Seen, follow};

/// Upstream's controller writes under this name.
const MANAGER: &str = "clusterrole-aggregation-controller";

/// How often every role may be written before the aggregation gives up.
const ROUNDS_MAX: usize = 4;

/// Pause before an aggregation that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What feeds one authorizer.
pub struct Feed {
    /// Changes seen of each kind; 0: its objects are not known yet.
    seen: Vec<watch::Receiver<u64>>,
}

impl Feed {
    /// Starts following the four kinds. `user` is the in-process identity of the aggregation's writes.
    pub fn start(rbac: &Rbac, registry: &Registry, user: &Arc<User>, tasks: &Tasks) -> Result<Self, Status> {
        let mut seen = Vec::new();
        for policy in Policy::ALL {
            let kind = kind_of(registry, policy)?;
            let (sender, receiver) = watch::channel(0);
            if policy == Policy::ClusterRole {
                let aggregation = Aggregation { registry: registry.clone(), user: user.clone() };
                tasks.spawn("rbac-aggregation", aggregation.run(receiver.clone(), tasks.stopped()));
            }
            seen.push(receiver);
            let (rbac, registry, stopped) = (rbac.clone(), registry.clone(), tasks.stopped());
            tasks.spawn("rbac-feed", async move {
                follow(&registry, &kind, stopped, |seen| {
                    apply(&rbac, policy, &seen);
                    sender.send_modify(|count| *count += 1);
                })
                .await;
            });
        }
        Ok(Self { seen })
    }

    /// Waits until all four kinds are known. False: the feed ended before.
    pub async fn synced(&mut self) -> bool {
        for seen in &mut self.seen {
            if seen.wait_for(|count| *count > 0).await.is_err() {
                return false;
            }
        }
        true
    }
}

fn kind_of(registry: &Registry, policy: Policy) -> Result<Arc<KindInfo>, Status> {
    let found = registry.kinds().resource(GROUP, "v1", policy.resource()).cloned();
    found.ok_or_else(|| Status::internal(format_args!("the kind {} is not served", policy.kind())))
}

fn apply(rbac: &Rbac, policy: Policy, seen: &Seen) {
    rbac.write(|index| match seen {
        Seen::All(objects) => {
            index.clear(policy);
            objects.iter().for_each(|object| index.apply(policy, object));
        }
        Seen::Now(object) => index.apply(policy, object),
        Seen::Gone(object) => {
            index.delete(policy, object.str_at(&["metadata", "namespace"]), object.str_at(&["metadata", "name"]));
        }
    });
}

struct Aggregation {
    registry: Registry,
    user: Arc<User>,
}

impl Aggregation {
    async fn run(self, mut changed: watch::Receiver<u64>, mut stopped: Stopped) {
        loop {
            tokio::select! {
                biased;
                () = stopped.wait() => return,
                // An error: the feed has ended, and so has everything to look at.
                seen = changed.changed() => if seen.is_err() { return },
            }
            while let Err(status) = aggregate(&self.registry, &self.user).await {
                tracing::warn!(error = %status, "cluster roles could not be aggregated");
                tokio::select! {
                    () = stopped.wait() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// Writes the rules of every aggregated role that has others than it should, one after the other.
pub async fn aggregate(registry: &Registry, user: &Arc<User>) -> Result<(), Status> {
    let kind = kind_of(registry, Policy::ClusterRole)?;
    let list = registry.list(&kind, "", &ListOptions::default()).await?;
    let shown = list.items.iter().map(|object| Shown { kind: kind.clone(), object: object.clone() });
    let mut roles: Vec<Value> =
        shown.map(|shown| shown.to_value().map_err(Status::internal)).collect::<Result<_, _>>()?;
    let context = Context::new(user.clone(), MANAGER);
    for _ in 0..roles.len() * ROUNDS_MAX {
        let Some((at, rules)) = plan(&roles) else { return Ok(()) };
        let mut wanted = std::mem::take(&mut roles[at]);
        let rules: Vec<Value> = rules.iter().map(Rule::to_value).collect();
        wanted.as_object_mut().map(|role| role.insert("rules", rules));
        let target = Target {
            kind: kind.clone(),
            namespace: "".into(),
            name: wanted.str_at(&["metadata", "name"]).into(),
            subresource: "".into(),
        };
        // Carries the revision that the plan is based on: a conflict is a reason to look again.
        let body = Body::from(wanted);
        let written = registry.update(&context, &target, body, WriteOptions::default()).await?;
        roles[at] = written.object.to_value().map_err(Status::internal)?;
    }
    tracing::warn!("aggregated cluster roles select each other in a way that does not come to rest");
    Ok(())
}
