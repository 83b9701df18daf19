//! Which ports of the nodes are taken. The Services of the store are the truth; this process, the only one that writes
//! them, keeps the set in memory.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use corten_stdx::random::Random;

const FIRST: i64 = 30_000;
const LAST: i64 = 32_767;

/// Ports below this are given out last, so that a port that somebody names is likely to be free (KEP-3668).
const DYNAMIC_FROM: i64 = FIRST + (LAST - FIRST + 1) / 32;

/// What a dry run shows for a port that would be chosen.
const DRY_RUN_FROM: i64 = LAST + 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PortError {
    #[error("range is full")]
    Full,
    #[error("provided port is already allocated")]
    Taken,
    #[error("provided port is not in the valid range. The range of valid ports is {FIRST}-{LAST}")]
    OutOfRange,
}

pub(super) struct Ports {
    taken: Mutex<BTreeSet<i64>>,
    random: Random,
}

impl Ports {
    pub(super) fn new(random: Random) -> Self {
        Self { taken: Mutex::default(), random }
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeSet<i64>) -> T) -> T {
        change(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn take(&self, port: i64) -> Result<(), PortError> {
        match port {
            FIRST..=LAST => self.with(|taken| taken.insert(port)).then_some(()).ok_or(PortError::Taken),
            _ => Err(PortError::OutOfRange),
        }
    }

    fn has(&self, port: i64) -> bool {
        self.with(|taken| taken.contains(&port))
    }

    fn take_any(&self) -> Result<i64, PortError> {
        let random = self.random.next_u64();
        self.with(|taken| {
            let bands = [DYNAMIC_FROM..LAST + 1, FIRST..DYNAMIC_FROM];
            let free = bands.into_iter().find_map(|band| free_in(&band, taken, random)).ok_or(PortError::Full)?;
            taken.insert(free);
            Ok(free)
        })
    }

    pub(super) fn give_back(&self, ports: &[i64]) {
        self.with(|taken| taken.retain(|port| !ports.contains(port)));
    }
}

/// A free port of a band, from a random one on.
fn free_in(band: &Range<i64>, taken: &BTreeSet<i64>, random: u64) -> Option<i64> {
    let length = u64::try_from(band.end - band.start).ok().filter(|length| *length > 0)?;
    let start = band.start + i64::try_from(random % length).ok()?;
    (start..band.end).chain(band.start..start).find(|port| !taken.contains(port))
}

/// The ports of one write: taken at once, given back when it is dropped without having been committed. What the write
/// leaves goes when it is committed.
pub(super) struct Operation {
    ports: Arc<Ports>,
    dry_run: bool,
    taken: Vec<i64>,
    leaving: Vec<i64>,
}

impl Operation {
    pub(super) fn new(ports: Arc<Ports>, dry_run: bool) -> Self {
        Self { ports, dry_run, taken: Vec::new(), leaving: Vec::new() }
    }

    pub(super) fn take(&mut self, port: i64) -> Result<(), PortError> {
        if !self.dry_run {
            self.ports.take(port)?;
        } else if self.ports.has(port) || self.taken.contains(&port) {
            return Err(PortError::Taken);
        }
        self.taken.push(port);
        Ok(())
    }

    pub(super) fn take_any(&mut self) -> Result<i64, PortError> {
        let port = match self.dry_run {
            true => self.taken.iter().max().map_or(DRY_RUN_FROM, |port| port + 1),
            false => self.ports.take_any()?,
        };
        self.taken.push(port);
        Ok(port)
    }

    pub(super) fn leave(&mut self, port: i64) {
        self.leaving.push(port);
    }

    pub(super) fn commit(mut self) {
        if !self.dry_run {
            self.ports.give_back(&self.leaving);
        }
        self.taken.clear();
    }

    /// Neither gives back nor leaves anything.
    pub(super) fn keep(mut self) {
        self.taken.clear();
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.dry_run {
            self.ports.give_back(&self.taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Arc<Ports> {
        Arc::new(Ports::new(Random::seeded(1)))
    }

    #[test]
    fn a_write_that_fails_gives_back_and_one_that_succeeds_leaves() {
        let ports = ports();
        let mut failing = Operation::new(ports.clone(), false);
        assert_eq!(failing.take(30_080), Ok(()));
        assert_eq!(Operation::new(ports.clone(), false).take(30_080), Err(PortError::Taken));
        drop(failing);
        let mut first = Operation::new(ports.clone(), false);
        assert_eq!(first.take(30_080), Ok(()));
        first.commit();
        let mut second = Operation::new(ports.clone(), false);
        second.leave(30_080);
        assert!(ports.has(30_080), "only when it is written");
        second.commit();
        assert!(!ports.has(30_080));
        assert_eq!(Operation::new(ports, false).take(80), Err(PortError::OutOfRange));
    }

    #[test]
    fn ports_that_are_chosen_come_from_below_only_when_above_is_full() {
        let ports = ports();
        let mut all = Operation::new(ports.clone(), false);
        let above = LAST + 1 - DYNAMIC_FROM;
        for _ in 0..above {
            assert!(all.take_any().is_ok_and(|port| port >= DYNAMIC_FROM));
        }
        for _ in 0..DYNAMIC_FROM - FIRST {
            assert!(all.take_any().is_ok_and(|port| (FIRST..DYNAMIC_FROM).contains(&port)));
        }
        assert_eq!(all.take_any(), Err(PortError::Full));
    }

    #[test]
    fn a_dry_run_takes_nothing() {
        let ports = ports();
        let mut dry = Operation::new(ports.clone(), true);
        assert_eq!(dry.take(30_080), Ok(()));
        assert_eq!(dry.take(30_080), Err(PortError::Taken));
        assert_eq!(dry.take_any(), Ok(30_081));
        dry.commit();
        assert!(!ports.has(30_080));
    }
}
