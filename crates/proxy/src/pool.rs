//! Connections to servers that wait for their next request, of one core.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ahash::HashMap;
use tokio::time::Instant;

use crate::backend::Endpoint;
use crate::link::Link;

/// Idle connections to one endpoint.
const IDLE_PER_ENDPOINT_MAX: usize = 128;

/// How long one is kept. Servers close theirs after five seconds and more; most do.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// For a request that must not be sent twice, one has to be fresher: a server may be about to close it.
const IDLE_MAX_UNREPEATABLE: Duration = Duration::from_millis(1000);

#[derive(Default)]
pub(crate) struct Pool(RefCell<HashMap<SocketAddr, Idle>>);

struct Idle {
    endpoint: Arc<Endpoint>,
    links: Vec<(Link, Instant)>,
}

impl Pool {
    /// The connection that was used last, if it is still good.
    pub(crate) fn take(&self, endpoint: &Endpoint, is_repeatable: bool, now: Instant) -> Option<Link> {
        let mut pool = self.0.borrow_mut();
        let idle = pool.get_mut(&endpoint.address)?;
        let limit = if is_repeatable { IDLE_MAX } else { IDLE_MAX_UNREPEATABLE };
        while let Some((link, since)) = idle.links.pop() {
            if now.duration_since(since) > limit {
                // The others have waited even longer.
                idle.links.retain(|(_, since)| now.duration_since(*since) <= IDLE_MAX);
                return None;
            }
            if !link.is_disturbed() {
                return Some(link);
            }
        }
        None
    }

    pub(crate) fn put(&self, endpoint: &Arc<Endpoint>, mut link: Link, now: Instant) {
        if endpoint.is_retired() {
            return;
        }
        link.rest();
        let mut pool = self.0.borrow_mut();
        let idle =
            pool.entry(endpoint.address).or_insert_with(|| Idle { endpoint: endpoint.clone(), links: Vec::new() });
        // The same address may have come back as a new endpoint.
        if !Arc::ptr_eq(&idle.endpoint, endpoint) {
            idle.endpoint = endpoint.clone();
        }
        if idle.links.len() < IDLE_PER_ENDPOINT_MAX {
            idle.links.push((link, now));
        }
    }

    /// Closes what has waited too long, and what leads to endpoints that are not in use any more.
    pub(crate) fn sweep(&self) {
        self.0.borrow_mut().retain(|_, idle| {
            if idle.endpoint.is_retired() {
                return false;
            }
            idle.links.retain(|(link, since)| since.elapsed() <= IDLE_MAX && !link.is_disturbed());
            !idle.links.is_empty()
        });
    }
}
