//! Follows a kind: a cache of its objects that is never behind for long and never misses a change silently.
//!
//! It begins with a streaming list (or list and watch, where the server has none), goes on from the last revision when
//! a watch ends, and begins anew with everything when that revision is no longer kept. What changed is told to every
//! subscriber in the same order, deletes with the last object; a late subscriber is told everything first.

mod reflector;

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_apimachinery::value::{Str, Value};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use tokio::sync::watch;

use self::reflector::Reflector;
use crate::cache::{Cache, Head, Held, Key, View};
use crate::client::Client;
use crate::error::Error;
use crate::resource::Resource;

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
    fn has_reached(&self, revision: u64) -> bool;
    /// Metadata of an object that is held.
    fn head(&self, key: &Key) -> Option<Arc<Head>>;
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

    fn has_reached(&self, revision: u64) -> bool {
        *self.0.revision.borrow() >= revision
    }

    fn head(&self, key: &Key) -> Option<Arc<Head>> {
        self.0.cache.get(&key.namespace, &key.name).map(|held| held.head.clone())
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

    /// The informer of a scope, started where there is none. Other views of the scope go on while everything is read once more
    /// for this one.
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
        let Pool { client, clock, random, tasks, .. } = &*self.0;
        let reflector = Reflector::new(client.clone(), clock.clone(), random.clone(), scope);
        tasks.spawn("informer", reflector.run(tasks.stopped(), told));
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
