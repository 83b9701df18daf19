//! What one core's connections share: the routes in force, idle connections to servers, counters, the log. A core is one
//! thread with a runtime of its own; nothing here is locked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use tokio::sync::watch;

use crate::access::AccessLog;
use crate::codec::Limits;
use crate::pool::Pool;
use crate::stats::Stats;
use crate::table::Table;

/// Times that a client may take. Each ends a way to hold a connection for nothing.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From a head's first byte to its last.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Without any progress of a body.
    pub body: Duration,
    /// Without a byte in a connection that has left HTTP.
    pub tunnel: Duration,
    /// For what a client still sends after it was refused.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(60),
            tunnel: Duration::from_secs(3600),
            linger: Duration::from_secs(2),
        }
    }
}

/// Settings of the whole edge that no route changes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// Client connections of one core.
    pub connections_max: u64,
    /// Requests on one connection, after which it is closed: memory of long connections is given back.
    pub requests_per_connection_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let (limits, timeouts) = (Limits::default(), Timeouts::default());
        Self { limits, timeouts, connections_max: 16_384, requests_per_connection_max: 100_000 }
    }
}

pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) stats: Arc<Stats>,
    pub(crate) pool: Pool,
    pub(crate) log: AccessLog,
    table: RefCell<Arc<Table>>,
    tables: RefCell<watch::Receiver<Arc<Table>>>,
    draining: watch::Receiver<bool>,
    random: Cell<u64>,
}

impl Core {
    pub(crate) fn new(
        settings: Settings,
        clock: Clock,
        random: &Random,
        stats: Arc<Stats>,
        log: AccessLog,
        tables: watch::Receiver<Arc<Table>>,
        draining: watch::Receiver<bool>,
    ) -> Rc<Self> {
        let table = RefCell::new(tables.borrow().clone());
        let random = Cell::new(random.next_u64() | 1);
        let (pool, tables) = (Pool::default(), RefCell::new(tables));
        Rc::new(Self { settings, clock, stats, pool, log, table, tables, draining, random })
    }

    /// The routes in force. A request keeps what it was given.
    pub(crate) fn table(&self) -> Arc<Table> {
        let mut tables = self.tables.borrow_mut();
        // An error means that no new table will come.
        if tables.has_changed().unwrap_or(false) {
            *self.table.borrow_mut() = tables.borrow_and_update().clone();
            self.pool.sweep();
        }
        self.table.borrow().clone()
    }

    /// Every connection ends with the answer that it is at.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// A number to draw with; nothing secret hangs on it.
    pub(crate) fn random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        state
    }

    /// Milliseconds by which endpoints rest.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now_ms()).unwrap_or_default()
    }
}
