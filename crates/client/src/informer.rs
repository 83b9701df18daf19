//! Follows a kind: a cache of its objects that is never behind for long and never misses a change silently.
//!
//! It begins with a streaming list (or list and watch, where the server has none), goes on from the last revision when
//! a watch ends, and begins anew with everything when that revision is no longer kept. What changed is told to every
//! subscriber in the same order, deletes with the last object; a late subscriber is told everything first.

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_apimachinery::value::{Str, Value};
use corten_stdx::clock::Clock;
use corten_stdx::error::Chain;
use corten_stdx::random::Random;
use corten_stdx::task::{Stopped, Tasks};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::cache::{Cache, Held, Key, View};
use crate::client::{Client, From, Select, WatchEvent};
use crate::error::Error;
use crate::resource::Resource;

/// Objects a page, where the server has no streaming lists.
const PAGE: usize = 500;

/// A watch lives so long and up to as long again, so that those of many clients do not end together.
const WATCH_S_MIN: u64 = 300;

/// Pauses of a watch that fails, and after how long without a failure they begin anew.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(800), longest: Duration::from_secs(30) };
const HEALTHY_MS: i64 = 120_000;

/// Before a watch that ended as it should is begun again.
const PAUSE: Duration = Duration::from_millis(100);

/// One change of an object. `old` is absent for a new one, `new` for one that is gone.
pub struct Change<'a, V> {
    pub old: Option<&'a Arc<Held<V>>>,
    pub new: Option<&'a Arc<Held<V>>>,
}

impl<'a, V> Change<'a, V> {
    /// The object as it is, or as it last was.
    pub fn held(&self) -> &'a Arc<Held<V>> {
        self.new.or(self.old).expect("a change has one side at least")
    }
}

type Subscriber<V> = Box<dyn Fn(&Change<'_, V>) + Send>;

/// A handle of a cache that follows a kind. Cheap to clone.
pub struct Informer<V>(Arc<Shared<V>>);

impl<V> Clone for Informer<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shared<V> {
    cache: Cache<V>,
    /// Held while a change is put into the cache and told: so everybody sees the same order.
    subscribers: Mutex<Vec<Subscriber<V>>>,
    reading: watch::Sender<Reading>,
    /// The revision up to which the cache misses nothing.
    revision: watch::Sender<u64>,
}

/// How far the first reading of everything has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reading {
    Begun,
    /// It has failed and is tried again: the server does not say, or cannot read an object itself.
    Failed,
    Whole,
}

/// How long a cache may take to show a write.
const CATCH_UP: Duration = Duration::from_secs(10);

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    pub resource: Resource,
    /// Empty for all.
    pub namespace: Str,
    pub labels: String,
    pub fields: String,
    pub metadata_only: bool,
}

impl Scope {
    pub fn all(resource: Resource) -> Self {
        Self { resource, namespace: Str::default(), labels: String::new(), fields: String::new(), metadata_only: false }
    }

    /// Metadata of everything.
    pub fn metadata(resource: Resource) -> Self {
        Self { metadata_only: true, ..Self::all(resource) }
    }
}

impl<V: View> Informer<V> {
    /// An informer that is fed by its creator.
    fn idle() -> Self {
        Self(Arc::new(Shared {
            cache: Cache::default(),
            subscribers: Mutex::default(),
            reading: watch::Sender::new(Reading::Begun),
            revision: watch::Sender::new(0),
        }))
    }

    pub fn cache(&self) -> &Cache<V> {
        &self.0.cache
    }

    /// Resolves when the cache has held everything once.
    pub async fn synced(&self) {
        self.has_come_to(Reading::Whole).await;
    }

    /// Resolves when the cache has held everything once, or has failed to be read, which may go on for long.
    pub async fn tried(&self) {
        self.has_come_to(Reading::Failed).await;
    }

    pub fn is_synced(&self) -> bool {
        *self.0.reading.borrow() == Reading::Whole
    }

    async fn has_come_to(&self, wanted: Reading) {
        let mut reading = self.0.reading.subscribe();
        reading.wait_for(|reading| *reading >= wanted).await.expect("the sender is held by this handle");
    }

    /// Waits until the cache shows what was written at a revision, so that the next look at a key sees this one's writes.
    /// Revisions are numbers that only rise (KEP-5504). An object that the scope leaves out is never waited for long.
    pub async fn caught_up(&self, revision: &str, clock: &Clock) -> Result<(), Error> {
        let wanted: u64 =
            revision.parse().map_err(|_| Error::Shape(format!("the revision {revision:?} is no number")))?;
        let mut shown = self.0.revision.subscribe();
        tokio::select! {
            reached = shown.wait_for(|shown| *shown >= wanted) => {
                reached.expect("the sender is held by this handle");
                Ok(())
            }
            () = clock.sleep(CATCH_UP) => Err(Error::Shape(format!("the cache has not reached revision {wanted} yet"))),
        }
    }

    /// Tells every change from now on, after everything that is there. The subscriber must not wait: it marks what is to
    /// be looked at again. It may read any cache.
    pub fn subscribe(&self, subscriber: impl Fn(&Change<'_, V>) + Send + 'static) {
        let mut subscribers = self.subscribers();
        for held in self.0.cache.all() {
            subscriber(&Change { old: None, new: Some(&held) });
        }
        subscribers.push(Box::new(subscriber));
    }

    fn subscribers(&self) -> MutexGuard<'_, Vec<Subscriber<V>>> {
        self.0.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, key: &Key, new: Option<Arc<Held<V>>>) {
        let subscribers = self.subscribers();
        let old = self.0.cache.set(key, new.clone());
        let replaced = old.as_ref().zip(new.as_ref()).filter(|(old, new)| old.head.uid != new.head.uid);
        if old.is_none() && new.is_none() {
            return;
        }
        for tell in subscribers.iter() {
            if replaced.is_some() {
                // Another object of the same name: the end of the first one was missed, its last state is known.
                tell(&Change { old: old.as_ref(), new: None });
                tell(&Change { old: None, new: new.as_ref() });
            } else {
                tell(&Change { old: old.as_ref(), new: new.as_ref() });
            }
        }
    }
}

/// Where a reflector puts what it reads. Erases the view's type, so that the reflector is compiled once.
trait Sink: Send + Sync {
    fn put(&self, object: &Value);
    fn remove(&self, object: &Value);
    fn keys(&self) -> BTreeSet<Key>;
    /// Takes out what a list no longer had.
    fn drop_key(&self, key: &Key);
    fn came_to(&self, reading: Reading);
    /// Nothing up to this revision is missing.
    fn reached(&self, revision: &str);
}

impl<V: View> Sink for Informer<V> {
    fn put(&self, object: &Value) {
        let key = key_of(object);
        let held = Held::<V>::from_object(object).map(Arc::new);
        let unchanged = held.is_some() && {
            let known = self.0.cache.get(&key.namespace, &key.name);
            known.zip(held.as_ref()).is_some_and(|(known, held)| {
                known.head.revision == held.head.revision && known.head.uid == held.head.uid
            })
        };
        if !unchanged {
            self.change(&key, held);
        }
    }

    fn remove(&self, object: &Value) {
        let key = key_of(object);
        // The last object is what is told: it may be newer than the one held.
        if self.0.cache.get(&key.namespace, &key.name).is_some() {
            let last = Held::<V>::from_object(object).map(Arc::new);
            let subscribers = self.subscribers();
            let held = self.0.cache.set(&key, None);
            let old = last.or(held);
            for tell in subscribers.iter() {
                tell(&Change { old: old.as_ref(), new: None });
            }
        }
    }

    fn keys(&self) -> BTreeSet<Key> {
        self.0.cache.keys()
    }

    fn drop_key(&self, key: &Key) {
        self.change(key, None);
    }

    fn came_to(&self, reading: Reading) {
        self.0.reading.send_if_modified(|known| {
            let further = reading > *known;
            *known = reading.max(*known);
            further
        });
    }

    fn reached(&self, revision: &str) {
        // A revision that is no number is nobody's to wait for.
        if let Ok(revision) = revision.parse::<u64>() {
            self.0.revision.send_if_modified(|known| {
                let newer = revision > *known;
                *known = revision.max(*known);
                newer
            });
        }
    }
}

fn key_of(object: &Value) -> Key {
    Key::new(object.str_at(&["metadata", "namespace"]), object.str_at(&["metadata", "name"]))
}

/// All informers of a process under one identity: a kind is followed once for each view of it. Cheap to clone.
#[derive(Clone)]
pub struct Informers(Arc<Pool>);

struct Pool {
    client: Client,
    clock: Clock,
    random: Random,
    tasks: Tasks,
    running: Mutex<HashMap<(Scope, TypeId), Running, ahash::RandomState>>,
}

struct Running {
    informer: Box<dyn Any + Send>,
    end: Arc<watch::Sender<bool>>,
}

impl Informers {
    pub fn new(client: Client, clock: Clock, random: Random, tasks: Tasks) -> Self {
        Self(Arc::new(Pool { client, clock, random, tasks, running: Mutex::default() }))
    }

    /// The informer of a scope, started where there is none.
    pub fn of<V: View>(&self, scope: Scope) -> Informer<V> {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (scope.clone(), TypeId::of::<V>());
        if let Some(known) = running.get(&key).and_then(|known| known.informer.downcast_ref::<Informer<V>>()) {
            return known.clone();
        }
        let informer = Informer::<V>::idle();
        let end = Arc::new(watch::Sender::new(false));
        let reflector = Reflector {
            client: self.0.client.clone(),
            scope,
            sink: Arc::new(informer.clone()),
            clock: self.0.clock.clone(),
            random: self.0.random.clone(),
            revision: None,
            streaming: true,
        };
        self.0.tasks.spawn("informer", reflector.run(self.0.tasks.stopped(), end.subscribe()));
        running.insert(key, Running { informer: Box::new(informer.clone()), end });
        informer
    }

    /// Ends the informer of a scope; those who hold it see what it last had.
    pub fn end<V: View>(&self, scope: &Scope) {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ended) = running.remove(&(scope.clone(), TypeId::of::<V>())) {
            ended.end.send_replace(true);
        }
    }
}

/// Resolves when an informer is ended. That nobody can end it any more, since the pool is gone, is no end of it.
async fn told(end: &mut watch::Receiver<bool>) {
    if end.wait_for(|end| *end).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Reads a kind into a sink.
struct Reflector {
    client: Client,
    scope: Scope,
    sink: Arc<dyn Sink>,
    clock: Clock,
    random: Random,
    /// Up to which nothing is missing; `None` begins anew.
    revision: Option<Str>,
    /// Cleared where the server refuses streaming lists.
    streaming: bool,
}

impl Reflector {
    async fn run(mut self, mut stopped: Stopped, mut end: watch::Receiver<bool>) {
        let mut failures = 0;
        loop {
            let since_ms = self.clock.now_ms();
            let ended = tokio::select! {
                biased;
                () = stopped.wait() => return,
                () = told(&mut end) => return,
                ended = self.once() => ended,
            };
            if self.clock.now_ms() - since_ms >= HEALTHY_MS {
                failures = 0;
            }
            let pause = match ended {
                Ok(()) => PAUSE,
                Err(error) => {
                    self.learn(&error);
                    failures += 1;
                    PAUSES.pause(failures, &self.random)
                }
            };
            tokio::select! {
                () = stopped.wait() => return,
                () = told(&mut end) => return,
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    fn learn(&mut self, error: &Error) {
        let resource = &self.scope.resource;
        if error.is_expired() {
            self.revision = None;
            tracing::info!(%resource, "a revision is no longer kept, everything is listed again");
        } else if self.revision.is_none() && self.streaming && matches!(error.code(), 400 | 422) {
            self.streaming = false;
            tracing::info!(%resource, "the server has no streaming lists");
        } else {
            tracing::warn!(%resource, error = %Chain(error), "a watch ended and is begun again");
            self.sink.came_to(Reading::Failed);
        }
    }

    /// One watch, to its end.
    async fn once(&mut self) -> Result<(), Error> {
        if self.revision.is_none() && !self.streaming {
            self.list().await?;
        }
        let select = self.select();
        let timeout_s = WATCH_S_MIN + self.random.next_u64() % WATCH_S_MIN;
        let from = self.revision.as_deref().map_or(From::Everything, From::Revision);
        let (resource, namespace) = (&self.scope.resource, &self.scope.namespace);
        let mut watching = self.client.watch(resource, namespace, &select, from, timeout_s).await?;
        // What an initial list has not shown by its end is gone.
        let mut unseen = self.revision.is_none().then(|| self.sink.keys());
        while let Some(event) = watching.next().await? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.sink.put(&object);
                    match &mut unseen {
                        Some(unseen) => drop(unseen.remove(&key_of(&object))),
                        None => self.reached(&object),
                    }
                }
                WatchEvent::Deleted(object) => {
                    self.sink.remove(&object);
                    if unseen.is_none() {
                        self.reached(&object);
                    }
                }
                WatchEvent::Bookmark { revision, initial_events_end } => {
                    if let Some(unseen) = unseen.take_if(|_| initial_events_end) {
                        self.listed(unseen);
                    }
                    if unseen.is_none() {
                        self.sink.reached(&revision);
                        self.revision = Some(revision);
                    }
                }
            }
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<(), Error> {
        let mut select = Select { limit: PAGE, ..self.select() };
        let mut unseen = self.sink.keys();
        loop {
            let (resource, namespace) = (&self.scope.resource, &self.scope.namespace);
            let page = self.client.list(resource, namespace, &select).await?;
            for object in &page.items {
                self.sink.put(object);
                unseen.remove(&key_of(object));
            }
            if page.continue_token.is_empty() {
                self.listed(unseen);
                self.sink.reached(&page.revision);
                self.revision = Some(page.revision);
                return Ok(());
            }
            select.continue_token = page.continue_token;
        }
    }

    fn reached(&mut self, object: &Value) {
        let revision = object.str_at(&["metadata", "resourceVersion"]);
        self.sink.reached(revision);
        self.revision = Some(revision.into());
    }

    fn listed(&self, unseen: BTreeSet<Key>) {
        for key in &unseen {
            self.sink.drop_key(key);
        }
        self.sink.came_to(Reading::Whole);
    }

    fn select(&self) -> Select {
        Select {
            labels: self.scope.labels.clone(),
            fields: self.scope.fields.clone(),
            metadata_only: self.scope.metadata_only,
            ..Select::default()
        }
    }
}
