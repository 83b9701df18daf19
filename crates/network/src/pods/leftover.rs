//! What is left of connections with addresses that are nobody's any more.
//!
//! To find them the kernel goes through all connections that it tracks, of every namespace: tens of milliseconds. So it is asked
//! for many addresses at once: those of pods that go while it is being asked wait for the next time, together.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_sys::conntrack::{Tracking, Tuple};
use corten_sys::namespace::NetNs;
use corten_sys::netlink;
use corten_sys::sockets::Sockets;

#[derive(Debug)]
pub(super) struct Leftovers {
    /// Addresses whose connections are still to be ended.
    waiting: Mutex<BTreeSet<Ipv4Addr>>,
    kernel: Mutex<Kernel>,
}

#[derive(Debug)]
struct Kernel {
    tracking: Tracking,
    sockets: Sockets,
}

impl Leftovers {
    /// # Errors
    /// When the namespace may not be entered.
    pub(super) fn open(host: &NetNs) -> Result<Self, netlink::Error> {
        let kernel = Kernel { tracking: Tracking::open(host)?, sockets: Sockets::open(host)? };
        Ok(Self { waiting: Mutex::default(), kernel: Mutex::new(kernel) })
    }

    /// Ends what is left of connections with this address; afterwards it may be somebody else's.
    ///
    /// # Errors
    /// When the kernel refuses; what it was asked for at the same time is left too.
    pub(super) fn end(&self, address: Ipv4Addr) -> Result<(), netlink::Error> {
        lock(&self.waiting).insert(address);
        let mut kernel = lock(&self.kernel);
        let addresses = std::mem::take(&mut *lock(&self.waiting));
        // Somebody else has ended them while this one waited.
        if addresses.is_empty() { Ok(()) } else { kernel.end(&addresses) }
    }
}

impl Kernel {
    /// Programs of this node are told at once. What the kernel remembers of translated connections would lead their next packet to
    /// nobody; forgotten, it is answered with a reset, by another endpoint or by the rules. Connections that have begun to end are
    /// left alone: their ports may be in use anew.
    fn end(&mut self, addresses: &BTreeSet<Ipv4Addr>) -> Result<(), netlink::Error> {
        let is_of = |tuple: &Tuple| addresses.contains(&tuple.source.0);
        let flows = self.tracking.list(|flow| flow.is_under_way && (is_of(&flow.first) || is_of(&flow.answer)))?;
        self.sockets.end(&flows.iter().map(|flow| flow.first).collect::<Vec<_>>())?;
        flows.iter().try_for_each(|flow| self.tracking.forget(flow))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Asking again for what is ended already is no harm, so a panic leaves nothing that must not be seen.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
