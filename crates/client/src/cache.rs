//! What an informer holds: slim views of the objects of a kind, found by key, namespace, owner, labels or a custom key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Deref;
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

struct Tables<V> {
    objects: BTreeMap<Key, Arc<Held<V>>>,
    by_owner: HashMap<Str, BTreeSet<Key>, ahash::RandomState>,
    by_key: HashMap<Str, BTreeSet<Key>, ahash::RandomState>,
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        let tables = Tables { objects: BTreeMap::new(), by_owner: HashMap::default(), by_key: HashMap::default() };
        Self(RwLock::new(tables))
    }
}

impl<V: View> Cache<V> {
    fn read(&self) -> RwLockReadGuard<'_, Tables<V>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Held<V>>> {
        self.read().objects.get(&Key::new(namespace, name)).cloned()
    }

    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything, by namespace and name.
    pub fn all(&self) -> Vec<Arc<Held<V>>> {
        self.read().objects.values().cloned().collect()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<Held<V>>> {
        let tables = self.read();
        let from = tables.objects.range(Key::new(namespace, "")..);
        from.take_while(|(key, _)| key.namespace == namespace).map(|(_, held)| held.clone()).collect()
    }

    /// What a label selector means in a namespace.
    pub fn selected(&self, namespace: &str, selector: &LabelSelector) -> Vec<Arc<Held<V>>> {
        let mut found = self.in_namespace(namespace);
        found.retain(|held| selector.matches(&held.head.labels));
        found
    }

    /// What names an owner, as its controller or otherwise.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Held<V>>> {
        let tables = self.read();
        tables.resolve(tables.by_owner.get(uid))
    }

    /// What a view has named by a key of its own.
    pub fn by_key(&self, key: &str) -> Vec<Arc<Held<V>>> {
        let tables = self.read();
        tables.resolve(tables.by_key.get(key))
    }

    /// Puts an object in, or takes the one at `key` out; gives what was there.
    pub(crate) fn set(&self, key: &Key, new: Option<Arc<Held<V>>>) -> Option<Arc<Held<V>>> {
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = match &new {
            Some(new) => tables.objects.insert(key.clone(), new.clone()),
            None => tables.objects.remove(key),
        };
        if let Some(old) = &old {
            tables.unlink(key, old);
        }
        if let Some(new) = &new {
            tables.link(key, new);
        }
        old
    }

    pub(crate) fn keys(&self, to: &mut BTreeSet<Key>) {
        to.extend(self.read().objects.keys().cloned());
    }
}

impl<V: View> Tables<V> {
    fn resolve(&self, keys: Option<&BTreeSet<Key>>) -> Vec<Arc<Held<V>>> {
        keys.into_iter().flatten().filter_map(|key| self.objects.get(key).cloned()).collect()
    }

    fn link(&mut self, key: &Key, held: &Held<V>) {
        for owner in &held.head.owners {
            self.by_owner.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        for custom in held.view.keys() {
            self.by_key.entry(custom).or_default().insert(key.clone());
        }
    }

    fn unlink(&mut self, key: &Key, held: &Held<V>) {
        for owner in &held.head.owners {
            forget(&mut self.by_owner, &owner.uid, key);
        }
        for custom in held.view.keys() {
            forget(&mut self.by_key, &custom, key);
        }
    }
}

fn forget(index: &mut HashMap<Str, BTreeSet<Key>, ahash::RandomState>, entry: &str, key: &Key) {
    if let Some(keys) = index.get_mut(entry) {
        keys.remove(key);
        if keys.is_empty() {
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
        assert_eq!(names(&cache.owned_by("1")), ["b"]);
        assert_eq!(names(&cache.by_key("n2")), ["a", "b"]);
        cache.set(&Key::new("shop", "b"), None);
        assert_eq!((names(&cache.owned_by("1")), names(&cache.by_key("n2"))), (vec![], vec!["a"]));
        assert_eq!((cache.in_namespace("sho").len(), cache.in_namespace("shop").len()), (0, 1));
        assert!(cache.read().by_key.len() == 1 && cache.read().by_owner.len() == 1, "nothing empty stays");
    }
}
