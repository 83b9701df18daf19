//! Keeps the number of a target's pods in proportion to what they use (`autoscaling/v2`, `pkg/controller/podautoscaler`): use of
//! processors and memory, by `metrics.k8s.io`. How many there should be is [`usage`], how fast that may change [`limit`]; both
//! are pure. What was recommended lately is remembered here alone.

mod limit;
mod read;
mod status;
mod usage;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_apimachinery::value::{Str, Value};
use corten_client::cache::Key;
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Resource};
use corten_stdx::clock::Clock;

use self::limit::{Behavior, Bounds, Past};
use self::read::{Failure, Reader, Wanted};
use self::status::Status;
use crate::Base;

const AUTOSCALERS: Resource = Resource::new("autoscaling", "v2", "horizontalpodautoscalers");

/// Between two looks at one autoscaler. Upstream's default is three times that; here a crowd is met sooner.
const PERIOD: Duration = Duration::from_secs(5);

struct Context {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    autoscalers: Informer<Value>,
    memories: Mutex<HashMap<Key, Memory>>,
}

/// What is remembered of one autoscaler.
#[derive(Clone, Debug, Default)]
struct Memory {
    uid: Str,
    /// When it was last looked at, and what it asked for then.
    looked_ms: i64,
    spec: Value,
    past: Past,
}

pub fn controller(base: &Base) -> Controller {
    let autoscalers = base.informers.of::<Value>(Scope::all(AUTOSCALERS));
    let context = Context {
        client: (base.client_of)("horizontal-pod-autoscaler"),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)("horizontal-pod-autoscaler", "horizontal-pod-autoscaler"),
        autoscalers: autoscalers.clone(),
        memories: Mutex::default(),
    };
    Controller::new("horizontal-pod-autoscaler", Arc::new(context), reconcile).watches(&autoscalers)
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(held) = ctx.autoscalers.cache().get(&key.namespace, &key.name) else {
        ctx.forget(&key);
        return Ok(Next::Change);
    };
    if held.head.deleting {
        return Ok(Next::Change);
    }
    let autoscaler = &held.view;
    let now_ms = ctx.clock.now_ms();
    let mut memory = ctx.remember(&key, &held.head.uid);
    let spec = autoscaler.get("spec").cloned().unwrap_or_default();
    let next_ms = memory.looked_ms + i64::try_from(PERIOD.as_millis()).unwrap_or(i64::MAX);
    // A write of its status, or of metadata, is no reason to look again.
    if memory.spec == spec && now_ms < next_ms {
        return Ok(Next::After(Duration::from_millis((next_ms - now_ms).unsigned_abs())));
    }
    (memory.looked_ms, memory.spec) = (now_ms, spec);
    let mut status = Status::of(autoscaler, now_ms);
    let about = Reference::of("autoscaling/v2", "HorizontalPodAutoscaler", autoscaler);
    let looked = ctx.look(autoscaler, &about, &mut memory.past, &mut status, now_ms).await;
    ctx.memories.lock().unwrap_or_else(PoisonError::into_inner).insert(key, memory);
    if let Some(new) = status.changed(autoscaler) {
        unless_gone(ctx.client.update(&AUTOSCALERS, "status", &new).await)?;
    }
    looked?;
    Ok(Next::After(PERIOD))
}

impl Context {
    fn remember(&self, key: &Key, uid: &str) -> Memory {
        let memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let known = memories.get(key).filter(|memory| memory.uid == uid).cloned();
        known.unwrap_or_else(|| Memory { uid: uid.into(), ..Memory::default() })
    }

    fn forget(&self, key: &Key) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Looks at the target and what its pods use, and scales it. What is wrong with the autoscaler itself goes into its status;
    /// an error is one that may pass.
    async fn look(
        &self,
        autoscaler: &Value,
        about: &Reference,
        past: &mut Past,
        status: &mut Status,
        now_ms: i64,
    ) -> Result<(), Error> {
        let reader = Reader { client: &self.client, namespace: &about.namespace };
        let (resource, mut scale) = match reader.scale(autoscaler).await {
            Ok(found) => found,
            Err(why) => {
                self.recorder.warning(about, "FailedGetScale", why.clone());
                let said = format!("the HPA controller was unable to get the target's current scale: {why}");
                status.able(false, "FailedGetScale", &said);
                return Ok(());
            }
        };
        status.able(true, "SucceededGetScale", "the HPA controller was able to get the target's current scale");
        let current = scale.i64_at(&["spec", "replicas"]).unwrap_or_default();
        past.begin(current, now_ms);
        status.current(current);
        let bounds = Bounds {
            min: autoscaler.i64_at(&["spec", "minReplicas"]).unwrap_or(1),
            max: autoscaler.i64_at(&["spec", "maxReplicas"]).unwrap_or(1),
        };
        let behavior = autoscaler.get("spec").and_then(Behavior::of);
        let (wanted, reason) = match self.wanted(&reader, autoscaler, about, &scale, bounds, status, now_ms).await? {
            Some(Decision::Forced(wanted, reason)) => (wanted, reason.to_owned()),
            Some(Decision::Measured(Wanted { replicas, metric })) => {
                let limited = past.limit(behavior.as_ref(), bounds, current, replicas, now_ms);
                status.able(true, limited.able.0, limited.able.1);
                status.limited(limited.limited, limited.limit.0, limited.limit.1);
                let reason = if replicas > current {
                    format!("{metric} above target")
                } else {
                    "All metrics below target".to_owned()
                };
                (limited.replicas, reason)
            }
            None => return Ok(()),
        };
        if wanted != current {
            scale.object_entry("spec").insert("replicas", wanted);
            if let Err(error) = self.client.update(&resource, "scale", &scale).await {
                let note = format!("New size: {wanted}; reason: {reason}; error: {error}");
                self.recorder.warning(about, "FailedRescale", note);
                let said = format!("the HPA controller was unable to update the target scale: {error}");
                status.able(false, "FailedUpdateScale", &said);
                return if error.is_conflict() { Err(error) } else { Ok(()) };
            }
            let said = format!("the HPA controller was able to update the target scale to {wanted}");
            status.able(true, "SucceededRescale", &said);
            self.recorder.normal(about, "SuccessfulRescale", format!("New size: {wanted}; reason: {reason}"));
            past.scaled(behavior.as_ref(), current, wanted, now_ms);
        }
        status.desired(wanted, wanted != current);
        Ok(())
    }

    /// How many pods there should be; `None` where that is not known, or nobody wants to know.
    #[expect(clippy::too_many_arguments, reason = "one look at one autoscaler")]
    async fn wanted(
        &self,
        reader: &Reader<'_>,
        autoscaler: &Value,
        about: &Reference,
        scale: &Value,
        bounds: Bounds,
        status: &mut Status,
        now_ms: i64,
    ) -> Result<Option<Decision>, Error> {
        let current = scale.i64_at(&["spec", "replicas"]).unwrap_or_default();
        if current == 0 && bounds.min != 0 {
            let said = "scaling is disabled since the replica count of the target is zero";
            status.active(false, "ScalingDisabled", said);
            status.desired(0, false);
            return Ok(None);
        }
        if current > bounds.max {
            return Ok(Some(Decision::Forced(bounds.max, "Current number of replicas above Spec.MaxReplicas")));
        }
        if current < bounds.min {
            return Ok(Some(Decision::Forced(bounds.min, "Current number of replicas below Spec.MinReplicas")));
        }
        let measured = reader.measure(autoscaler, scale, now_ms).await?;
        status.metrics(measured.metrics);
        for Failure { reason, text } in &measured.failures {
            self.recorder.warning(about, reason, text.clone());
        }
        let wanted = measured.wanted.filter(|wanted| measured.failures.is_empty() || wanted.replicas >= current);
        match (wanted, measured.failures.first()) {
            (None, first) => {
                let (reason, text) = first.map_or(("FailedGetResourceMetric", "there is no metric"), |first| {
                    (first.reason, first.text.as_str())
                });
                status.active(false, reason, &format!("the HPA was unable to compute the replica count: {text}"));
                let (bad, all) = (measured.failures.len(), measured.asked);
                let note = format!("invalid metrics ({bad} invalid out of {all}), first error is: {text}");
                self.recorder.warning(about, "FailedComputeMetricsReplicas", note);
                Ok(None)
            }
            (Some(wanted), _) => {
                let said = format!("the HPA was able to successfully calculate a replica count from {}", wanted.metric);
                status.active(true, "ValidMetricFound", &said);
                Ok(Some(Decision::Measured(wanted)))
            }
        }
    }
}

/// Where a number comes from.
enum Decision {
    /// The autoscaler's bounds, at once.
    Forced(i64, &'static str),
    /// What the pods use, within the limits of change.
    Measured(Wanted),
}
