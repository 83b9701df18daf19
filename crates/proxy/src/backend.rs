//! Where requests are answered: endpoints with what is known of them, and the choice between two of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::access::Member;

/// How long an endpoint that cannot be reached gets nothing: doubled with each failure in a row.
const REST_MS_MIN: u64 = 500;
const REST_MS_MAX: u64 = 10_000;

/// One endpoint, shared by all cores and by every configuration that names its address.
#[derive(Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// The address, for the log.
    pub(crate) member: Member,
    /// Requests that it has and that are not answered.
    in_flight: AtomicU32,
    /// All that it was given.
    requests: AtomicU64,
    /// Failures in a row to reach it.
    failures: AtomicU32,
    /// Milliseconds of the edge's own clock before which it gets nothing.
    rests_until_ms: AtomicU64,
    /// No configuration names it any more, or it is draining: no connection to it is kept.
    retired: AtomicBool,
}

/// A request that an endpoint has; it has it no more when this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a Endpoint);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            member: Member::new("endpoint", &address.to_string()),
            in_flight: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            rests_until_ms: AtomicU64::new(0),
            retired: AtomicBool::new(false),
        }
    }

    pub(crate) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
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

    /// Requests that it was given since somebody first named it; one that is given to it again counts again.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn is_resting(&self, now_ms: impl FnOnce() -> u64) -> bool {
        let until_ms = self.rests_until_ms.load(Ordering::Relaxed);
        until_ms > 0 && until_ms > now_ms()
    }
}

/// The endpoints of one backend: those that take new requests, or, where there are none, those that are draining.
#[derive(Debug, Default)]
pub(crate) struct Backend {
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
}

impl Backend {
    /// Of two drawn endpoints the one with less to do; neither one that was tried nor, while another is there, one that rests.
    /// The time is asked for only where one has ever failed.
    pub(crate) fn pick(&self, tried: &[&Endpoint], now_ms: impl Fn() -> u64, random: u64) -> Option<&Arc<Endpoint>> {
        let open =
            || self.endpoints.iter().filter(|endpoint| !tried.iter().any(|tried| tried.address == endpoint.address));
        let fit = || open().filter(|endpoint| !endpoint.is_resting(&now_ms));
        draw(fit, random).or_else(|| draw(open, random))
    }
}

/// `among` may give fewer from one call to the next: other cores say meanwhile that endpoints fail.
fn draw<'a, I: Iterator<Item = &'a Arc<Endpoint>>>(among: impl Fn() -> I, random: u64) -> Option<&'a Arc<Endpoint>> {
    let count = among().count();
    if count <= 1 {
        return among().next();
    }
    let below =
        |number: u64, limit: usize| usize::try_from(number % limit as u64).expect("below a number of this type");
    let first = below(random, count);
    let second = (first + 1 + below(random >> 32, count - 1)) % count;
    let (first, second) = (among().nth(first), among().nth(second));
    let (first, second) = (first.or(second)?, second.or(first)?);
    Some(if second.in_flight() < first.in_flight() { second } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(ports: &[u16]) -> Backend {
        let endpoint = |port: &u16| Arc::new(Endpoint::new(SocketAddr::from(([127, 0, 0, 1], *port))));
        Backend { endpoints: ports.iter().map(endpoint).collect() }
    }

    fn picked(backend: &Backend, tried: &[&Endpoint], now_ms: u64) -> Vec<u16> {
        let draws = (0..64_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut ports: Vec<_> =
            draws.filter_map(|random| backend.pick(tried, || now_ms, random).map(|e| e.address.port())).collect();
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
        assert_eq!([0, 1].map(|at: usize| backend.endpoints[at].requests()), [1, 0]);
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
        let tried = [&*backend.endpoints[1]];
        assert_eq!(picked(&backend, &tried, 2000), [1]);
        backend.endpoints[0].reached();
        assert_eq!(picked(&backend, &[], 2000), [1]);
    }
}
