//! `metadata.managedFields`: who owns which fields, and since when.

use std::collections::BTreeMap;

use super::set::FieldSet;
use crate::meta::Meta;
use crate::time::Time;
use crate::value::{Map, Str, Value};

/// Entries of updates that an object keeps; older ones are merged.
const UPDATERS_MAX: usize = 10;
/// Who owns what merged entries owned.
const ANCIENT: &str = "ancient-changes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What tells two entries apart. An applier is one across versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) manager: Str,
    pub(super) operation: Operation,
    /// Empty for appliers.
    pub(super) api_version: Str,
    pub(super) subresource: Str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) api_version: Str,
    pub(super) fields: FieldSet,
    /// RFC 3339; empty where there is none.
    pub(super) time: Str,
}

impl Entry {
    fn seconds(&self) -> i64 {
        Time::parse(&self.time).map_or(0, |time| time.seconds)
    }
}

/// All entries of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries(pub(super) BTreeMap<Identity, Entry>);

impl Entries {
    /// Reads an object's entries.
    pub(super) fn of(object: &Value) -> Result<Self, String> {
        let mut entries = BTreeMap::new();
        for (index, entry) in Meta::of(object).managed_fields().iter().enumerate() {
            let text = |name: &str| Str::from(entry.str_at(&[name]));
            let operation = match entry.str_at(&["operation"]) {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err("operation must be `Apply` or `Update`".to_owned()),
            };
            let api_version = text("apiVersion");
            if api_version.is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match entry.str_at(&["fieldsType"]) {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
                other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {index}")),
            }
            let fields = entry.get("fieldsV1").map_or_else(|| Ok(FieldSet::default()), FieldSet::from_value)?;
            let identity = Identity {
                manager: text("manager"),
                operation,
                api_version: if operation == Operation::Apply { Str::default() } else { api_version.clone() },
                subresource: text("subresource"),
            };
            entries.insert(identity, Entry { api_version, fields, time: text("time") });
        }
        Ok(Self(entries))
    }

    /// Writes the entries into an object, in upstream's order.
    pub(super) fn store(&self, object: &mut Value) {
        let metadata = object.object_entry("metadata");
        if self.0.is_empty() {
            metadata.remove("managedFields");
            return;
        }
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort_by_key(|(identity, entry)| {
            (identity.operation, entry.seconds(), &identity.manager, &entry.api_version, &identity.subresource)
        });
        metadata.insert("managedFields", sorted.into_iter().map(|(id, entry)| encode(id, entry)).collect::<Vec<_>>());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that anybody owns.
    pub(super) fn all(&self) -> FieldSet {
        self.0.values().fold(FieldSet::default(), |all, entry| all.union(&entry.fields))
    }

    /// Merges the oldest updaters of each version until there are few enough.
    pub(super) fn cap_updaters(&mut self) {
        let mut updaters: Vec<Identity> =
            self.0.keys().filter(|identity| identity.operation == Operation::Update).cloned().collect();
        let mut count = updaters.len();
        updaters.sort_by_key(|identity| (self.0[identity].seconds(), identity.clone()));
        let mut first_of: BTreeMap<Str, Identity> = BTreeMap::new();
        for identity in updaters {
            if count <= UPDATERS_MAX {
                return;
            }
            let version = self.0[&identity].api_version.clone();
            let Some(first) = first_of.get(&version) else {
                first_of.insert(version, identity);
                continue;
            };
            let bucket = Identity {
                manager: ANCIENT.into(),
                operation: Operation::Update,
                api_version: version,
                subresource: Str::default(),
            };
            if !self.0.contains_key(&bucket)
                && let Some(oldest) = self.0.remove(first)
            {
                self.0.insert(bucket.clone(), oldest);
            }
            if let Some(entry) = self.0.remove(&identity) {
                let fields = self.0.get(&bucket).map_or_else(FieldSet::default, |known| known.fields.clone());
                self.0.insert(bucket, Entry { fields: entry.fields.union(&fields), ..entry });
                count -= 1;
            }
        }
    }
}

fn encode(identity: &Identity, entry: &Entry) -> Value {
    let mut map = Map::with_capacity(7);
    let texts = [
        ("manager", identity.manager.as_str()),
        ("operation", identity.operation.name()),
        ("apiVersion", &entry.api_version),
        ("time", &entry.time),
        ("fieldsType", "FieldsV1"),
    ];
    for (name, text) in texts {
        if !text.is_empty() {
            map.insert(name, text);
        }
    }
    map.insert("fieldsV1", entry.fields.to_value());
    if !identity.subresource.is_empty() {
        map.insert("subresource", identity.subresource.clone());
    }
    Value::Object(map)
}
