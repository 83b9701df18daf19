//! Tasks that nobody loses: a panic in one is logged and counted, and shutdown waits for those that are left.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::Instrument as _;

/// A family of tasks with one end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Family>);

#[derive(Debug)]
struct Family {
    running: AtomicUsize,
    /// How many run under each name that was ever given.
    names: RwLock<BTreeMap<&'static str, Arc<AtomicUsize>>>,
    panics: AtomicU64,
    idle: Notify,
    stop: watch::Sender<bool>,
}

/// Resolves when the family is told to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopped(watch::Receiver<bool>);

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    pub fn new() -> Self {
        let family = Family {
            running: AtomicUsize::new(0),
            names: RwLock::default(),
            panics: AtomicU64::new(0),
            idle: Notify::new(),
            stop: watch::Sender::new(false),
        };
        Self(Arc::new(family))
    }

    /// Runs a future as a task under a name; a panic in it is logged and counted, and harms nothing else.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let guard = Guard::new(&self.0, name);
        let span = tracing::info_span!("task", name);
        tokio::spawn(
            async move {
                let _guard = guard;
                future.await;
            }
            .instrument(span),
        );
    }

    /// The same for what has no end of its own, and may be cut off anywhere: it is when the family is told to stop.
    pub fn spawn_endless(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let mut stopped = self.stopped();
        self.spawn(name, async move {
            tokio::select! {
                () = stopped.wait() => {}
                () = future => {}
            }
        });
    }

    /// The same on the thread that asks, for a future that never leaves it; in a runtime of one thread. No span is made:
    /// this is for what comes in numbers.
    pub fn spawn_local(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        let guard = Guard::new(&self.0, name);
        tokio::task::spawn_local(async move {
            let _guard = guard;
            future.await;
        });
    }

    /// A handle that resolves when [`Tasks::stop`] is called.
    pub fn stopped(&self) -> Stopped {
        Stopped(self.0.stop.subscribe())
    }

    /// Tells the tasks to end and waits for them up to `limit`. Returns how many are still running.
    pub async fn stop(&self, limit: Duration) -> usize {
        self.0.stop.send_replace(true);
        let all_ended = async {
            loop {
                let idle = self.0.idle.notified();
                if self.running() == 0 {
                    return;
                }
                idle.await;
            }
        };
        match tokio::time::timeout(limit, all_ended).await {
            Ok(()) => 0,
            Err(_) => self.running(),
        }
    }

    pub fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    /// The names of the tasks that are running, with how many have each.
    pub fn names(&self) -> Vec<(&'static str, usize)> {
        let names = self.0.names.read().unwrap_or_else(PoisonError::into_inner);
        let counts = names.iter().map(|(name, count)| (*name, count.load(Ordering::SeqCst)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Panics of tasks since the start.
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }
}

impl Stopped {
    pub async fn wait(&mut self) {
        // An error means that the family is gone, which is an end too.
        if self.0.wait_for(|stop| *stop).await.is_err() {
            tracing::debug!("task family dropped");
        }
    }

    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }
}

/// Counts a task as long as it lives.
struct Guard {
    family: Arc<Family>,
    name: &'static str,
    of_name: Arc<AtomicUsize>,
}

impl Guard {
    fn new(family: &Arc<Family>, name: &'static str) -> Self {
        family.running.fetch_add(1, Ordering::SeqCst);
        let of_name = family.counter(name);
        of_name.fetch_add(1, Ordering::SeqCst);
        Self { family: family.clone(), name, of_name }
    }
}

impl Family {
    fn counter(&self, name: &'static str) -> Arc<AtomicUsize> {
        if let Some(known) = self.names.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return known.clone();
        }
        self.names.write().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.family.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(task = self.name, "task panicked");
        }
        self.of_name.fetch_sub(1, Ordering::SeqCst);
        if self.family.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.family.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_counted_and_stop_waits() {
        let tasks = Tasks::new();
        tasks.spawn("panics", async { panic!("on purpose") });
        let mut stopped = tasks.stopped();
        tasks.spawn("waits", async move { stopped.wait().await });
        assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
        assert_eq!(tasks.panics(), 1);
    }

    #[tokio::test]
    async fn stop_names_what_does_not_end() {
        let tasks = Tasks::new();
        let mut stopped = tasks.stopped();
        tasks.spawn("ends", async move { stopped.wait().await });
        tasks.spawn_endless("is cut off", std::future::pending());
        tasks.spawn("hangs", std::future::pending());
        tasks.spawn("hangs", std::future::pending());
        assert_eq!(tasks.names(), [("ends", 1), ("hangs", 2), ("is cut off", 1)]);
        assert_eq!(tasks.stop(Duration::from_millis(10)).await, 2);
        assert_eq!(tasks.names(), [("hangs", 2)]);
    }
}
