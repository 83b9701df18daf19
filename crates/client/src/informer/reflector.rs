//! Reads a scope into sinks: everything once, then what changes. A view that joins late reads everything by itself, while the
//! others are told of changes as before; then all go on together from where the one that is furthest behind is.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::value::{Str, Value};
use corten_stdx::clock::Clock;
use corten_stdx::error::Chain;
use corten_stdx::random::Random;
use corten_stdx::task::Stopped;
use futures_util::future::OptionFuture;
use tokio::sync::watch;

use super::{Reading, Scope, Sink, Sinks};
use crate::backoff::Backoff;
use crate::cache::{Head, Key};
use crate::client::{Client, From, Select, WatchEvent};
use crate::error::Error;

/// Objects a page, where the server has no streaming lists.
const PAGE: usize = 500;

/// A watch lives so long and up to as long again, so that those of many clients do not end together.
const WATCH_S_MIN: u64 = 300;

/// Pauses of a watch that fails, and after how long without a failure they begin anew.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(800), longest: Duration::from_secs(30) };
const HEALTHY_MS: i64 = 120_000;

/// Before a watch that ended as it should is begun again.
const PAUSE: Duration = Duration::from_millis(100);

/// Resolves when there are other sinks. That nobody can join or end any more, since the pool is gone, is no end of those that
/// are there.
async fn told(sinks: &mut watch::Receiver<Sinks>) {
    if sinks.changed().await.is_err() && !sinks.borrow().is_empty() {
        std::future::pending::<()>().await;
    }
}

/// Reads a scope into sinks.
pub(super) struct Reflector {
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) random: Random,
    /// Cleared where the server refuses streaming lists.
    streaming: bool,
    scope: Scope,
    sinks: Sinks,
    /// Up to which nothing is missing in any sink; `None` begins anew.
    revision: Option<Str>,
    /// Up to this revision some sinks have been told already, since others joined behind them; 0 for none.
    ahead: u64,
    /// Those of other views, whose metadata is shared where it is the same.
    others: Sinks,
}

/// How far one watch is to go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Everything has been read once.
    Whole,
    Ended,
}

impl Reflector {
    pub(super) fn new(client: Client, clock: Clock, random: Random, scope: Scope) -> Self {
        let (sinks, others) = (Sinks::default(), Sinks::default());
        Self { client, clock, random, streaming: true, scope, sinks, revision: None, ahead: 0, others }
    }

    pub(super) async fn run(mut self, mut stopped: Stopped, mut sinks: watch::Receiver<Sinks>) {
        tokio::select! {
            () = stopped.wait() => return,
            () = told(&mut sinks) => {}
        }
        let mut failures = 0;
        while !sinks.borrow_and_update().is_empty() {
            let late = self.join(&sinks.borrow());
            let mut late = pin!(OptionFuture::from(late.map(Self::first)));
            loop {
                tokio::select! {
                    biased;
                    () = stopped.wait() => return,
                    () = told(&mut sinks) => break,
                    Some(late) = &mut late => {
                        self.settle(late);
                        break;
                    }
                    () = self.go_on(&mut failures) => {}
                }
            }
        }
    }

    /// One watch, and the pause behind it.
    async fn go_on(&mut self, failures: &mut u32) {
        let since_ms = self.clock.now_ms();
        let ended = self.once(Until::Ended).await;
        if self.clock.now_ms() - since_ms >= HEALTHY_MS {
            *failures = 0;
        }
        let pause = ended.map_or_else(|error| self.failed(&error, failures), |()| PAUSE);
        self.clock.sleep(pause).await;
    }

    /// Reads everything, however often that fails on the way.
    async fn first(mut self) -> Self {
        let mut failures = 0;
        loop {
            let ended = self.once(Until::Whole).await;
            if self.revision.is_some() {
                return self;
            }
            let pause = ended.map_or_else(|error| self.failed(&error, &mut failures), |()| PAUSE);
            self.clock.sleep(pause).await;
        }
    }

    /// Takes the sinks that there are now. Those that are new beside others that have everything come by themselves.
    fn join(&mut self, sinks: &Sinks) -> Option<Self> {
        self.sinks.retain(|view, _| sinks.contains_key(view));
        if self.sinks.is_empty() || self.revision.is_none() {
            self.revision = None;
            self.sinks.clone_from(sinks);
            return None;
        }
        let mut late = sinks.clone();
        late.retain(|view, _| !self.sinks.contains_key(view));
        let like = || Self::new(self.client.clone(), self.clock.clone(), self.random.clone(), self.scope.clone());
        (!late.is_empty()).then(|| Self {
            sinks: late,
            others: self.sinks.clone(),
            streaming: self.streaming,
            ..like()
        })
    }

    /// Goes on with those that have joined, from where the one that is furthest behind is.
    fn settle(&mut self, late: Self) {
        let number = |revision: &Option<Str>| revision.as_deref().and_then(|revision| revision.parse::<u64>().ok());
        match number(&self.revision).zip(number(&late.revision)) {
            Some((own, other)) => {
                self.ahead = self.ahead.max(own).max(other);
                self.revision = if own < other { self.revision.take() } else { late.revision };
            }
            // One that is to be begun anew, or that cannot be compared.
            None => self.revision = None,
        }
        self.sinks.extend(late.sinks);
    }

    /// How long to wait after a failure.
    fn failed(&mut self, error: &Error, failures: &mut u32) -> Duration {
        self.learn(error);
        *failures += 1;
        PAUSES.pause(*failures, &self.random)
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

    /// One watch.
    async fn once(&mut self, until: Until) -> Result<(), Error> {
        if self.revision.is_none() && !self.streaming {
            self.list().await?;
        }
        if self.revision.is_some() && until == Until::Whole {
            return Ok(());
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
                WatchEvent::Added(object) | WatchEvent::Modified(object) => match &mut unseen {
                    Some(unseen) => drop(unseen.remove(&self.put(&object))),
                    None => self.change(&object, |sink, key, head| sink.put(key, head, &object)),
                },
                WatchEvent::Deleted(object) => {
                    self.change(&object, |sink, key, head| sink.remove(key, head, &object));
                }
                WatchEvent::Bookmark { revision, initial_events_end } => {
                    if let Some(unseen) = unseen.take_if(|_| initial_events_end) {
                        self.listed(unseen);
                    }
                    if unseen.is_none() {
                        self.reached(revision);
                        if until == Until::Whole {
                            return Ok(());
                        }
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
                unseen.remove(&self.put(object));
            }
            if page.continue_token.is_empty() {
                self.listed(unseen);
                self.reached(page.revision);
                return Ok(());
            }
            select.continue_token = page.continue_token;
        }
    }

    /// Gives an object of a list to every sink; returns its key.
    fn put(&self, object: &Value) -> Key {
        let (key, head) = shared(&self.others, object);
        self.sinks.values().for_each(|sink| sink.put(&key, &head, object));
        key
    }

    /// Tells a change to every sink that has not been told yet.
    fn change(&mut self, object: &Value, tell: impl Fn(&dyn Sink, &Key, &Arc<Head>)) {
        let (key, head) = shared(&self.sinks, object);
        let at = head.revision.parse().unwrap_or(u64::MAX);
        let told = |sink: &dyn Sink| at <= self.ahead && sink.has_reached(at);
        self.sinks.values().filter(|sink| !told(&***sink)).for_each(|sink| tell(&**sink, &key, &head));
        self.reached(head.revision.clone());
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

/// An object's key and metadata: those that one of the sinks holds, where they are the same.
fn shared(sinks: &Sinks, object: &Value) -> (Key, Arc<Head>) {
    let head = Head::of(object);
    let key = head.key();
    let mut held = sinks.values().filter_map(|sink| sink.head(&key));
    let same = held.find(|held| held.revision == head.revision && held.uid == head.uid);
    (key, same.unwrap_or_else(|| Arc::new(head)))
}
