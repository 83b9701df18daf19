//! Pods that have no node: those to be tried next, those that wait a while after a failure, those that nothing has
//! happened for yet, and those that are gated (`pkg/scheduler/backend/queue`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use corten_apimachinery::value::Str;
use corten_client::cache::Held;

use super::views::PodSeen;
use crate::hints::{Event, may_help};
use crate::outcome::Plugin;
use crate::queue::{Place, backoff_ms};
use crate::view::Pod;

/// A pod that nothing has happened for is tried again after this long all the same.
const REJECTED_MS_MAX: i64 = 300_000;

/// Where a pod waits.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Active(Place),
    /// Until then; after an error not earlier.
    BackOff {
        until_ms: i64,
        error: bool,
    },
    /// Since then, for an event that may help.
    Rejected(i64),
    Gated,
    /// A decision is being taken or carried out.
    Decided,
}

pub(super) struct Entry {
    pub(super) pod: Arc<Pod>,
    pub(super) seen: Arc<Held<PodSeen>>,
    at: At,
    attempts: u32,
    rejected_by: BTreeSet<Plugin>,
    failed_ms: i64,
}

#[derive(Default)]
pub(super) struct Waiting {
    /// By UID.
    entries: HashMap<Str, Entry, ahash::RandomState>,
    active: BTreeSet<Place>,
    backoff: BTreeSet<(i64, Str)>,
    rejected: BTreeSet<(i64, Str)>,
    /// Tells apart who came in the same millisecond.
    added: i64,
}

impl Waiting {
    /// A pod is new or has changed.
    pub(super) fn put(&mut self, pod: &Arc<Pod>, seen: &Arc<Held<PodSeen>>, now_ms: i64) {
        let at = if pod.gates.is_empty() { At::Decided } else { At::Gated };
        let Some(known) = self.entries.get_mut(&pod.uid) else {
            let (rejected_by, gated) = (BTreeSet::new(), at == At::Gated);
            let entry = Entry { pod: pod.clone(), seen: seen.clone(), at, attempts: 0, rejected_by, failed_ms: now_ms };
            self.entries.insert(pod.uid.clone(), entry);
            if !gated {
                self.activate(&pod.uid, now_ms);
            }
            return;
        };
        let old = std::mem::replace(&mut known.pod, pod.clone());
        known.seen = seen.clone();
        let helps = match known.at {
            At::Gated => pod.gates.is_empty(),
            At::Rejected(_) => may_help(pod, &known.rejected_by, Event::PodChanged { old: &old, new: pod }),
            At::Active(_) | At::BackOff { .. } | At::Decided => false,
        };
        if helps {
            self.requeue(&pod.uid, now_ms);
        }
    }

    pub(super) fn remove(&mut self, uid: &str) -> Option<Entry> {
        self.leave(uid);
        self.entries.remove(uid)
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Entry> {
        self.entries.get(uid)
    }

    /// The pod to be tried now. Where nothing else is to do, one that waits after a rejection does not wait longer.
    pub(super) fn next(&mut self, now_ms: i64) -> Option<&Entry> {
        self.ripen(now_ms);
        let idle = || {
            let early = |uid: &&Str| matches!(self.entries[*uid].at, At::BackOff { error: false, .. });
            self.backoff.iter().map(|(_, uid)| uid).find(early).cloned()
        };
        let uid = self.active.first().map(|place| place.uid.clone()).or_else(idle)?;
        self.leave(&uid);
        let entry = self.entries.get_mut(&uid)?;
        entry.attempts += 1;
        Some(entry)
    }

    /// The pod ran nowhere, for these reasons.
    pub(super) fn rejected(&mut self, uid: &str, by: BTreeSet<Plugin>, now_ms: i64) {
        self.leave(uid);
        if let Some(entry) = self.entries.get_mut(uid) {
            (entry.rejected_by, entry.failed_ms) = (by, now_ms);
            entry.at = At::Rejected(now_ms);
            self.rejected.insert((now_ms, uid.into()));
        }
    }

    /// Something went wrong; the pod is tried again later.
    pub(super) fn failed(&mut self, uid: &str, now_ms: i64) {
        self.leave(uid);
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.rejected_by.clear();
            entry.failed_ms = now_ms;
            let until_ms = entry.until_ms();
            entry.at = At::BackOff { until_ms, error: true };
            self.backoff.insert((until_ms, uid.into()));
        }
    }

    /// Something happened that may help some of the rejected.
    pub(super) fn happened(&mut self, event: Event<'_>, now_ms: i64) {
        let helped = |(_, uid): &&(i64, Str)| {
            let entry = &self.entries[uid];
            may_help(&entry.pod, &entry.rejected_by, event)
        };
        let helped: Vec<Str> = self.rejected.iter().filter(helped).map(|(_, uid)| uid.clone()).collect();
        for uid in helped {
            self.requeue(&uid, now_ms);
        }
    }

    /// When there may be something to do without any event.
    pub(super) fn next_ms(&self) -> Option<i64> {
        let backoff = self.backoff.first().map(|(until_ms, _)| *until_ms);
        let rejected = self.rejected.first().map(|(since_ms, _)| since_ms + REJECTED_MS_MAX);
        [backoff, rejected].into_iter().flatten().min()
    }

    fn ripen(&mut self, now_ms: i64) {
        let over = self.backoff.iter().take_while(|(until_ms, _)| *until_ms <= now_ms);
        let old = self.rejected.iter().take_while(|(since_ms, _)| since_ms + REJECTED_MS_MAX <= now_ms);
        let ripe: Vec<Str> = over.chain(old).map(|(_, uid)| uid.clone()).collect();
        for uid in ripe {
            self.activate(&uid, now_ms);
        }
    }

    /// To be tried again, when the pause after its last failure is over.
    fn requeue(&mut self, uid: &str, now_ms: i64) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let until_ms = entry.until_ms();
        if until_ms <= now_ms {
            return self.activate(uid, now_ms);
        }
        self.leave(uid);
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.at = At::BackOff { until_ms, error: false };
            self.backoff.insert((until_ms, uid.into()));
        }
    }

    fn activate(&mut self, uid: &str, now_ms: i64) {
        self.leave(uid);
        self.added += 1;
        let since = now_ms.saturating_mul(1_000_000).saturating_add(self.added % 1_000_000);
        if let Some(entry) = self.entries.get_mut(uid) {
            let place = Place { priority: entry.pod.priority, since, uid: uid.into() };
            entry.at = At::Active(place.clone());
            self.active.insert(place);
        }
    }

    /// Takes a pod from where it waits; a decision about it follows.
    fn leave(&mut self, uid: &str) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match std::mem::replace(&mut entry.at, At::Decided) {
            At::Active(place) => drop(self.active.remove(&place)),
            At::BackOff { until_ms, .. } => drop(self.backoff.remove(&(until_ms, uid.into()))),
            At::Rejected(since_ms) => drop(self.rejected.remove(&(since_ms, uid.into()))),
            At::Gated | At::Decided => {}
        }
    }
}

impl Entry {
    fn until_ms(&self) -> i64 {
        self.failed_ms.saturating_add(i64::try_from(backoff_ms(self.attempts)).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn put(waiting: &mut Waiting, name: &str, priority: i64, gated: bool, now_ms: i64) {
        let gates = if gated { vec![value!({"name": "g"})] } else { Vec::new() };
        let object = value!({"metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"priority": priority, "schedulingGates": gates}});
        let seen: Arc<Held<PodSeen>> = Arc::new(Held::from_object(&object).expect("a view"));
        let pod = seen.pod.as_ref().expect("readable").clone();
        waiting.put(&pod, &seen, now_ms);
    }

    fn next(waiting: &mut Waiting, now_ms: i64) -> String {
        waiting.next(now_ms).map_or_else(String::new, |entry| entry.pod.name.to_string())
    }

    #[test]
    fn the_most_important_comes_first_and_gated_ones_do_not() {
        let mut waiting = Waiting::default();
        for (name, priority, gated) in [("a", 0, false), ("b", 5, false), ("c", 9, true), ("d", 0, false)] {
            put(&mut waiting, name, priority, gated, 0);
        }
        let order: Vec<String> = (0..4).map(|_| next(&mut waiting, 0)).collect();
        assert_eq!(order, ["b", "a", "d", ""]);
        put(&mut waiting, "c", 9, false, 0);
        assert_eq!(next(&mut waiting, 0), "c");
    }

    #[test]
    fn failures_wait_and_rejections_wait_for_help() {
        let mut waiting = Waiting::default();
        put(&mut waiting, "a", 0, false, 0);
        assert_eq!(next(&mut waiting, 0), "a");
        waiting.failed("a", 0);
        assert_eq!((waiting.next_ms(), next(&mut waiting, 999)), (Some(1_000), String::new()));
        assert_eq!(next(&mut waiting, 1_000), "a");
        waiting.rejected("a", BTreeSet::from([Plugin::NodeResourcesFit]), 1_000);
        let other = Pod::default();
        waiting.happened(Event::PodPlaced(&other), 1_001);
        assert_eq!(next(&mut waiting, 1_002), "", "a pod more is no help");
        waiting.happened(Event::PodGone(&other), 1_002);
        assert_eq!(next(&mut waiting, 1_003), "a", "nothing else is to do");
        waiting.rejected("a", BTreeSet::from([Plugin::NodeAffinity]), 1_003);
        assert_eq!(waiting.next_ms(), Some(301_003));
        assert_eq!(next(&mut waiting, 301_003), "a");
        assert!(waiting.remove("a").is_some() && waiting.next_ms().is_none());
    }
}
