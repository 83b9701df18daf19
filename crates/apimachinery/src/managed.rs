//! Server-side apply: who owns which fields of an object (`metadata.managedFields`), and what applying a configuration
//! makes of it (`structured-merge-diff`, `k8s.io/apimachinery/pkg/util/managedfields`).
//!
//! Every write goes through [`update`] or [`apply`]. Entries of other versions of the kind are taken as if their paths
//! were those of this version; upstream converts the object instead.

mod entries;
mod last_applied;
mod path;
mod set;
#[cfg(test)]
mod tests;
mod typed;

pub use set::FieldSet;

use crate::kind::GroupVersionKind;
use crate::meta::Meta;
use crate::patch::PatchError;
use crate::schema::Node;
use crate::status::{Cause, Details, Status};
use crate::time::Time;
use crate::value::{Str, Value};

use entries::{Entries, Entry, Identity, Operation};
use path::PathElement;

/// Who owns what nobody was recorded for when an object is first applied to.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Fields that nobody owns.
const STRIPPED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// Who writes, and through which endpoint.
#[derive(Clone, Debug)]
pub struct Manager<'a> {
    /// `?fieldManager=` or the user agent's first part; empty becomes `unknown`.
    pub name: &'a str,
    pub gvk: &'a GroupVersionKind,
    /// `""` for the main endpoint.
    pub subresource: &'a str,
    /// What the endpoint lets a writer own.
    pub endpoint: Endpoint<'a>,
}

/// Which fields an endpoint writes; it resets the others, so that nobody may own them through it.
#[derive(Clone, Copy, Debug)]
pub enum Endpoint<'a> {
    All,
    /// All but these fields and what is below them.
    Except(&'a [&'a [&'a str]]),
    /// These fields and what is below them.
    Only(&'a [&'a [&'a str]]),
}

impl Endpoint<'static> {
    /// The main endpoint of a kind whose status has an endpoint of its own.
    pub const WITHOUT_STATUS: Self = Endpoint::Except(&[&["status"]]);
    /// The status endpoint.
    pub const STATUS: Self = Endpoint::Only(&[&["metadata"], &["status"]]);
}

impl Endpoint<'_> {
    fn filter(self, set: &FieldSet) -> FieldSet {
        match self {
            Self::All => set.clone(),
            Self::Except(paths) => set.without_trees(&FieldSet::of_fields(paths)),
            Self::Only(paths) => set.only_trees(&FieldSet::of_fields(paths)),
        }
    }
}

/// Why a configuration was not applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration is for another kind, or carries managed fields: 400.
    #[error("{0}")]
    Malformed(String),
    /// The configuration does not fit the schema, or the stored entries are unreadable: 500, as upstream answers.
    #[error("{0}")]
    Failed(String),
    /// Others own what the configuration changes: 409.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

/// A field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As messages name the manager: `"kubectl" using apps/v1`.
    pub manager: String,
    /// `.spec.replicas`
    pub field: String,
    path: Vec<PathElement>,
    identity: Identity,
}

impl ApplyError {
    /// The answer to the request.
    pub fn to_status(&self) -> Status {
        match self {
            Self::Malformed(text) => Status::bad_request(text.as_str()),
            Self::Failed(text) => PatchError::Failed(text.clone()).to_status(),
            Self::Conflicts(conflicts) => {
                let causes = conflicts.iter().map(|conflict| Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", conflict.manager),
                    field: conflict.field.clone(),
                });
                let details = Details { causes: causes.collect(), ..Details::default() };
                let message = conflict_message(conflicts);
                Status {
                    code: 409,
                    reason: "Conflict",
                    message,
                    details: Some(Box::new(details)),
                    continue_token: None,
                }
            }
        }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.field);
    }
    let mut lines = Vec::new();
    for (index, conflict) in conflicts.iter().enumerate() {
        if index == 0 || conflicts[index - 1].identity != conflict.identity {
            lines.push(format!("conflicts with {}:", conflict.manager));
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// Records a create, update or patch in `new`, which replaces `live` (absent on create). Unreadable entries are dropped.
pub fn update(live: Option<&Value>, new: &mut Value, node: Node<'_>, manager: &Manager<'_>, now: Option<Time>) {
    let mut entries = entries_for_update(live, new, manager);
    new.object_entry("metadata").remove("managedFields");
    let stored = live.is_some_and(|live| !Meta::of(live).uid().is_empty());
    if entries.is_empty() && stored {
        // Nobody was recorded before; only the first apply starts to.
        return;
    }
    record(live, new, &mut entries, node, manager, now);
    entries.cap_updaters();
    entries.store(new);
}

/// The entries that a write starts from: those it sends, unless it is about a subresource or sends none.
fn entries_for_update(live: Option<&Value>, new: &Value, manager: &Manager<'_>) -> Entries {
    let of_live = || live.and_then(|live| Entries::of(live).ok()).unwrap_or_default();
    if !manager.subresource.is_empty() {
        return of_live();
    }
    match new.at(&["metadata", "managedFields"]) {
        Some(Value::Array(items)) if resets(items) => Entries::default(),
        _ => match Entries::of(new) {
            Ok(sent) if !sent.is_empty() => sent,
            _ => of_live(),
        },
    }
}

/// An empty list, or one empty entry, asks for all entries to be dropped.
fn resets(items: &[Value]) -> bool {
    match items {
        [] => true,
        [Value::Object(only)] => only.is_empty(),
        _ => false,
    }
}

/// Gives the writer what it changed and takes it from the others.
fn record(
    live: Option<&Value>,
    new: &Value,
    entries: &mut Entries,
    node: Node<'_>,
    manager: &Manager<'_>,
    now: Option<Time>,
) {
    let zero = live.is_none().then(|| node.zero());
    let live = live.or(zero.as_ref()).expect("zero stands in for an absent object");
    let changed = filtered(live, new, node, manager.endpoint);
    take_away(entries, &changed, None);
    let taken = changed.modified.union(&changed.added).difference(&FieldSet::of_fields(STRIPPED));
    if taken.is_empty() {
        return;
    }
    let identity = manager.identity(Operation::Update);
    let known = entries.0.get(&identity).map_or_else(FieldSet::default, |entry| entry.fields.clone());
    let entry = Entry { api_version: manager.gvk.api_version(), fields: taken.union(&known), time: stamp(now) };
    entries.0.insert(identity, entry);
}

/// An entry's time; through some endpoints it has none.
fn stamp(now: Option<Time>) -> Str {
    now.map_or_else(Str::default, |now| now.to_rfc3339())
}

fn filtered(live: &Value, new: &Value, node: Node<'_>, endpoint: Endpoint<'_>) -> typed::Comparison {
    let typed::Comparison { added, modified, removed } = typed::compare(live, new, node);
    typed::Comparison {
        added: endpoint.filter(&added),
        modified: endpoint.filter(&modified),
        removed: endpoint.filter(&removed),
    }
}

/// What all but one manager own no longer after a change.
fn take_away(entries: &mut Entries, changed: &typed::Comparison, keeper: Option<&Identity>) {
    let gone = changed.modified.union(&changed.added).union(&changed.removed);
    for (identity, entry) in &mut entries.0 {
        if Some(identity) != keeper {
            entry.fields = entry.fields.difference(&gone);
        }
    }
    entries.0.retain(|_, entry| !entry.fields.is_empty());
}

/// Applies a configuration to an object (absent when it is to be created). The result still has to be conformed and
/// defaulted; one that changes nothing keeps every entry's time.
pub fn apply(
    live: Option<&Value>,
    config: &Value,
    node: Node<'_>,
    manager: &Manager<'_>,
    force: bool,
    now: Option<Time>,
) -> Result<Value, ApplyError> {
    check_config(config, node, manager)?;
    let zero = live.is_none().then(|| node.zero());
    let live = live.or(zero.as_ref()).expect("zero stands in for an absent object");
    let mut entries =
        Entries::of(live).map_err(|error| ApplyError::Failed(format!("failed to decode managed fields: {error}")))?;
    if entries.is_empty() {
        let before = Manager { name: BEFORE_FIRST_APPLY, ..manager.clone() };
        record(None, live, &mut entries, node, &before, now);
        entries.cap_updaters();
    }
    let write = Write { live, config, node, manager, now };
    let (mut object, entries) = match write.apply(entries.clone(), force) {
        Err(conflicts) if last_applied::allows(manager, live, node, &conflicts) => {
            write.apply(entries, true).map_err(ApplyError::Conflicts)?
        }
        Err(conflicts) => return Err(ApplyError::Conflicts(last_applied::remaining(manager, live, node, conflicts))),
        Ok(applied) => applied,
    };
    last_applied::refresh(manager, config, &mut object);
    entries.store(&mut object);
    Ok(object)
}

fn check_config(config: &Value, node: Node<'_>, manager: &Manager<'_>) -> Result<(), ApplyError> {
    let gvk = GroupVersionKind::from_api_version(config.str_at(&["apiVersion"]), config.str_at(&["kind"]));
    if gvk != *manager.gvk {
        return Err(ApplyError::Malformed(format!("invalid object type: {gvk}")));
    }
    if config.at(&["metadata", "managedFields"]).is_some_and(|fields| !fields.is_null()) {
        return Err(ApplyError::Malformed("metadata.managedFields must be nil".to_owned()));
    }
    let errors = typed::check(config, node);
    let text = match errors.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => many.iter().fold("errors:".to_owned(), |text, error| text + "\n  " + error),
    };
    let meta = Meta::of(config);
    let what = format!("{}/{}; {gvk}", meta.namespace(), meta.name());
    Err(ApplyError::Failed(format!("failed to create typed patch object ({what}): {text}")))
}

/// One configuration on its way into an object.
struct Write<'a> {
    live: &'a Value,
    config: &'a Value,
    node: Node<'a>,
    manager: &'a Manager<'a>,
    now: Option<Time>,
}

impl Write<'_> {
    fn apply(&self, mut entries: Entries, force: bool) -> Result<(Value, Entries), Vec<Conflict>> {
        let merged = typed::merge(self.live, self.config, self.node);
        let identity = self.manager.identity(Operation::Apply);
        let last = entries.0.get(&identity).cloned();
        let fields = self.manager.endpoint.filter(&typed::fields_of(self.config, self.node));
        let time = last.as_ref().map(|entry| entry.time.clone()).unwrap_or_default();
        let api_version = self.manager.gvk.api_version();
        entries.0.insert(identity.clone(), Entry { api_version, fields, time });
        let object = match &last {
            Some(last) if !last.fields.is_empty() => self.prune(merged, &entries, &last.fields),
            _ => merged,
        };
        let changed = filtered(self.live, &object, self.node, self.manager.endpoint);
        if !force {
            let conflicts = conflicts(&entries, &changed, &identity);
            if !conflicts.is_empty() {
                return Err(conflicts);
            }
        }
        take_away(&mut entries, &changed, Some(&identity));
        if let Some(entry) = entries.0.get_mut(&identity) {
            entry.fields = entry.fields.difference(&FieldSet::of_fields(STRIPPED));
            if object != *self.live {
                entry.time = stamp(self.now);
            }
        }
        entries.0.retain(|_, entry| !entry.fields.is_empty());
        Ok((object, entries))
    }

    /// Removes what this manager applied last time and does not now, unless somebody else owns it.
    fn prune(&self, merged: Value, entries: &Entries, last: &FieldSet) -> Value {
        let declared = |set: &FieldSet| set.with_declared(self.node);
        let last = declared(last);
        let has = declared(&typed::fields_of(&merged, self.node));
        let kept = declared(&typed::fields_of(&typed::without(&merged, &last, self.node), self.node));
        let owned = declared(&entries.all());
        let pruned = typed::without(&merged, &has.difference(&kept.union(&owned)), self.node);
        // What stood below something removed, but was never applied by this manager, comes back.
        let kept = declared(&typed::fields_of(&pruned, self.node));
        typed::without(&merged, &has.difference(&kept).intersection(&last), self.node)
    }
}

fn conflicts(entries: &Entries, changed: &typed::Comparison, identity: &Identity) -> Vec<Conflict> {
    let taken = changed.modified.union(&changed.added);
    let mut conflicts = Vec::new();
    for (other, entry) in entries.0.iter().filter(|(other, _)| *other != identity) {
        let manager = print_manager(other);
        entry.fields.intersection(&taken).for_each(&mut Vec::new(), &mut |path| {
            conflicts.push(Conflict {
                manager: manager.clone(),
                field: print(path),
                path: path.to_vec(),
                identity: other.clone(),
            });
        });
    }
    conflicts
}

fn print_manager(identity: &Identity) -> String {
    let mut text = format!("{:?}", identity.manager);
    if !identity.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", identity.subresource));
    }
    if identity.operation == Operation::Update {
        text.push_str(&format!(" using {}", identity.api_version));
    }
    text
}

/// A path as messages print it.
fn print(path: &[PathElement]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// Whether two objects differ in nothing but the times of their managed fields, so that a write need not happen.
/// Then the new object takes over the old times.
pub fn settle(live: &Value, new: &mut Value) -> bool {
    let timeless = |object: &Value| {
        let mut object = object.clone();
        if let Some(entries) = object.at_mut(&["metadata", "managedFields"]).and_then(Value::as_array_mut) {
            entries.iter_mut().filter_map(Value::as_object_mut).for_each(|entry| {
                entry.remove("time");
            });
        }
        object
    };
    let same = timeless(live) == timeless(new);
    if same {
        *new = live.clone();
    }
    same
}

impl Manager<'_> {
    fn identity(&self, operation: Operation) -> Identity {
        Identity {
            manager: if self.name.is_empty() { Str::const_new("unknown") } else { self.name.into() },
            operation,
            api_version: match operation {
                Operation::Apply => Str::default(),
                Operation::Update => self.gvk.api_version(),
            },
            subresource: self.subresource.into(),
        }
    }
}
