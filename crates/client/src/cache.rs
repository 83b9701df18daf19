//! What an informer holds: slim views of the objects of a kind, found by key, namespace, owner, labels or a custom key.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::{Bound, Deref};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use corten_apimachinery::meta::Meta;
use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::value::{Str, Value};

/// What a controller wants to know of an object, and nothing else.
pub trait View: Sized + Send + Sync + 'static {
    /// `None`: the object is of no interest and is not held.
    fn from_object(object: &Value) -> Option<Self>;

    /// Custom keys under which [`Cache::by_key`] finds the object.
    fn keys(&self) -> Vec<Str> {
        Vec::new()
    }
}

/// Metadata alone.
impl View for () {
    fn from_object(_: &Value) -> Option<Self> {
        Some(())
    }
}

/// The whole object, without managed fields: for kinds of which there are few.
impl View for Value {
    fn from_object(object: &Value) -> Option<Self> {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        Some(object)
    }
}

/// Names an object to a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Empty where a controller has one kind of key.
    pub kind: Str,
    /// Empty for cluster-scoped objects.
    pub namespace: Str,
    pub name: Str,
}

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub api_version: Str,
    pub kind: Str,
    pub name: Str,
    pub uid: Str,
    pub controller: bool,
    pub block_deletion: bool,
}

/// The metadata of every object that is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub namespace: Str,
    pub name: Str,
    pub uid: Str,
    pub revision: Str,
    /// Sorted.
    pub labels: Box<[(Str, Str)]>,
    pub owners: Box<[Owner]>,
    pub finalizers: Box<[Str]>,
    pub deleting: bool,
}

/// An object as it is held. All views of an object that are read together share its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<V> {
    pub head: Arc<Head>,
    pub view: V,
}

impl<V> Deref for Held<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.view
    }
}

impl<V: View> Held<V> {
    pub fn from_object(object: &Value) -> Option<Self> {
        V::from_object(object).map(|view| Self { head: Arc::new(Head::of(object)), view })
    }
}

impl Key {
    pub fn new(namespace: impl Into<Str>, name: impl Into<Str>) -> Self {
        Self { kind: Str::default(), namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object itself.
    pub fn of<V>(held: &Held<V>) -> Self {
        held.head.key()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.kind, &self.namespace, &self.name];
        let filled: Vec<&str> = parts.into_iter().map(Str::as_str).filter(|part| !part.is_empty()).collect();
        f.write_str(&filled.join("/"))
    }
}

impl Head {
    pub fn of(object: &Value) -> Self {
        let meta = Meta::of(object);
        let owners = meta.owner_references().map(|owner| Owner {
            api_version: owner.api_version().into(),
            kind: owner.kind().into(),
            name: owner.name().into(),
            uid: owner.uid().into(),
            controller: owner.controller(),
            block_deletion: owner.block_owner_deletion(),
        });
        Self {
            namespace: meta.namespace().into(),
            name: meta.name().into(),
            uid: meta.uid().into(),
            revision: meta.resource_version().into(),
            labels: meta.sorted_labels().into(),
            owners: owners.collect(),
            finalizers: meta.finalizers().map(Str::from).collect(),
            deleting: meta.deletion_timestamp().is_some(),
        }
    }

    pub fn key(&self) -> Key {
        Key::new(self.namespace.clone(), self.name.clone())
    }

    /// The owner that manages this object.
    pub fn controller(&self) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.controller)
    }
}

/// Objects of one kind with their indexes. Readers get shared objects and hold no lock.
pub struct Cache<V>(RwLock<Tables<V>>);

/// An object has its place everywhere by the name that it has itself, so that no name is held beside it.
struct Tables<V> {
    objects: BTreeSet<Placed<V>>,
    by_owner: HashMap<Str, BTreeSet<Placed<V>>, ahash::RandomState>,
    by_key: HashMap<Str, BTreeSet<Placed<V>>, ahash::RandomState>,
}

/// An object among others, by namespace and name.
struct Placed<V>(Arc<Held<V>>);

/// What objects are found by.
trait Named {
    /// Namespace and name.
    fn names(&self) -> (&str, &str);
}

impl<V> Named for Placed<V> {
    fn names(&self) -> (&str, &str) {
        (&self.0.head.namespace, &self.0.head.name)
    }
}

impl Named for (&str, &str) {
    fn names(&self) -> (&str, &str) {
        *self
    }
}

impl<'a, V: 'a> Borrow<dyn Named + 'a> for Placed<V> {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for dyn Named + '_ {}

impl PartialOrd for dyn Named + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Named + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.names().cmp(&other.names())
    }
}

impl<V> PartialEq for Placed<V> {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl<V> Eq for Placed<V> {}

impl<V> PartialOrd for Placed<V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<V> Ord for Placed<V> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.names().cmp(&other.names())
    }
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        let tables = Tables { objects: BTreeSet::new(), by_owner: HashMap::default(), by_key: HashMap::default() };
        Self(RwLock::new(tables))
    }
}

impl<V: View> Cache<V> {
    fn read(&self) -> RwLockReadGuard<'_, Tables<V>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Held<V>>> {
        self.read().objects.get(&(namespace, name) as &dyn Named).map(|placed| placed.0.clone())
    }

    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything, by namespace and name.
    pub fn all(&self) -> Vec<Arc<Held<V>>> {
        held(&self.read().objects)
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<Held<V>>> {
        let tables = self.read();
        let first = (namespace, "");
        let from = tables.objects.range::<dyn Named, _>((Bound::Included(&first as &dyn Named), Bound::Unbounded));
        from.take_while(|placed| placed.0.head.namespace == namespace).map(|placed| placed.0.clone()).collect()
    }

    /// What a label selector means in a namespace.
    pub fn selected(&self, namespace: &str, selector: &LabelSelector) -> Vec<Arc<Held<V>>> {
        let mut found = self.in_namespace(namespace);
        found.retain(|held| selector.matches(&held.head.labels));
        found
    }

    /// What names an owner, as its controller or otherwise.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Held<V>>> {
        self.read().by_owner.get(uid).map(held).unwrap_or_default()
    }

    /// What a view has named by a key of its own.
    pub fn by_key(&self, key: &str) -> Vec<Arc<Held<V>>> {
        self.read().by_key.get(key).map(held).unwrap_or_default()
    }

    /// Puts an object in, or takes the one at `key` out; gives what was there.
    pub(crate) fn set(&self, key: &Key, new: Option<Arc<Held<V>>>) -> Option<Arc<Held<V>>> {
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = match &new {
            Some(new) => tables.objects.replace(Placed(new.clone())),
            None => tables.objects.take(&(key.namespace.as_str(), key.name.as_str()) as &dyn Named),
        };
        if let Some(old) = &old {
            tables.unlink(old);
        }
        if let Some(new) = &new {
            tables.link(new);
        }
        old.map(|placed| placed.0)
    }

    pub(crate) fn keys(&self, to: &mut BTreeSet<Key>) {
        to.extend(self.read().objects.iter().map(|placed| placed.0.head.key()));
    }
}

fn held<V>(placed: &BTreeSet<Placed<V>>) -> Vec<Arc<Held<V>>> {
    placed.iter().map(|placed| placed.0.clone()).collect()
}

impl<V: View> Tables<V> {
    fn link(&mut self, held: &Arc<Held<V>>) {
        for owner in &held.head.owners {
            self.by_owner.entry(owner.uid.clone()).or_default().insert(Placed(held.clone()));
        }
        for custom in held.view.keys() {
            self.by_key.entry(custom).or_default().insert(Placed(held.clone()));
        }
    }

    fn unlink(&mut self, held: &Placed<V>) {
        for owner in &held.0.head.owners {
            forget(&mut self.by_owner, &owner.uid, held);
        }
        for custom in held.0.view.keys() {
            forget(&mut self.by_key, &custom, held);
        }
    }
}

fn forget<V>(index: &mut HashMap<Str, BTreeSet<Placed<V>>, ahash::RandomState>, entry: &str, held: &Placed<V>) {
    if let Some(placed) = index.get_mut(entry) {
        placed.remove(held);
        if placed.is_empty() {
            index.remove(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    struct OnNode(Str);

    impl View for OnNode {
        fn from_object(object: &Value) -> Option<Self> {
            Some(Self(object.str_at(&["node"]).into()))
        }

        fn keys(&self) -> Vec<Str> {
            vec![self.0.clone()]
        }
    }

    fn put(cache: &Cache<OnNode>, name: &str, owner: &str, app: &str, node: &str) {
        let object = value!({
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}, "ownerReferences": [{"uid": owner}]},
            "node": node
        });
        let held = Held::from_object(&object).expect("a view");
        cache.set(&held.head.key(), Some(Arc::new(held)));
    }

    fn names(found: &[Arc<Held<OnNode>>]) -> Vec<&str> {
        found.iter().map(|held| held.head.name.as_str()).collect()
    }

    #[test]
    fn indexes_follow_what_is_put_and_taken() {
        let cache = Cache::default();
        put(&cache, "a", "1", "web", "n1");
        put(&cache, "b", "1", "db", "n2");
        assert_eq!(names(&cache.owned_by("1")), ["a", "b"]);
        assert_eq!(names(&cache.by_key("n2")), ["b"]);
        let web = LabelSelector::from_labels([("app", "web")]);
        assert_eq!(names(&cache.selected("shop", &web)), ["a"]);
        put(&cache, "a", "2", "web", "n2");
        assert_eq!(cache.by_key("n2")[0].0, "n2", "the newest one is in every index");
        put(&cache, "a", "2", "db", "n2");
        assert!(names(&cache.selected("shop", &web)).is_empty());
        assert_eq!(cache.by_key("n2")[0].head.labels[0].1, "db");
        assert_eq!(names(&cache.owned_by("1")), ["b"]);
        assert_eq!(names(&cache.by_key("n2")), ["a", "b"]);
        cache.set(&Key::new("shop", "b"), None);
        assert_eq!((names(&cache.owned_by("1")), names(&cache.by_key("n2"))), (vec![], vec!["a"]));
        assert_eq!((cache.in_namespace("sho").len(), cache.in_namespace("shop").len()), (0, 1));
        assert!(cache.read().by_key.len() == 1 && cache.read().by_owner.len() == 1, "nothing empty stays");
    }
}
