//! Whether the node is short of memory, disk or processes: what its conditions say, which pods it takes, and for how long a
//! condition stays after the last sign of it.

use std::sync::Arc;

use tokio::sync::watch;

use super::REASON;
use crate::admission;
use crate::observed::Verdict;
use crate::pod::Pod;
use crate::qos::{self, Class};

/// What a node can be short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Disk,
    Pid,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Memory, Self::Disk, Self::Pid];

    /// The type of the node's condition.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

/// What the node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressures([bool; 3]);

impl Pressures {
    pub fn of(kinds: &[Kind]) -> Self {
        Self(Kind::ALL.map(|kind| kinds.contains(&kind)))
    }

    pub fn has(self, kind: Kind) -> bool {
        self.0[kind as usize]
    }

    fn kinds(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }
}

/// When the node was last seen to be short of each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen([Option<i64>; 3]);

impl Seen {
    /// Takes what is met now, and says what the node is under: what was seen within the period too.
    pub(super) fn take(&mut self, met: Pressures, now_ms: i64, period_ms: i64) -> Pressures {
        Pressures(Kind::ALL.map(|kind| {
            let at_ms = &mut self.0[kind as usize];
            if met.has(kind) {
                *at_ms = Some(now_ms);
            }
            met.has(kind) || at_ms.is_some_and(|at_ms| now_ms - at_ms < period_ms)
        }))
    }
}

/// What the node is short of, as its parts share it: who watches it tells, and whoever takes pods or keeps the node's object
/// asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shared(Arc<watch::Sender<Pressures>>);

impl Default for Shared {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Pressures::default())))
    }
}

impl Shared {
    pub fn now(&self) -> Pressures {
        *self.0.borrow()
    }

    pub(crate) fn follow(&self) -> watch::Receiver<Pressures> {
        self.0.subscribe()
    }

    /// Tells whoever follows, where it is news.
    pub fn put(&self, pressures: Pressures) {
        self.0.send_if_modified(|known| std::mem::replace(known, pressures) != pressures);
    }
}

/// Pods that a system stands or falls with; nothing of the node is taken back from them (upstream's system priorities).
pub(super) fn is_critical(pod: Pod<'_>) -> bool {
    const SYSTEM_CRITICAL: i64 = 2_000_000_000;
    pod.priority() >= SYSTEM_CRITICAL
}

/// Whether a node in this state takes a pod: one that is short of memory takes pods that have asked for some, one that is short of
/// anything else takes none.
pub(crate) fn admit(pod: Pod<'_>, under: Pressures) -> Result<(), Verdict> {
    if under == Pressures::default() || is_critical(pod) {
        return Ok(());
    }
    if under == Pressures::of(&[Kind::Memory]) {
        let asked = qos::class(pod) != Class::BestEffort;
        if asked || admission::is_tolerated(pod, "node.kubernetes.io/memory-pressure", "", "NoSchedule") {
            return Ok(());
        }
    }
    let names: Vec<&str> = under.kinds().map(Kind::condition).collect();
    let message = format!("The node had condition: [{}]. ", names.join(" "));
    Err(Verdict { reason: REASON.to_owned(), message, ..Verdict::default() })
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;

    #[track_caller]
    fn check(spec: Value, under: &[Kind], expect: &str) {
        let pod = value!({"metadata": {"name": "a"}, "spec": spec});
        let seen =
            admit(Pod(&pod), Pressures::of(under)).map_or_else(|verdict| verdict.message, |()| "taken".to_owned());
        assert_eq!(seen, expect);
    }

    #[test]
    fn a_node_that_is_short_takes_what_it_can_bear() {
        let asking = || value!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]});
        let (memory, disk) = ([Kind::Memory], [Kind::Disk]);
        check(value!({}), &[], "taken");
        check(value!({}), &memory, "The node had condition: [MemoryPressure]. ");
        check(asking(), &memory, "taken");
        let tolerant = |key: &str| value!({"tolerations": [{"key": key, "operator": "Exists"}]});
        check(tolerant("node.kubernetes.io/memory-pressure"), &memory, "taken");
        check(tolerant("node.kubernetes.io/disk-pressure"), &memory, "The node had condition: [MemoryPressure]. ");
        check(asking(), &disk, "The node had condition: [DiskPressure]. ");
        check(asking(), &[Kind::Pid, Kind::Memory], "The node had condition: [MemoryPressure PIDPressure]. ");
        check(value!({"priority": 2_000_000_000}), &disk, "taken");
    }

    #[test]
    fn a_condition_stays_for_its_period() {
        let mut seen = Seen::default();
        let mut at = |met: &[Kind], now_ms| seen.take(Pressures::of(met), now_ms, 1000);
        assert_eq!(at(&[Kind::Disk], 0), Pressures::of(&[Kind::Disk]));
        assert_eq!(at(&[Kind::Memory], 999), Pressures::of(&[Kind::Memory, Kind::Disk]));
        assert_eq!(at(&[], 1000), Pressures::of(&[Kind::Memory]));
        assert_eq!(at(&[], 1999), Pressures::default());
    }
}
