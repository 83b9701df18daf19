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
use crate::cache::{Cache, Head, Held, Key, View};
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
    fn put(&self, key: &Key, head: &Arc<Head>, object: &Value);
    fn remove(&self, key: &Key, head: &Arc<Head>, object: &Value);
    /// Adds those that are held.
    fn keys(&self, to: &mut BTreeSet<Key>);
    /// Takes out what a list no longer had.
    fn drop_key(&self, key: &Key);
    fn came_to(&self, reading: Reading);
    /// Nothing up to this revision is missing.
    fn reached(&self, revision: &str);
}

impl<V: View> Sink for Informer<V> {
    fn put(&self, key: &Key, head: &Arc<Head>, object: &Value) {
        let known = self.0.cache.get(&key.namespace, &key.name);
        if known.is_some_and(|known| known.head.revision == head.revision && known.head.uid == head.uid) {
            return;
        }
        self.change(key, held::<V>(head, object));
    }

    fn remove(&self, key: &Key, head: &Arc<Head>, object: &Value) {
        // The last object is what is told: it may be newer than the one held.
        if self.0.cache.get(&key.namespace, &key.name).is_some() {
            let last = held::<V>(head, object);
            let subscribers = self.subscribers();
            let held = self.0.cache.set(key, None);
            let old = last.or(held);
            for tell in subscribers.iter() {
                tell(&Change { old: old.as_ref(), new: None });
            }
        }
    }

    fn keys(&self, to: &mut BTreeSet<Key>) {
        self.0.cache.keys(to);
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

fn held<V: View>(head: &Arc<Head>, object: &Value) -> Option<Arc<Held<V>>> {
    V::from_object(object).map(|view| Arc::new(Held { head: head.clone(), view }))
}

/// All informers of a process under one identity: a scope is followed once, whatever the number of views of it. Cheap to clone.
#[derive(Clone)]
pub struct Informers(Arc<Pool>);

struct Pool {
    client: Client,
    clock: Clock,
    random: Random,
    tasks: Tasks,
    running: Mutex<HashMap<Scope, Running, ahash::RandomState>>,
}

/// A scope that is followed.
struct Running {
    /// The informers by the type of their view.
    informers: HashMap<TypeId, Box<dyn Any + Send>, ahash::RandomState>,
    sinks: watch::Sender<Sinks>,
}

/// Where a reflector puts what it reads, by the type of the view. Without any it ends.
type Sinks = HashMap<TypeId, Arc<dyn Sink>, ahash::RandomState>;

impl Informers {
    pub fn new(client: Client, clock: Clock, random: Random, tasks: Tasks) -> Self {
        Self(Arc::new(Pool { client, clock, random, tasks, running: Mutex::default() }))
    }

    /// The informer of a scope, started where there is none. What other views of the scope hold stays while everything is read
    /// once more for this one.
    pub fn of<V: View>(&self, scope: Scope) -> Informer<V> {
        let mut all = self.running();
        let view = TypeId::of::<V>();
        let known = all.get(&scope).and_then(|running| running.informers.get(&view));
        if let Some(known) = known.and_then(|known| known.downcast_ref::<Informer<V>>()) {
            return known.clone();
        }
        let informer = Informer::<V>::idle();
        let sink: Arc<dyn Sink> = Arc::new(informer.clone());
        let running = all.entry(scope).or_insert_with_key(|scope| self.follow(scope.clone()));
        running.informers.insert(view, Box::new(informer.clone()));
        running.sinks.send_modify(|sinks| drop(sinks.insert(view, sink)));
        informer
    }

    /// Starts a reflector; it waits for its first sink.
    fn follow(&self, scope: Scope) -> Running {
        let (sinks, told) = watch::channel(Sinks::default());
        let reflector = Reflector {
            client: self.0.client.clone(),
            scope,
            sinks: Sinks::default(),
            clock: self.0.clock.clone(),
            random: self.0.random.clone(),
            revision: None,
            streaming: true,
        };
        self.0.tasks.spawn("informer", reflector.run(self.0.tasks.stopped(), told));
        Running { informers: HashMap::default(), sinks }
    }

    /// Ends the informer of a scope; those who hold it see what it last had.
    pub fn end<V: View>(&self, scope: &Scope) {
        let mut all = self.running();
        let Some(running) = all.get_mut(scope) else { return };
        running.informers.remove(&TypeId::of::<V>());
        running.sinks.send_modify(|sinks| drop(sinks.remove(&TypeId::of::<V>())));
        if running.informers.is_empty() {
            all.remove(scope);
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Scope, Running, ahash::RandomState>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves when there are other sinks. That nobody can join or end any more, since the pool is gone, is no end of those that
/// are there.
async fn told(sinks: &mut watch::Receiver<Sinks>) {
    if sinks.changed().await.is_err() && !sinks.borrow().is_empty() {
        std::future::pending::<()>().await;
    }
}

/// Reads a scope into sinks.
struct Reflector {
    client: Client,
    scope: Scope,
    sinks: Sinks,
    clock: Clock,
    random: Random,
    /// Up to which nothing is missing; `None` begins anew.
    revision: Option<Str>,
    /// Cleared where the server refuses streaming lists.
    streaming: bool,
}

impl Reflector {
    async fn run(mut self, mut stopped: Stopped, mut sinks: watch::Receiver<Sinks>) {
        let mut failures = 0;
        tokio::select! {
            () = stopped.wait() => return,
            () = told(&mut sinks) => {}
        }
        loop {
            self.join(&sinks.borrow_and_update());
            if self.sinks.is_empty() {
                return;
            }
            let since_ms = self.clock.now_ms();
            let ended = tokio::select! {
                biased;
                () = stopped.wait() => return,
                () = told(&mut sinks) => continue,
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
                () = told(&mut sinks) => {}
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    /// Takes the sinks that there are now. One that is new has to be told everything.
    fn join(&mut self, sinks: &Sinks) {
        if sinks.keys().any(|view| !self.sinks.contains_key(view)) {
            self.revision = None;
        }
        self.sinks.clone_from(sinks);
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
            self.sinks.values().for_each(|sink| sink.came_to(Reading::Failed));
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
        let mut unseen = self.revision.is_none().then(|| self.keys());
        while let Some(event) = watching.next().await? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let (key, revision) = self.put(&object);
                    match &mut unseen {
                        Some(unseen) => drop(unseen.remove(&key)),
                        None => self.reached(revision),
                    }
                }
                WatchEvent::Deleted(object) => {
                    let head = Arc::new(Head::of(&object));
                    self.sinks.values().for_each(|sink| sink.remove(&head.key(), &head, &object));
                    if unseen.is_none() {
                        self.reached(head.revision.clone());
                    }
                }
                WatchEvent::Bookmark { revision, initial_events_end } => {
                    if let Some(unseen) = unseen.take_if(|_| initial_events_end) {
                        self.listed(unseen);
                    }
                    if unseen.is_none() {
                        self.reached(revision);
                    }
                }
            }
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<(), Error> {
        let mut select = Select { limit: PAGE, ..self.select() };
        let mut unseen = self.keys();
        loop {
            let (resource, namespace) = (&self.scope.resource, &self.scope.namespace);
            let page = self.client.list(resource, namespace, &select).await?;
            for object in &page.items {
                let (key, _) = self.put(object);
                unseen.remove(&key);
            }
            if page.continue_token.is_empty() {
                self.listed(unseen);
                self.reached(page.revision);
                return Ok(());
            }
            select.continue_token = page.continue_token;
        }
    }

    /// Gives an object to every sink; returns its key and revision.
    fn put(&self, object: &Value) -> (Key, Str) {
        let head = Arc::new(Head::of(object));
        let key = head.key();
        self.sinks.values().for_each(|sink| sink.put(&key, &head, object));
        (key, head.revision.clone())
    }

    /// What any of the sinks holds.
    fn keys(&self) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        self.sinks.values().for_each(|sink| sink.keys(&mut keys));
        keys
    }

    fn reached(&mut self, revision: Str) {
        self.sinks.values().for_each(|sink| sink.reached(&revision));
        self.revision = Some(revision);
    }

    fn listed(&self, unseen: BTreeSet<Key>) {
        for sink in self.sinks.values() {
            unseen.iter().for_each(|key| sink.drop_key(key));
            sink.came_to(Reading::Whole);
        }
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
