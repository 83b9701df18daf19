//! The test table that every kind passes, built-in or custom: crates that bring kinds run it over theirs.
//!
//! [`table`] holds the cases, [`kinds`] two hand-made kinds for the tests of this crate.

pub mod kinds;
pub mod table;

use std::sync::Arc;

use corten_apimachinery::value::{Str, Value};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_store::Store;
use corten_store::model::ModelStore;

use crate::admission::Admission;
use crate::auth::User;
use crate::registry::seal::Plain;
use crate::registry::{Body, Context, Registry, Target};
use corten_apimachinery::kind::KindInfo;

/// A registry over a store in memory, and what belongs to it.
pub struct Bench {
    pub registry: Registry,
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    pub tasks: Tasks,
}

/// 2026-01-01T00:00:00Z, when every bench begins.
pub const START_MS: i64 = 1_767_225_600_000;

impl Bench {
    /// A registry that serves some kinds, without admission.
    pub fn new(kinds: impl IntoIterator<Item = KindInfo>) -> Self {
        let clock = Clock::manual(START_MS);
        Self::over(Arc::new(ModelStore::new(clock.clone())), clock, kinds)
    }

    /// The same over a store that is there already.
    pub fn over(store: Arc<dyn Store>, clock: Clock, kinds: impl IntoIterator<Item = KindInfo>) -> Self {
        Self::made_of(store, clock, Vec::new(), kinds)
    }

    /// A registry whose writes go through these plugins.
    pub fn admitting(admission: Vec<Arc<dyn Admission>>, kinds: impl IntoIterator<Item = KindInfo>) -> Self {
        let clock = Clock::manual(START_MS);
        Self::made_of(Arc::new(ModelStore::new(clock.clone())), clock, admission, kinds)
    }

    fn made_of(
        store: Arc<dyn Store>,
        clock: Clock,
        admission: Vec<Arc<dyn Admission>>,
        kinds: impl IntoIterator<Item = KindInfo>,
    ) -> Self {
        let tasks = Tasks::new();
        let sealer = Arc::new(Plain);
        let registry = Registry::new(store.clone(), clock.clone(), Random::seeded(1), admission, sealer, &tasks);
        registry.install(kinds);
        Self { registry, store, clock, tasks }
    }

    /// The installed kind of a plural name.
    ///
    /// # Panics
    /// If there is none.
    pub fn kind(&self, plural: &str) -> Arc<KindInfo> {
        self.registry.kinds().iter().find(|kind| kind.plural == plural).expect("the test installed it").clone()
    }
}

/// Somebody who may do everything; authorization is not the registry's.
pub fn context() -> Context {
    let user = User { name: "tester".into(), ..User::default() };
    Context::new(Arc::new(user), "tester")
}

/// A decoded body without duplicates.
pub fn body(value: Value) -> Body {
    Body::from(value)
}

/// An object of a kind, in namespace `default` where it has one.
pub fn target(kind: &Arc<KindInfo>, name: &str) -> Target {
    let namespace = if kind.namespaced() { "default" } else { "" };
    Target { kind: kind.clone(), namespace: namespace.into(), name: name.into(), subresource: Str::default() }
}
