//! The driver of every controller: watches become keys, keys wait in one queue, and a key's `reconcile` runs alone.
//!
//! It begins when it leads and every cache has held everything once; it gives out keys in the order in which their time
//! came, at most so many at once; what fails or panics is tried again after a pause that grows. The type of a
//! controller's state and future ends in [`Controller::new`], so that all of this is compiled once.

mod queue;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_stdx::clock::{Clock, Stopwatch};
use corten_stdx::error::Chain;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use tokio::sync::{Notify, watch};
use tracing::Instrument as _;

use self::queue::{Outcome, Queue};
use crate::backoff::Backoff;
use crate::cache::{Held, Key, View};
use crate::error::Error;
use crate::informer::{Change, Informer};

/// Keys of one controller that are looked at at the same time, where it does not say.
const CONCURRENCY: usize = 8;

/// Pauses after failures: short, since most are conflicts that the next look settles.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(10), longest: Duration::from_secs(300) };

/// When to look at a key again, besides when something changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Next {
    #[default]
    Change,
    After(Duration),
}

type Reconcile = dyn Fn(Key) -> BoxFuture<'static, Result<Next, Error>> + Send + Sync;

/// A watched kind: subscribes the queue, and tells how far its cache is.
type Source = Box<dyn FnOnce(Mark) -> Filling + Send>;

/// How far a cache is.
struct Filling {
    /// Resolves when it has held everything, or cannot be read for now.
    tried: BoxFuture<'static, ()>,
    /// Resolves when the controller may begin, as far as this cache is concerned.
    synced: BoxFuture<'static, ()>,
}

impl Filling {
    fn of<V: View>(informer: &Informer<V>) -> Self {
        let (tried, synced) = (informer.clone(), informer.clone());
        Self { tried: async move { tried.tried().await }.boxed(), synced: async move { synced.synced().await }.boxed() }
    }

    /// Nothing is waited for.
    fn done() -> Self {
        Self { tried: std::future::ready(()).boxed(), synced: std::future::ready(()).boxed() }
    }
}

/// Marks keys as to be looked at.
#[derive(Clone)]
pub struct Mark(Arc<Shared>);

impl Mark {
    pub fn now(&self, key: Key) {
        let now_ms = self.0.clock.now_ms();
        self.0.queue().add(key, now_ms);
        self.0.wake.notify_one();
    }
}

/// A controller that is not running yet.
pub struct Controller {
    name: &'static str,
    reconcile: Arc<Reconcile>,
    sources: Vec<Source>,
    concurrency: usize,
}

/// What a controller runs on.
#[derive(Clone)]
pub struct Driver {
    pub clock: Clock,
    pub random: Random,
    pub tasks: Tasks,
    pub leadership: Leadership,
}

/// Whether this process is the one that acts. A change of it starts and ends the controllers.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<bool>);

impl Leadership {
    /// There is no other process.
    pub fn alone() -> Self {
        Self(watch::channel(true).1)
    }

    /// Somebody else decides.
    pub fn told_by(leads: watch::Receiver<bool>) -> Self {
        Self(leads)
    }

    fn leads(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when this process leads, or never.
    async fn gained(&mut self) {
        if self.0.wait_for(|leads| *leads).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when it no longer does, or never.
    async fn lost(&mut self) {
        if self.0.wait_for(|leads| !*leads).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Counts of one controller since its start.
#[derive(Debug, Default)]
pub struct Metrics {
    pub reconciles: AtomicU64,
    pub failures: AtomicU64,
    pub panics: AtomicU64,
    pub busy_us: AtomicU64,
}

/// A controller that runs. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    name: &'static str,
    clock: Clock,
    random: Random,
    queue: Mutex<Queue>,
    wake: Notify,
    metrics: Metrics,
    start: watch::Sender<Start>,
}

/// How far a controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    Begun,
    /// Something that it watches cannot be read for now; it waits for it.
    Held,
    Synced,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Controller {
    /// A controller: its name (which spans and metrics carry), what it knows, and how it brings a key to what is wanted.
    pub fn new<C, F>(name: &'static str, context: Arc<C>, reconcile: fn(Arc<C>, Key) -> F) -> Self
    where
        C: Send + Sync + 'static,
        F: Future<Output = Result<Next, Error>> + Send + 'static,
    {
        let reconcile: Arc<Reconcile> = Arc::new(move |key| reconcile(context.clone(), key).boxed());
        Self { name, reconcile, sources: Vec::new(), concurrency: CONCURRENCY }
    }

    /// Looks at an object itself when it changes.
    #[must_use]
    pub fn watches<V: View>(self, informer: &Informer<V>) -> Self {
        self.watches_for(informer, |held| vec![held.head.key()])
    }

    /// Looks at the keys that an object means, before and after a change of it.
    #[must_use]
    pub fn watches_for<V: View>(
        self,
        informer: &Informer<V>,
        keys: impl Fn(&Held<V>) -> Vec<Key> + Send + 'static,
    ) -> Self {
        self.source(informer, keys, |_| true, true)
    }

    /// The same, but for changes that the view does not show: a node's state is renewed all the time.
    #[must_use]
    pub fn watches_view_for<V: View + PartialEq>(
        self,
        informer: &Informer<V>,
        keys: impl Fn(&Held<V>) -> Vec<Key> + Send + 'static,
    ) -> Self {
        self.source(informer, keys, view_changed, true)
    }

    /// The same, but the controller begins without it, and has to tell itself what that means (`Informer::is_synced`).
    #[must_use]
    pub fn hears_view_for<V: View + PartialEq>(
        self,
        informer: &Informer<V>,
        keys: impl Fn(&Held<V>) -> Vec<Key> + Send + 'static,
    ) -> Self {
        self.source(informer, keys, view_changed, false)
    }

    fn source<V: View>(
        mut self,
        informer: &Informer<V>,
        keys: impl Fn(&Held<V>) -> Vec<Key> + Send + 'static,
        counts: fn(&Change<'_, V>) -> bool,
        is_needed: bool,
    ) -> Self {
        let informer = informer.clone();
        self.sources.push(Box::new(move |mark: Mark| {
            informer.subscribe(move |change| {
                if !counts(change) {
                    return;
                }
                for held in [change.old, change.new].into_iter().flatten() {
                    for key in keys(held) {
                        mark.now(key);
                    }
                }
            });
            if is_needed { Filling::of(&informer) } else { Filling::done() }
        }));
        self
    }

    /// Runs when the controller begins, with the means to mark keys: for what is no object, or not known before.
    #[must_use]
    pub fn begins(mut self, begin: impl FnOnce(Mark) + Send + 'static) -> Self {
        self.sources.push(Box::new(move |mark: Mark| {
            begin(mark);
            Filling::done()
        }));
        self
    }

    #[must_use]
    pub fn concurrency(mut self, keys: usize) -> Self {
        self.concurrency = keys.max(1);
        self
    }

    /// Begins when this process leads.
    pub fn run(self, driver: &Driver) -> Handle {
        let shared = Arc::new(Shared {
            name: self.name,
            clock: driver.clock.clone(),
            random: driver.random.clone(),
            queue: Mutex::default(),
            wake: Notify::new(),
            metrics: Metrics::default(),
            start: watch::Sender::new(Start::Begun),
        });
        let handle = Handle(shared.clone());
        let tasks = driver.tasks.clone();
        let dispatch = Dispatch {
            shared,
            reconcile: self.reconcile,
            concurrency: self.concurrency,
            leadership: driver.leadership.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(self.name, dispatch.run(self.sources));
        handle
    }
}

impl Handle {
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Resolves when the controller leads and has seen everything that it watches.
    pub async fn synced(&self) {
        self.has_come_to(Start::Synced).await;
    }

    /// Resolves then, or when something that the controller watches cannot be read for now: whoever waits longer may wait for ever.
    pub async fn settled(&self) {
        self.has_come_to(Start::Held).await;
    }

    async fn has_come_to(&self, wanted: Start) {
        let mut start = self.0.start.subscribe();
        start.wait_for(|start| *start >= wanted).await.expect("the sender is held by this handle");
    }

    /// Keys that wait (those of a later time too) and keys that run.
    pub fn depth(&self) -> (usize, usize) {
        let queue = self.0.queue();
        (queue.waiting(), queue.running())
    }

    /// Marks keys from outside of a watch.
    pub fn mark(&self) -> Mark {
        Mark(self.0.clone())
    }
}

/// Whether a change is one that the view shows.
fn view_changed<V: PartialEq>(change: &Change<'_, V>) -> bool {
    change.old.map(|old| &old.view) != change.new.map(|new| &new.view)
}

struct Dispatch {
    shared: Arc<Shared>,
    reconcile: Arc<Reconcile>,
    concurrency: usize,
    leadership: Leadership,
    tasks: Tasks,
}

impl Dispatch {
    async fn run(mut self, sources: Vec<Source>) {
        let mut stopped = self.tasks.stopped();
        let mut leadership = self.leadership.clone();
        let begins = async {
            leadership.gained().await;
            // One after the other: what a later one marks may be found in the cache of an earlier one.
            for source in sources {
                let mut filling = source(Mark(self.shared.clone()));
                filling.tried.await;
                if (&mut filling.synced).now_or_never().is_none() {
                    self.shared.start.send_replace(Start::Held);
                    filling.synced.await;
                }
            }
        };
        tokio::select! {
            () = stopped.wait() => return,
            () = begins => {}
        }
        self.shared.start.send_replace(Start::Synced);
        let mut lost = self.leadership.clone();
        loop {
            if !self.leadership.leads() {
                tokio::select! {
                    () = stopped.wait() => return,
                    () = self.leadership.gained() => {}
                }
            }
            self.give_out();
            let next_ms = self.shared.queue().next_ms();
            let now_ms = self.shared.clock.now_ms();
            // What is due and was not given out waits for a place, not for the clock.
            let due = async {
                match next_ms.filter(|next_ms| *next_ms > now_ms) {
                    Some(next_ms) => self.shared.clock.sleep_until_ms(next_ms).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stopped.wait() => return,
                () = self.shared.wake.notified() => {}
                () = due => {}
                () = lost.lost() => {}
            }
        }
    }

    fn give_out(&self) {
        loop {
            let key = {
                let mut queue = self.shared.queue();
                if queue.running() >= self.concurrency {
                    return;
                }
                queue.next(self.shared.clock.now_ms())
            };
            let Some(key) = key else { return };
            let one = one(self.shared.clone(), self.reconcile.clone(), key);
            // At the end it may wait for a cache that nobody feeds any more. The next process looks at every key anew.
            self.tasks.spawn_endless(self.shared.name, one);
        }
    }
}

/// Looks at one key.
async fn one(shared: Arc<Shared>, reconcile: Arc<Reconcile>, key: Key) {
    let span = tracing::info_span!("reconcile", controller = shared.name, %key);
    let took = Stopwatch::start();
    let looked = AssertUnwindSafe(async { reconcile(key.clone()).await }).catch_unwind().instrument(span.clone()).await;
    let metrics = &shared.metrics;
    metrics.reconciles.fetch_add(1, Ordering::Relaxed);
    metrics.busy_us.fetch_add(u64::try_from(took.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    let now_ms = shared.clock.now_ms();
    let outcome = match &looked {
        Ok(Ok(Next::Change)) => Outcome::Done,
        Ok(Ok(Next::After(pause))) => {
            Outcome::Again(now_ms.saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)))
        }
        Ok(Err(_)) | Err(_) => Outcome::Failed,
    };
    let failures = shared.queue().done(&key, outcome, now_ms, PAUSES, &shared.random);
    shared.wake.notify_one();
    let _entered = span.enter();
    match looked {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            metrics.failures.fetch_add(1, Ordering::Relaxed);
            if error.is_conflict() || error.is_not_found() {
                tracing::debug!(failures, error = %Chain(&error), "something changed meanwhile, to be looked at again");
            } else {
                tracing::warn!(failures, error = %Chain(&error), "not as wanted yet, to be looked at again");
            }
        }
        Err(_) => {
            metrics.failures.fetch_add(1, Ordering::Relaxed);
            metrics.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(failures, "reconcile panicked, to be looked at again");
        }
    }
}
