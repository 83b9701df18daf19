//! What a node does when it runs short of memory, disk or processes, before the kernel does something worse: it says so (conditions,
//! which become taints), takes no more pods, frees what nobody needs, and ends the pod that is to go first. What decides is pure:
//! [`threshold`] (is something short), [`pressure`] (what the node says and takes), [`rank`] (who goes first) and [`local_limits`]
//! (who is beyond a limit of its own). The task here looks each second, as the kernel has no event for all of it, feeds them and
//! tells the node's loop whom to end. Behaviour, order and words are upstream's (`pkg/kubelet/eviction`).

pub mod gauge;
mod local_limits;
mod measure;
pub mod pressure;
pub mod rank;
pub mod threshold;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::value::Str;
use corten_client::events::Reference;
use corten_stdx::task::Stopped;
use tokio::sync::mpsc;

use self::pressure::{Kind, Pressures, Seen};
use self::rank::Candidate;
use self::threshold::{Met, Thresholds};
use crate::ground::Ground;
use crate::observed::Verdict;
use crate::pod::Pod;
use crate::reading::{PodReading, Reading};

/// Why a pod has failed.
pub(crate) const REASON: &str = "Evicted";

/// What a container gets between the first signal and the last.
pub(crate) const GRACE_MS: i64 = 1_000;

const LOOK: Duration = Duration::from_secs(1);

/// So long is waited for what a pod had to be free again, before the next one goes.
const LEAVES_MS_MAX: i64 = 30_000;

/// After images were looked through in vain.
const IMAGES_AGAIN_MS: i64 = 60_000;

/// Between two walks over what pods with a limit have written; where they take long, so many times as long as they take.
const WALK_MS_MIN: i64 = 2_000;
const WALK_SHARE: i64 = 300;

/// When a node is short, and for how long it says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub hard: Thresholds,
    /// A condition stays for so long after its last sign, so that what comes and goes moves no pods to and fro.
    pub transition: Duration,
}

/// Upstream's.
pub const TRANSITION: Duration = Duration::from_secs(300);

impl Default for Settings {
    fn default() -> Self {
        Self { hard: Thresholds::default(), transition: TRANSITION }
    }
}

/// A pod is to go.
pub(crate) struct Order {
    pub(crate) uid: Str,
    pub(crate) verdict: Verdict,
}

/// Who looks.
pub(crate) struct Watch {
    ground: Arc<Ground>,
    reading: Reading,
    orders: mpsc::Sender<Order>,
    seen: Seen,
    /// Pods that were told to go, and until when that is waited for.
    leaving: BTreeSet<Str>,
    leaving_until_ms: i64,
    images_after_ms: i64,
    walk_after_ms: i64,
    /// What the node was last told to be short of.
    told: Option<&'static str>,
}

impl Watch {
    pub(crate) fn new(ground: Arc<Ground>, reading: Reading, orders: mpsc::Sender<Order>) -> Self {
        Self {
            ground,
            reading,
            orders,
            seen: Seen::default(),
            leaving: BTreeSet::new(),
            leaving_until_ms: 0,
            images_after_ms: 0,
            walk_after_ms: 0,
            told: None,
        }
    }

    pub(crate) async fn run(mut self, mut stopped: Stopped) {
        let clock = self.ground.parts.clock.clone();
        loop {
            tokio::select! {
                biased;
                () = stopped.wait() => return,
                () = self.look() => {}
            }
            tokio::select! {
                () = stopped.wait() => return,
                () = clock.sleep(LOOK) => {}
            }
        }
    }

    async fn look(&mut self) {
        let met = self.met();
        let now_ms = self.ground.parts.clock.now_ms();
        let period_ms = i64::try_from(self.settings().transition.as_millis()).unwrap_or(i64::MAX);
        let kinds: Vec<Kind> = met.iter().map(|met| met.signal.kind()).collect();
        let under = self.seen.take(Pressures::of(&kinds), now_ms, period_ms);
        self.ground.parts.pressure.put(under);
        if self.is_waiting(now_ms) {
            return;
        }
        if self.end_beyond_limits(now_ms).await {
            return;
        }
        match met.first() {
            Some(first) => self.relieve(first).await,
            None => self.told = None,
        }
    }

    fn settings(&self) -> &Settings {
        &self.ground.parts.settings.eviction
    }

    fn met(&self) -> Vec<Met> {
        let hard = &self.settings().hard;
        if hard.is_empty() { Vec::new() } else { hard.met(&self.ground.parts.gauges.levels()) }
    }

    /// Whether somebody who was told to go has not given back yet what it had.
    fn is_waiting(&mut self, now_ms: i64) -> bool {
        let pods = self.ground.parts.settings.pods();
        self.leaving.retain(|uid| pods.join(uid.as_str()).exists());
        if now_ms >= self.leaving_until_ms {
            self.leaving.clear();
        }
        !self.leaving.is_empty()
    }

    /// Frees what nobody needs; where that is not enough, ends the pod that is to go first.
    async fn relieve(&mut self, first: &Met) {
        let resource = first.signal.resource();
        if self.told != Some(resource) {
            self.told = Some(resource);
            tracing::warn!(signal = first.signal.name(), available = %first.available, least = %first.least, "the node is short");
            let name = self.ground.parts.settings.name.as_str();
            let own = Reference { kind: "Node".into(), name: name.into(), uid: name.into(), ..Reference::default() };
            self.ground.parts.recorder.warning(
                &own,
                "EvictionThresholdMet",
                format!("Attempting to reclaim {resource}"),
            );
        }
        let apart = self.ground.parts.gauges.images_apart();
        let of_images = first.signal.of_images();
        if first.signal.kind() == Kind::Disk
            && (of_images || !apart)
            && self.frees_images().await
            && self.met().is_empty()
        {
            return;
        }
        // Nothing of pods is where images are.
        let with_disk = first.signal.kind() == Kind::Disk && !(of_images && apart);
        let mut candidates = self.candidates(with_disk).await;
        rank::rank(&mut candidates, first.signal);
        match candidates.first() {
            Some(candidate) => {
                let message = rank::message(candidate, first);
                self.end(&candidate.uid, Verdict { reason: REASON.to_owned(), message, disrupts: true }).await;
            }
            None => tracing::debug!("there is no pod to end"),
        }
    }

    /// Removes images that nothing uses. False where there was none, or that is known to be so.
    async fn frees_images(&mut self) -> bool {
        let now_ms = self.ground.parts.clock.now_ms();
        if now_ms < self.images_after_ms {
            return false;
        }
        self.images_after_ms = now_ms + IMAGES_AGAIN_MS;
        let images = self.ground.parts.images.clone();
        let freed = tokio::task::spawn_blocking(move || images.remove_unused()).await;
        match freed {
            Ok(Ok(bytes)) => bytes > 0,
            Ok(Err(error)) => {
                tracing::warn!(%error, "images cannot be removed");
                false
            }
            Err(error) => {
                tracing::error!(%error, "the removal of images ended");
                false
            }
        }
    }

    /// Pods that can go.
    fn pods(&self) -> Vec<(Str, PodReading)> {
        let mut pods = self.reading.all();
        pods.retain(|(_, reading)| {
            let pod = Pod(&reading.object);
            !pod.is_over() && !pressure::is_critical(pod)
        });
        pods
    }

    async fn candidates(&self, with_disk: bool) -> Vec<Candidate> {
        let parts = &self.ground.parts;
        let mut candidates = Vec::new();
        for (uid, reading) in self.pods() {
            let one = measure::candidate(&parts.settings, &*parts.engine, &uid, &reading, with_disk);
            candidates.push(one.await);
        }
        candidates
    }

    /// Ends the pods that have written more than they may. True where there was one.
    async fn end_beyond_limits(&mut self, now_ms: i64) -> bool {
        if now_ms < self.walk_after_ms {
            return false;
        }
        let (ground, mut ended) = (self.ground.clone(), false);
        let parts = &ground.parts;
        for (uid, reading) in self.pods() {
            let pod = Pod(&reading.object);
            if !local_limits::has_any(pod) {
                continue;
            }
            let written = measure::on_disk(&parts.settings, &*parts.engine, &uid, &reading).await;
            if let Some(message) = local_limits::beyond(pod, &written) {
                self.end(&uid, Verdict { reason: REASON.to_owned(), message, ..Verdict::default() }).await;
                ended = true;
            }
        }
        let after_ms = parts.clock.now_ms();
        self.walk_after_ms = after_ms + WALK_MS_MIN.max((after_ms - now_ms) * WALK_SHARE);
        ended
    }

    async fn end(&mut self, uid: &Str, verdict: Verdict) {
        let order = Order { uid: uid.clone(), verdict };
        if self.orders.send(order).await.is_err() {
            tracing::debug!("the loop has ended before an order");
        }
        self.leaving.insert(uid.clone());
        self.leaving_until_ms = self.ground.parts.clock.now_ms() + LEAVES_MS_MAX;
    }
}
