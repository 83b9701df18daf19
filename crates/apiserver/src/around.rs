//! What a kind needs done around its writes, outside of the object that is written: addresses and ports that are taken
//! before and given back after. The binary registers one [`Around`] for a resource.
//!
//! There is no transaction over two objects. What is taken is taken first, and given back when the object was not
//! written; a crash between the two leaves something taken that belongs to nobody, which its owner finds and mends.

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use futures_core::future::BoxFuture;

/// Takes before a write, gives back after it. Objects are in the version of the request.
pub trait Around: Send + Sync {
    /// Before a new object is prepared and validated; it has its name and may be changed.
    fn create<'a>(&'a self, object: &'a mut Value, dry_run: bool) -> BoxFuture<'a, Result<Box<dyn Begun>, Status>>;

    /// Before an update of the object itself (no subresource) is prepared and validated.
    fn update<'a>(
        &'a self,
        object: &'a mut Value,
        old: &'a Value,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Box<dyn Begun>, Status>>;

    /// The object is gone from the store.
    fn deleted<'a>(&'a self, object: &'a Value) -> BoxFuture<'a, ()>;
}

/// What was taken for one write. Dropped without an end, the write was given up.
pub trait Begun: Send {
    fn end(self: Box<Self>, outcome: Outcome) -> BoxFuture<'static, ()>;
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Written,
    Refused,
    /// It may yet turn out to have been written.
    Unknown,
}

impl Outcome {
    /// By the answer that the client gets.
    pub(crate) fn of(refusal: Option<&Status>) -> Self {
        match refusal {
            None => Self::Written,
            Some(status) if status.code == 504 => Self::Unknown,
            Some(_) => Self::Refused,
        }
    }
}

/// By group and plural name.
#[derive(Clone, Default)]
pub struct Arounds(Vec<(&'static str, &'static str, Arc<dyn Around>)>);

impl Arounds {
    pub fn register(&mut self, group: &'static str, plural: &'static str, around: Arc<dyn Around>) {
        self.0.push((group, plural, around));
    }

    pub(crate) fn find(&self, group: &str, plural: &str) -> Option<&Arc<dyn Around>> {
        let own = self.0.iter().find(|(own_group, own_plural, _)| *own_group == group && *own_plural == plural);
        own.map(|(.., around)| around)
    }
}
