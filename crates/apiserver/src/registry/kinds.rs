//! The kinds that are served. The set changes at run time (custom resources come and go); a reader takes an immutable
//! snapshot and is not disturbed.

use std::collections::HashMap;
use std::sync::Arc;

use corten_apimachinery::kind::{GroupVersionKind, GroupVersionResource, KindInfo};
use corten_apimachinery::value::Str;

/// All kinds at one moment, in the order they were installed.
#[derive(Default)]
pub struct KindSet {
    kinds: Vec<Arc<KindInfo>>,
    by_kind: HashMap<GroupVersionKind, usize, ahash::RandomState>,
    by_resource: HashMap<GroupVersionResource, usize, ahash::RandomState>,
    /// The record of the stored version.
    by_prefix: HashMap<Str, usize, ahash::RandomState>,
}

impl KindSet {
    /// The kind served at `group/version/resource`; kinds that are only a subresource's body are not found here.
    pub fn resource(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<KindInfo>> {
        let gvr = GroupVersionResource { group: group.into(), version: version.into(), resource: resource.into() };
        self.by_resource.get(&gvr).map(|&index| &self.kinds[index])
    }

    pub fn kind(&self, gvk: &GroupVersionKind) -> Option<&Arc<KindInfo>> {
        self.by_kind.get(gvk).map(|&index| &self.kinds[index])
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<KindInfo>> {
        self.kinds.iter()
    }

    /// The record of the stored version of what is stored below a prefix. Where none of the versions is the stored
    /// one, the first serves.
    pub fn home(&self, storage_prefix: &str) -> Option<&Arc<KindInfo>> {
        self.by_prefix.get(storage_prefix).map(|&index| &self.kinds[index])
    }

    /// This set with some kinds added or, where their group, version and kind are known, replaced in place.
    pub(super) fn with(&self, added: impl IntoIterator<Item = Arc<KindInfo>>) -> Self {
        let mut kinds = self.kinds.clone();
        for kind in added {
            match kinds.iter_mut().find(|own| own.gvk == kind.gvk) {
                Some(own) => *own = kind,
                None => kinds.push(kind),
            }
        }
        Self::index(kinds)
    }

    pub(super) fn without(&self, removed: &[GroupVersionKind]) -> Self {
        Self::index(self.kinds.iter().filter(|kind| !removed.contains(&kind.gvk)).cloned().collect())
    }

    fn index(kinds: Vec<Arc<KindInfo>>) -> Self {
        let by_kind = kinds.iter().enumerate().map(|(index, kind)| (kind.gvk.clone(), index)).collect();
        let served = kinds.iter().enumerate().filter(|(_, kind)| kind.is_resource());
        let by_resource = served.map(|(index, kind)| (kind.gvr(), index)).collect();
        let mut by_prefix: HashMap<Str, usize, ahash::RandomState> = HashMap::default();
        let stored = kinds.iter().enumerate().filter(|(_, kind)| !kind.storage_prefix.is_empty());
        for (index, kind) in stored {
            let home = by_prefix.entry(kind.storage_prefix.clone()).or_insert(index);
            if kinds[*home].convert.is_some() && kind.convert.is_none() {
                *home = index;
            }
        }
        Self { kinds, by_kind, by_resource, by_prefix }
    }

    /// The storage prefixes of some kinds, each once.
    pub(super) fn prefixes<'a>(kinds: impl IntoIterator<Item = &'a Arc<KindInfo>>) -> Vec<Str> {
        let mut prefixes: Vec<Str> = kinds.into_iter().map(|kind| kind.storage_prefix.clone()).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes
    }
}
