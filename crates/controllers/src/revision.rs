//! The history of a workload's template: a ControllerRevision for each form that it has had. The newest number is the form
//! that it has now; a form that comes back takes the next number again (`pkg/controller/history`).

use std::sync::Arc;

use corten_apimachinery::json;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};
use corten_client::cache::{Held, Key};
use corten_client::error::unless_gone;
use corten_client::informer::Informer;
use corten_client::{Client, Delete, Error, Resource};
use corten_stdx::clock::Clock;

use crate::name_hash::name_hash;
use crate::owned::{Claimed, Owner, selector};

pub(crate) const REVISIONS: Resource = Resource::new("apps", "v1", "controllerrevisions");

/// The label of pods that tells the form that they were made in.
pub(crate) const POD_LABEL: &str = "controller-revision-hash";

/// Bytes of a workload's name in the name of a revision.
const PREFIX_MAX: usize = 223;

/// Writes and reads the revisions of one kind of workload.
pub(crate) struct Keeper<'a> {
    pub(crate) client: &'a Client,
    pub(crate) revisions: &'a Informer<Value>,
    pub(crate) clock: &'a Clock,
    pub(crate) owner: &'static Owner,
    /// The label of a revision that holds its hash.
    pub(crate) label: &'static str,
}

pub(crate) type Revision = Arc<Held<Value>>;

/// The history of one workload.
pub(crate) struct History {
    /// By number; the last is what the template is now.
    pub(crate) all: Vec<Revision>,
    /// How often a name was taken by another form.
    pub(crate) collisions: i64,
}

impl History {
    pub(crate) fn newest(&self) -> &Revision {
        self.all.last().expect("a history has the form of now")
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Revision> {
        self.all.iter().find(|revision| revision.head.name == name)
    }
}

/// The template of a revision.
pub(crate) fn template(revision: &Held<Value>) -> Value {
    let mut template = revision.view.at(&["data", "spec", "template"]).cloned().unwrap_or_default();
    if let Some(template) = template.as_object_mut() {
        template.remove("$patch");
    }
    template
}

fn number(revision: &Value) -> i64 {
    revision.i64_at(&["revision"]).unwrap_or_default()
}

/// What a revision keeps of a workload: a strategic merge patch that brings its template back.
fn data(workload: &Value) -> Value {
    let mut template = workload.at(&["spec", "template"]).cloned().unwrap_or_default();
    if let Some(template) = template.as_object_mut() {
        template.insert("$patch", "replace");
    }
    value!({"spec": {"template": template}})
}

impl Keeper<'_> {
    /// The history of a workload, with the form of now as its newest entry: found, renumbered or made.
    pub(crate) async fn settle(&self, workload: &Held<Value>) -> Result<History, Error> {
        let mut all = self.own(workload).await?;
        let mut collisions = workload.view.i64_at(&["status", "collisionCount"]).unwrap_or_default();
        let data = data(&workload.view);
        let next = all.last().map_or(1, |last| number(&last.view) + 1);
        match all.iter().rposition(|known| known.view.get("data") == Some(&data)) {
            Some(at) if at + 1 == all.len() => {}
            Some(at) => {
                let known = all.remove(at);
                let mut again = known.view.clone();
                if let Some(again) = again.as_object_mut() {
                    again.insert("revision", next);
                }
                all.push(self.held(self.client.update(&REVISIONS, "", &again).await?).await?);
            }
            None => all.push(self.create(&workload.view, &data, next, &mut collisions).await?),
        }
        Ok(History { all, collisions })
    }

    /// The revisions that a workload controls or adopts, by number.
    async fn own(&self, workload: &Held<Value>) -> Result<Vec<Revision>, Error> {
        let found = self.revisions.cache().in_namespace(&workload.head.namespace);
        // What was labelled otherwise stays what it is: a part of this history.
        let (own, others): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|known| known.head.controller().is_some_and(|owner| owner.uid == workload.head.uid));
        let orphans = others.into_iter().filter(|known| known.head.controller().is_none()).collect();
        let claimed = Claimed::sort(&workload.head, &selector(&workload.view)?, orphans, |_| true);
        claimed.write(self.client, &REVISIONS, self.owner, &workload.view).await?;
        let mut all: Vec<Revision> = own.into_iter().chain(claimed.adopt).collect();
        all.sort_by_key(|known| (number(&known.view), known.head.name.clone()));
        Ok(all)
    }

    async fn create(
        &self,
        workload: &Value,
        data: &Value,
        number: i64,
        collisions: &mut i64,
    ) -> Result<Revision, Error> {
        let meta = Meta::of(workload);
        loop {
            let made = self.revision(workload, data, number, *collisions);
            match self.client.create(&REVISIONS, meta.namespace(), &made).await {
                Err(error) if error.is_already_exists() => {
                    let name = Meta::of(&made).name();
                    let taken = unless_gone(self.client.get(&REVISIONS, meta.namespace(), name).await)?;
                    match taken {
                        // The cache did not show it yet.
                        Some(taken) if taken.get("data") == Some(data) && is_of(&taken, meta.uid()) => {
                            return self.held(taken).await;
                        }
                        _ => *collisions += 1,
                    }
                }
                other => return self.held(other?).await,
            }
        }
    }

    fn revision(&self, workload: &Value, data: &Value, number: i64, collisions: i64) -> Value {
        let meta = Meta::of(workload);
        let hash = name_hash(json::to_vec(data), collisions);
        let mut prefix = meta.name();
        prefix = &prefix[..prefix.len().min(PREFIX_MAX)];
        let template = workload.at(&["spec", "template", "metadata", "labels"]).and_then(Value::as_object);
        let mut labels = template.cloned().unwrap_or_default();
        labels.insert(self.label, hash.as_str());
        let annotations: Map = meta.annotations().map(|(key, text)| (key.clone(), Value::from(text))).collect();
        value!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {
                "name": (format!("{prefix}-{hash}")), "namespace": (meta.namespace()),
                "labels": labels, "annotations": annotations,
                "ownerReferences": [(self.owner.reference(workload))]
            },
            "data": (data.clone()), "revision": number
        })
    }

    /// What was written, once the cache shows it.
    async fn held(&self, written: Value) -> Result<Revision, Error> {
        self.revisions.caught_up(Meta::of(&written).resource_version(), self.clock).await?;
        let held = Held::from_object(&written);
        held.map(Arc::new).ok_or_else(|| Error::Shape("a revision without metadata".to_owned()))
    }

    /// Deletes the oldest of those that nothing is `live` in, as far as there are more than the workload keeps.
    pub(crate) async fn truncate(
        &self,
        workload: &Value,
        history: &History,
        live: impl Fn(&Held<Value>) -> bool,
    ) -> Result<(), Error> {
        let limit = workload.i64_at(&["spec", "revisionHistoryLimit"]).unwrap_or(10);
        let past: Vec<&Revision> = history.all.iter().filter(|known| !live(known)).collect();
        let surplus = past.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        for known in &past[..surplus] {
            let head = &known.head;
            unless_gone(self.client.delete(&REVISIONS, &head.namespace, &head.name, &Delete::of(&head.uid)).await)?;
        }
        Ok(())
    }
}

fn is_of(object: &Value, uid: &str) -> bool {
    Meta::of(object).owner_references().any(|owner| owner.controller() && owner.uid() == uid)
}

/// The key of the workload whose revision it is.
pub(crate) fn concerned(owner: &Owner, revision: &Held<Value>) -> Vec<Key> {
    let by = revision.head.controller().filter(|by| by.kind == owner.kind);
    by.map(|by| Key::new(revision.head.namespace.clone(), by.name.clone())).into_iter().collect()
}
