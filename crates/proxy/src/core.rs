//! What one core's connections share: the routes in force, idle connections to servers, counters, the log. A core is one
//! thread with a runtime of its own; nothing here is locked.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use tokio::sync::watch;
use tokio::time::Instant;

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

/// One core's hold on the table that all share. Requests are counted on it and not on the table: a count that all cores change
/// with each request would travel between them.
pub(crate) struct Routes(Arc<Table>);

impl Deref for Routes {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.0
    }
}

pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) stats: Arc<Stats>,
    pub(crate) pool: Pool,
    pub(crate) log: AccessLog,
    table: RefCell<Rc<Routes>>,
    tables: RefCell<watch::Receiver<Arc<Table>>>,
    is_draining: Cell<bool>,
    random: Cell<u64>,
    /// What the clock showed at a moment.
    shown: Cell<(Instant, i64)>,
}

/// How long the time of day is told from an earlier look at the clock.
const SHOWN_MAX: Duration = Duration::from_millis(100);

impl Core {
    pub(crate) fn new(
        settings: Settings,
        clock: Clock,
        random: &Random,
        stats: Arc<Stats>,
        log: AccessLog,
        tables: watch::Receiver<Arc<Table>>,
    ) -> Rc<Self> {
        let table = RefCell::new(Rc::new(Routes(tables.borrow().clone())));
        let random = Cell::new(random.next_u64() | 1);
        let shown = Cell::new((Instant::now(), clock.now_ms()));
        let (pool, tables, is_draining) = (Pool::default(), RefCell::new(tables), Cell::new(false));
        Rc::new(Self { settings, clock, stats, pool, log, table, tables, is_draining, random, shown })
    }

    /// The routes in force. A request keeps what it was given.
    pub(crate) fn table(&self) -> Rc<Routes> {
        let mut tables = self.tables.borrow_mut();
        // An error means that no new table will come.
        if tables.has_changed().unwrap_or(false) {
            *self.table.borrow_mut() = Rc::new(Routes(tables.borrow_and_update().clone()));
            self.pool.sweep();
        }
        self.table.borrow().clone()
    }

    pub(crate) fn drain(&self) {
        self.is_draining.set(true);
    }

    /// Every connection ends with the answer that it is at.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
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

    /// The time of day at a moment that has just been, in milliseconds of Unix time.
    pub(crate) fn at_ms(&self, moment: Instant) -> i64 {
        let (looked, shown_ms) = self.shown.get();
        let since = moment.duration_since(looked);
        if since <= SHOWN_MAX {
            return shown_ms + i64::from(since.subsec_millis());
        }
        let now_ms = self.clock.now_ms();
        self.shown.set((moment, now_ms));
        now_ms
    }
}
