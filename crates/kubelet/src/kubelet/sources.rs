//! The objects that pods of this node take something from, followed as long as a pod refers to them: what changes there
//! changes in its volumes, and a start that failed for want of them is tried again at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_apimachinery::value::Str;
use corten_client::Informers;
use corten_client::cache::Key;
use corten_client::informer::Scope;

use super::Kubelet;
use crate::deed;
use crate::marks::{Mark, Marks};
use crate::observed::Step;
use crate::sources::{Kind, references};
use crate::volumes::token_keys;
use crate::worker::Outcome;

/// Part of a token's life after which it is renewed.
const TOKEN_PART: (i64, i64) = (8, 10);
const TOKEN_S_MAX: i64 = 24 * 3600;

type Source = (Kind, Key);

/// Which pods refer to what.
pub(super) struct Followed {
    informers: Informers,
    marks: Arc<Marks>,
    of_pods: BTreeMap<Str, BTreeSet<Source>>,
}

impl Followed {
    pub(super) fn new(informers: Informers, marks: Arc<Marks>) -> Self {
        Self { informers, marks, of_pods: BTreeMap::new() }
    }

    fn pods_of(&self, source: &Source) -> Vec<Str> {
        self.of_pods.iter().filter(|(_, sources)| sources.contains(source)).map(|(uid, _)| uid.clone()).collect()
    }

    fn set(&mut self, uid: &Str, sources: BTreeSet<Source>) {
        let old = self.of_pods.get(uid).cloned().unwrap_or_default();
        if old == sources {
            return;
        }
        for source in sources.difference(&old).filter(|source| self.pods_of(source).is_empty()) {
            let (marks, mark) = (self.marks.clone(), Mark::Source(source.0, source.1.clone()));
            self.informers.of::<()>(scope(source)).subscribe(move |_| marks.put(mark.clone()));
        }
        self.of_pods.insert(uid.clone(), sources.clone());
        if sources.is_empty() {
            self.of_pods.remove(uid);
        }
        for source in old.difference(&sources).filter(|source| self.pods_of(source).is_empty()) {
            self.informers.end::<()>(&scope(source));
        }
    }
}

fn scope((kind, key): &Source) -> Scope {
    let fields = format!("metadata.name={}", key.name);
    Scope { namespace: key.namespace.clone(), fields, ..Scope::metadata(kind.resource()) }
}

impl Kubelet {
    pub(super) fn follow(&mut self, uid: &Str) {
        let Some(worker) = self.workers.get(uid) else { return };
        let pod = worker.pod();
        let wanted = if worker.seen.ending.is_some() { BTreeSet::new() } else { references(pod) };
        let namespace = pod.namespace();
        let sources = wanted.into_iter().map(|(kind, name)| (kind, Key::new(namespace, name))).collect();
        self.followed.set(uid, sources);
    }

    pub(super) fn unfollow(&mut self, uid: &Str) {
        self.followed.set(uid, BTreeSet::new());
    }

    pub(super) fn source_changed(&mut self, kind: Kind, key: &Key) {
        let now_ms = self.ground.parts.clock.now_ms();
        for uid in self.followed.pods_of(&(kind, key.clone())) {
            let Some(worker) = self.workers.get_mut(&uid) else { continue };
            worker.refresh = true;
            if let Step::Absent { not_before_ms } = &mut worker.seen.volumes {
                *not_before_ms = now_ms;
            }
            for known in worker.seen.containers.values_mut() {
                if let Some(failure) = &mut known.failure
                    && failure.reason == "CreateContainerConfigError"
                {
                    failure.retry_ms = now_ms;
                }
            }
            self.look(&uid);
        }
    }

    /// Makes volumes true again that follow what has changed, and renews tokens.
    pub(super) fn refresh(&mut self, uid: &Str, now_ms: i64) {
        let Some(worker) = self.workers.get_mut(uid) else { return };
        let stands = worker.seen.volumes == Step::There && worker.seen.ending.is_none();
        if !stands {
            return;
        }
        let lives = token_keys(worker.pod()).into_iter().map(|key| key.expiration_s.min(TOKEN_S_MAX)).min();
        if let Some(life_s) = lives {
            let at_ms = worker.tokens_at_ms + life_s * 1000 * TOKEN_PART.0 / TOKEN_PART.1;
            worker.refresh |= worker.tokens_at_ms > 0 && now_ms >= at_ms;
            if worker.tokens_at_ms == 0 {
                worker.tokens_at_ms = now_ms;
            } else {
                worker.wake_ms = Some(worker.wake_ms.map_or(at_ms, |wake_ms| wake_ms.min(at_ms.max(now_ms + 1000))));
            }
        }
        if !worker.refresh || worker.seen.volumes_refreshing {
            return;
        }
        (worker.refresh, worker.seen.volumes_refreshing, worker.tokens_at_ms) = (false, true, now_ms);
        let of = self.subjected(&self.workers[uid]);
        self.spawn(uid, async move { Outcome::Refreshed(deed::prepare_volumes(of, true).await) });
    }
}
