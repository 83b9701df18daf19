//! Deletes jobs some time after they have finished, if they say so (`pkg/controller/ttlafterfinished`).

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::kind::Propagation;
use corten_apimachinery::value::Value;
use corten_client::cache::{Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Resource};
use corten_stdx::clock::Clock;

use crate::Base;
use crate::pod::seconds;

pub(crate) const JOBS: Resource = Resource::new("batch", "v1", "jobs");

/// When a job goes, in Unix seconds.
struct Goes(i64);

impl View for Goes {
    /// Jobs that have not finished, or stay, are not held.
    fn from_object(job: &Value) -> Option<Self> {
        let after_s = job.i64_at(&["spec", "ttlSecondsAfterFinished"])?;
        let conditions = job.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
        let finished = conditions.iter().find(|condition| {
            matches!(condition.str_at(&["type"]), "Complete" | "Failed") && condition.str_at(&["status"]) == "True"
        })?;
        Some(Self(seconds(finished.str_at(&["lastTransitionTime"])) + after_s))
    }
}

struct Context {
    client: Client,
    clock: Clock,
    jobs: Informer<Goes>,
}

pub fn controller(base: &Base) -> Controller {
    let jobs = base.informers.of::<Goes>(Scope::all(JOBS));
    let client = (base.client_of)("ttl-after-finished-controller");
    let context = Context { client, clock: base.clock.clone(), jobs: jobs.clone() };
    Controller::new("ttl-after-finished", Arc::new(context), reconcile).watches(&jobs)
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(job) = ctx.jobs.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
    if job.head.deleting {
        return Ok(Next::Change);
    }
    let now_s = ctx.clock.now_s();
    if let Some(left) = left(&job, now_s) {
        return Ok(Next::After(left));
    }
    // The time may just have been changed.
    let fresh = unless_gone(ctx.client.get(&JOBS, &key.namespace, &key.name).await)?;
    let goes = fresh.as_ref().and_then(Goes::from_object).is_some_and(|fresh| left(&fresh, now_s).is_none());
    if goes {
        let delete = Delete { propagation: Some(Propagation::Foreground), ..Delete::of(&job.head.uid) };
        unless_gone(ctx.client.delete(&JOBS, &key.namespace, &key.name, &delete).await)?;
    }
    Ok(Next::Change)
}

fn left(job: &Goes, now_s: i64) -> Option<Duration> {
    u64::try_from(job.0 - now_s).ok().filter(|left_s| *left_s > 0).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn check(after: Option<i64>, condition: &str, now_s: i64, expect: &str) {
        let mut job = value!({"spec": {}, "status": {"conditions": [
            {"type": condition, "status": "True", "lastTransitionTime": "1970-01-01T00:01:00Z"}]}});
        if let Some(after) = after {
            job.object_entry("spec").insert("ttlSecondsAfterFinished", after);
        }
        let seen = match Goes::from_object(&job) {
            None => "stays".to_owned(),
            Some(goes) => left(&goes, now_s).map_or_else(|| "goes".to_owned(), |left| format!("{left:?}")),
        };
        assert_eq!(seen, expect);
    }

    #[test]
    fn finished_jobs_go_when_they_say() {
        check(None, "Complete", 100, "stays");
        check(Some(10), "Suspended", 100, "stays");
        check(Some(50), "Failed", 100, "10s");
        check(Some(40), "Complete", 100, "goes");
        check(Some(0), "Complete", 60, "goes");
    }
}
