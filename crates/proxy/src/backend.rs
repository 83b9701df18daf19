//! Where requests are answered: endpoints with what is known of them, and the choice between two of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// How long an endpoint that cannot be reached gets nothing: doubled with each failure in a row.
const REST_MS_MIN: u64 = 500;
const REST_MS_MAX: u64 = 10_000;

/// One endpoint, shared by all cores and by every configuration that names its address.
#[derive(Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// Requests that it has and that are not answered.
    in_flight: AtomicU32,
    /// Failures in a row to reach it.
    failures: AtomicU32,
    /// Milliseconds of the edge's own clock before which it gets nothing.
    rests_until_ms: AtomicU64,
    /// No configuration names it any more, or it is draining: no connection to it is kept.
    retired: AtomicBool,
}

/// A request that an endpoint has; it has it no more when this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(pub(crate) Arc<Endpoint>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            in_flight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            rests_until_ms: AtomicU64::new(0),
            retired: AtomicBool::new(false),
        }
    }

    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    pub(crate) fn reached(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.rests_until_ms.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn not_reached(&self, now_ms: u64) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(8);
        let rest_ms = (REST_MS_MIN << failures).min(REST_MS_MAX);
        self.rests_until_ms.store(now_ms + rest_ms, Ordering::Relaxed);
    }

    pub(crate) fn retire(&self, retired: bool) {
        self.retired.store(retired, Ordering::Relaxed);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Failures in a row to reach it, for whoever asks how it is.
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn is_resting(&self, now_ms: u64) -> bool {
        self.rests_until_ms.load(Ordering::Relaxed) > now_ms
    }
}

/// The endpoints of one backend: those that take new requests, or, where there are none, those that are draining.
#[derive(Debug, Default)]
pub(crate) struct Backend {
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
}

impl Backend {
    /// Of two drawn endpoints the one with less to do; neither one that was tried nor, while another is there, one that rests.
    pub(crate) fn pick(&self, tried: &[SocketAddr], now_ms: u64, random: u64) -> Option<&Arc<Endpoint>> {
        let is_open = |endpoint: &&Arc<Endpoint>| !tried.contains(&endpoint.address);
        let is_fit = |endpoint: &&Arc<Endpoint>| is_open(endpoint) && !endpoint.is_resting(now_ms);
        match self.endpoints.iter().filter(is_fit).count() {
            0 => draw(self.endpoints.iter().filter(is_open).collect::<Vec<_>>().as_slice(), random),
            fit if fit == self.endpoints.len() => draw(self.endpoints.iter().collect::<Vec<_>>().as_slice(), random),
            _ => draw(self.endpoints.iter().filter(is_fit).collect::<Vec<_>>().as_slice(), random),
        }
    }
}

fn draw<'a>(among: &[&'a Arc<Endpoint>], random: u64) -> Option<&'a Arc<Endpoint>> {
    let count = u64::try_from(among.len()).unwrap_or(u64::MAX);
    if count <= 1 {
        return among.first().copied();
    }
    let first = random % count;
    let second = (first + 1 + (random >> 32) % (count - 1)) % count;
    let at = |index: u64| among[usize::try_from(index).expect("an index of this very slice")];
    let (first, second) = (at(first), at(second));
    Some(if second.in_flight() < first.in_flight() { second } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(ports: &[u16]) -> Backend {
        let endpoint = |port: &u16| Arc::new(Endpoint::new(SocketAddr::from(([127, 0, 0, 1], *port))));
        Backend { endpoints: ports.iter().map(endpoint).collect() }
    }

    fn picked(backend: &Backend, tried: &[SocketAddr], now_ms: u64) -> Vec<u16> {
        let draws = (0..64_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut ports: Vec<_> =
            draws.filter_map(|random| backend.pick(tried, now_ms, random).map(|e| e.address.port())).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    #[test]
    fn all_get_their_share() {
        assert_eq!(picked(&backend(&[1, 2, 3]), &[], 0), [1, 2, 3]);
        assert_eq!(picked(&backend(&[1]), &[], 0), [1]);
        assert!(picked(&backend(&[]), &[], 0).is_empty());
    }

    #[test]
    fn the_one_with_less_to_do_gets_it() {
        let backend = backend(&[1, 2]);
        let busy = backend.endpoints[0].begin();
        assert_eq!(picked(&backend, &[], 0), [2]);
        drop(busy);
        assert_eq!(picked(&backend, &[], 0), [1, 2]);
    }

    #[test]
    fn one_that_cannot_be_reached_rests() {
        let backend = backend(&[1, 2]);
        backend.endpoints[0].not_reached(1000);
        assert_eq!(picked(&backend, &[], 1000), [2]);
        assert_eq!(picked(&backend, &[], 1000 + REST_MS_MIN), [1, 2]);
        backend.endpoints[0].not_reached(2000);
        assert_eq!(picked(&backend, &[], 2000 + REST_MS_MIN), [2]);
        backend.endpoints[1].not_reached(2000);
        assert_eq!(picked(&backend, &[], 2000), [1, 2], "where all rest, all are tried");
        let tried = [backend.endpoints[1].address];
        assert_eq!(picked(&backend, &tried, 2000), [1]);
        backend.endpoints[0].reached();
        assert_eq!(picked(&backend, &[], 2000), [1]);
    }
}
