//! Objects that no store has: they are made for one request, and then selected and shown like all others. They have no
//! revision, and a list of them is one page.

use std::sync::Arc;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;

use super::engine::not_found;
use super::select::Selection;
use super::{List, ListOptions, Object, Shown, Target, key};

impl List {
    /// Those of the objects that a request asks for, by their names.
    pub(crate) fn unstored(
        kind: &Arc<KindInfo>,
        namespace: &str,
        options: &ListOptions,
        objects: &[Value],
    ) -> Result<Self, Status> {
        let selection = Selection::new(kind, kind, namespace, options)?;
        let objects = objects.iter().map(|value| Object::of(value, 0, &kind.selectable_fields));
        let keyed = objects.map(|object| (key::relative(kind, &object.head.namespace, &object.head.name), object));
        let mut chosen: Vec<_> = keyed
            .filter(|(key, _)| key.starts_with(selection.prefix.as_str()))
            .map(|(key, object)| (key, Arc::new(object)))
            .filter(|(_, object)| selection.matches(object))
            .collect();
        chosen.sort_by(|(a, _), (b, _)| a.cmp(b));
        let items = chosen.into_iter().map(|(_, object)| object).collect();
        Ok(Self { kind: kind.clone(), items, revision: 0, continue_token: String::new(), remaining: None })
    }
}

impl Shown {
    /// The one that a request names.
    pub(crate) fn unstored_one(target: &Target, objects: &[Value]) -> Result<Self, Status> {
        let own = |value: &&Value| {
            value.str_at(&["metadata", "name"]) == target.name
                && value.str_at(&["metadata", "namespace"]) == target.namespace
        };
        let found = objects.iter().find(own).ok_or_else(|| not_found(&target.kind, &target.name))?;
        Ok(Self::unstored(target.kind.clone(), found, 0))
    }
}
