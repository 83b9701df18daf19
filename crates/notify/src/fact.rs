//! What somebody is told of: an object that is ill in one way.

use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};

/// A way of being ill, as it stands in `spec.facts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A container keeps dying.
    CrashLoop,
    /// A server is lost, or says that it is not ready.
    Node,
    /// A server is short of memory, disk or processes, and ends pods.
    Pressure,
    /// A rollout does not come forward within its deadline.
    RolloutFailed,
    /// A rollout is undone: an old form is the wanted one again.
    RolloutUndone,
    /// The disk of a server or of a volume fills.
    Disk,
    /// A certificate will expire soon.
    Certificate,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::CrashLoop,
        Self::Node,
        Self::Pressure,
        Self::RolloutFailed,
        Self::RolloutUndone,
        Self::Disk,
        Self::Certificate,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::CrashLoop => "CrashLoop",
            Self::Node => "Node",
            Self::Pressure => "Pressure",
            Self::RolloutFailed => "RolloutFailed",
            Self::RolloutUndone => "RolloutUndone",
            Self::Disk => "Disk",
            Self::Certificate => "Certificate",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The object that a fact is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// In small letters, as kubectl takes it: `deployment`.
    pub kind: Str,
    /// Empty for what belongs to the whole cluster.
    pub namespace: Str,
    pub name: Str,
}

impl Subject {
    pub fn new(kind: impl Into<Str>, namespace: impl Into<Str>, name: impl Into<Str>) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }

    /// `deployment/web in shop`.
    pub fn text(&self) -> String {
        let place = if self.namespace.is_empty() { String::new() } else { format!(" in {}", self.namespace) };
        format!("{}/{}{place}", self.kind, self.name)
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut object = value!({"kind": (self.kind.clone()), "name": (self.name.clone())});
        if let Some(object) = object.as_object_mut().filter(|_| !self.namespace.is_empty()) {
            object.insert("namespace", self.namespace.clone());
        }
        object
    }

    pub(crate) fn from_value(value: &Value) -> Self {
        Self::new(value.str_at(&["kind"]), value.str_at(&["namespace"]), value.str_at(&["name"]))
    }
}

/// Which fact: one of a kind about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    pub subject: Subject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Ill,
    /// On its way to one or the other: what was known of it stays.
    Unsure,
    Well,
}

/// What is seen of one fact. What is well needs no sight, unless it has a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub key: Key,
    pub health: Health,
    /// A sentence without its end.
    pub text: String,
    /// Tells occurrences apart that are told each, a revision for example; empty for what is told by its state alone.
    pub mark: Str,
    /// Nobody wants to hear of the object until then, in Unix seconds.
    pub silent_until_s: i64,
}

impl Sight {
    pub(crate) fn new(kind: Kind, subject: Subject, health: Health, text: impl Into<String>) -> Self {
        let key = Key { kind, subject };
        Self { key, health, text: text.into(), mark: Str::default(), silent_until_s: 0 }
    }
}

/// Everything that is seen at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sights {
    pub all: Vec<Sight>,
    /// Kinds of which not everything can be seen: what was known of them stays.
    pub blind: Vec<Kind>,
}
