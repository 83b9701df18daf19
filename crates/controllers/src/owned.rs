//! What a workload owns: which objects it controls, adopts because they match its selector, or lets go of because they no
//! longer do (`pkg/controller/controller_ref_manager.go`).

use std::sync::Arc;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::cache::{Head, Held, Key, View};
use corten_client::error::unless_gone;
use corten_client::events::Reference;
use corten_client::informer::Informer;
use corten_client::{Client, Error, Patch, Resource};

/// A kind whose objects control others.
pub(crate) struct Owner {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
}

/// What becomes of the objects that a workload could have.
pub(crate) struct Claimed<V> {
    /// Those that it controls, with those that it adopts.
    pub(crate) own: Vec<Arc<Held<V>>>,
    pub(crate) adopt: Vec<Arc<Held<V>>>,
    pub(crate) release: Vec<Arc<Held<V>>>,
}

impl Owner {
    pub(crate) fn reference(&self, owner: &Value) -> Value {
        let meta = Meta::of(owner);
        value!({
            "apiVersion": (self.api_version), "kind": (self.kind), "name": (meta.name()), "uid": (meta.uid()),
            "controller": true, "blockOwnerDeletion": true
        })
    }

    /// One of its objects, as events name it.
    pub(crate) fn told_of(&self, owner: &Value) -> Reference {
        Reference::of(self.api_version, self.kind, owner)
    }

    /// The keys of the workload that controls an object, or of those that could adopt it.
    pub(crate) fn concerned(&self, owners: &Informer<Value>, object: &Head) -> Vec<Key> {
        let namespace = &object.namespace;
        if let Some(owner) = object.controller() {
            let group = |version: &str| version.split_once('/').map_or("", |(group, _)| group).to_owned();
            let ours = owner.kind == self.kind && group(&owner.api_version) == group(self.api_version);
            return if ours { vec![Key::new(namespace.clone(), owner.name.clone())] } else { Vec::new() };
        }
        let owners = owners.cache().in_namespace(namespace);
        let adopt = owners.iter().filter(|owner| selector(&owner.view).is_ok_and(|of| of.matches(&object.labels)));
        adopt.map(|owner| owner.head.key()).collect()
    }
}

/// The `spec.selector` of a workload; older kinds have plain labels there.
pub(crate) fn selector(owner: &Value) -> Result<LabelSelector, Error> {
    let selector = owner.at(&["spec", "selector"]);
    if let Some(labels) =
        selector.and_then(Value::as_object).filter(|labels| labels.values().any(|of| of.as_str().is_some()))
    {
        let labels = labels.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
        return Ok(LabelSelector::from_labels(labels));
    }
    let selector = LabelSelector::from_object(selector);
    selector.map_err(|error| Error::Shape(format!("the selector of {}: {error}", Meta::of(owner).name())))
}

/// A label of an object; empty where it has none of that name.
pub(crate) fn label<'a>(head: &'a Head, key: &str) -> &'a str {
    head.labels.iter().find(|(own, _)| own == key).map_or("", |(_, value)| value.as_str())
}

/// A number, or a share of `whole` in percent, rounded up or down; 0 where it is not given.
pub(crate) fn count_or_share(given: Option<&Value>, whole: i64, up: bool) -> i64 {
    match given {
        Some(Value::Int(count)) => *count,
        Some(Value::String(text)) => {
            // Validation has seen to it that it is a number.
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or_default();
            let parts = percent * whole;
            if up { (parts + 99) / 100 } else { parts / 100 }
        }
        _ => 0,
    }
}

impl<V: View> Claimed<V> {
    /// Sorts out `objects`: those of the owner and those that nobody controls. `may_have` says which of the latter, and of
    /// those that it controls, fit beside their labels. What is being deleted is neither adopted nor released.
    pub(crate) fn sort(
        owner: &Head,
        selector: &LabelSelector,
        objects: Vec<Arc<Held<V>>>,
        may_have: impl Fn(&Held<V>) -> bool,
    ) -> Self {
        let mut claimed = Self { own: Vec::new(), adopt: Vec::new(), release: Vec::new() };
        for object in objects {
            let owned = object.head.controller().is_some_and(|by| by.uid == owner.uid);
            let fits = selector.matches(&object.head.labels) && may_have(&object);
            match (owned, fits) {
                (true, true) => claimed.own.push(object),
                (true, false) if !owner.deleting => claimed.release.push(object),
                (false, true) if !owner.deleting && !object.head.deleting && object.head.controller().is_none() => {
                    claimed.adopt.push(object.clone());
                    claimed.own.push(object);
                }
                _ => {}
            }
        }
        claimed
    }

    /// Writes who is adopted and released.
    pub(crate) async fn write(
        &self,
        client: &Client,
        resource: &Resource,
        owner: &Owner,
        of: &Value,
    ) -> Result<(), Error> {
        for object in &self.adopt {
            patch_owner(client, resource, &object.head, owner.reference(of)).await?;
        }
        for object in &self.release {
            let gone = value!({"$patch": "delete", "uid": (Meta::of(of).uid())});
            patch_owner(client, resource, &object.head, gone).await?;
        }
        Ok(())
    }
}

/// Merges an entry into the owner references of exactly this object.
pub(crate) async fn patch_owner(
    client: &Client,
    resource: &Resource,
    head: &Head,
    reference: Value,
) -> Result<(), Error> {
    let patch = value!({"metadata": {"uid": (head.uid.clone()), "ownerReferences": [reference]}});
    let patched = client.patch(resource, &head.namespace, &head.name, "", &Patch::Strategic(patch)).await;
    unless_gone(patched).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name owner app`; `-` for none; `!` after the name: being deleted.
    fn object(text: &str) -> Arc<Held<()>> {
        let words: Vec<&str> = text.split(' ').collect();
        let name = words[0].trim_end_matches('!');
        let mut object =
            value!({"metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": (words[2])}}});
        let metadata = object.object_entry("metadata");
        if words[1] != "-" {
            metadata.insert("ownerReferences", vec![value!({"uid": (words[1]), "controller": true})]);
        }
        if name != words[0] {
            metadata.insert("deletionTimestamp", "1970-01-01T00:00:00Z");
        }
        Arc::new(Held::from_object(&object).expect("held"))
    }

    #[test]
    fn what_matches_is_adopted_and_what_does_not_is_released() {
        let selector = LabelSelector::from_labels([("app", "web")]);
        let check = |deleting: bool, objects: &[&str], expect: &str| {
            let owner = Head { uid: "set".into(), deleting, ..Head::default() };
            let objects = objects.iter().map(|text| object(text)).collect();
            let claimed = Claimed::sort(&owner, &selector, objects, |object| object.head.name != "odd");
            let names = |objects: &[Arc<Held<()>>]| {
                objects.iter().map(|object| object.head.name.as_str()).collect::<Vec<_>>().join(",")
            };
            let seen = [&claimed.own, &claimed.adopt, &claimed.release].map(|list| names(list)).join(" ");
            assert_eq!(seen, expect);
        };
        check(false, &["a set web", "b - web", "c set db", "d other web", "e! - web", "odd - web"], "a,b b c");
        check(true, &["a set web", "b - web", "c set db"], "a  ");
    }
}
