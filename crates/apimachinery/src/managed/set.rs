//! Sets of field paths, as tries.

use std::collections::BTreeMap;

use super::path::PathElement;
use crate::schema::Node;
use crate::value::{Map, Value};

/// A set of paths. The whole object is never a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeMap<PathElement, Entry>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// The path that ends here is in the set itself.
    member: bool,
    below: FieldSet,
}

impl Entry {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl FieldSet {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn insert(&mut self, path: &[PathElement]) {
        match path {
            [] => {}
            [last] => self.0.entry(last.clone()).or_default().member = true,
            [first, rest @ ..] => self.0.entry(first.clone()).or_default().below.insert(rest),
        }
    }

    /// The set of paths of plain fields.
    pub(super) fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<PathElement> = path.iter().map(|name| PathElement::Field((*name).into())).collect();
            set.insert(&path);
        }
        set
    }

    pub(super) fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.has_member(last),
            [first, rest @ ..] => self.0.get(first).is_some_and(|entry| entry.below.has(rest)),
        }
    }

    pub(super) fn has_member(&self, element: &PathElement) -> bool {
        self.0.get(element).is_some_and(|entry| entry.member)
    }

    /// The paths below an element; `None` if there are none.
    pub(super) fn below(&self, element: &PathElement) -> Option<&FieldSet> {
        self.0.get(element).map(|entry| &entry.below).filter(|below| !below.is_empty())
    }

    #[must_use]
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (element, entry) in &other.0 {
            let mine = all.0.entry(element.clone()).or_default();
            mine.member |= entry.member;
            mine.below = mine.below.union(&entry.below);
        }
        all
    }

    #[must_use]
    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.filter_map(|element, entry| {
            let theirs = other.0.get(element)?;
            Some(Entry { member: entry.member && theirs.member, below: entry.below.intersection(&theirs.below) })
        })
    }

    /// The paths that are not in the other set themselves.
    #[must_use]
    pub(super) fn difference(&self, other: &Self) -> Self {
        self.filter_map(|element, entry| match other.0.get(element) {
            None => Some(entry.clone()),
            Some(theirs) => {
                Some(Entry { member: entry.member && !theirs.member, below: entry.below.difference(&theirs.below) })
            }
        })
    }

    /// The paths that are neither in the other set nor below one that is.
    #[must_use]
    pub(super) fn without_trees(&self, other: &Self) -> Self {
        self.filter_map(|element, entry| match other.0.get(element) {
            None => Some(entry.clone()),
            Some(theirs) if theirs.member => None,
            Some(theirs) => Some(Entry { member: entry.member, below: entry.below.without_trees(&theirs.below) }),
        })
    }

    /// The paths that are in the other set, below one that is, or above one.
    #[must_use]
    pub(super) fn only_trees(&self, other: &Self) -> Self {
        self.filter_map(|element, entry| match other.0.get(element) {
            None => None,
            Some(theirs) if theirs.member => Some(entry.clone()),
            Some(theirs) => Some(Entry { member: entry.member, below: entry.below.only_trees(&theirs.below) }),
        })
    }

    fn filter_map(&self, keep: impl Fn(&PathElement, &Entry) -> Option<Entry>) -> Self {
        let kept = self.0.iter().filter_map(|(element, entry)| Some((element.clone(), keep(element, entry)?)));
        Self(kept.filter(|(_, entry)| !entry.is_empty()).collect())
    }

    /// The set with every declared field on the way to a member made a member too.
    #[must_use]
    pub(super) fn with_declared(&self, node: Node<'_>) -> Self {
        self.filter_map(|element, entry| {
            let (child, declared) = match element {
                PathElement::Field(name) => (node.field(name), node.declares(name)),
                _ => (node.item(), false),
            };
            let above = declared && !entry.below.is_empty();
            Some(Entry { member: entry.member || above, below: entry.below.with_declared(child) })
        })
    }

    /// Calls back with each path: at each level the members first, then what is below, as upstream lists conflicts.
    pub(super) fn for_each(&self, path: &mut Vec<PathElement>, visit: &mut impl FnMut(&[PathElement])) {
        for (element, _) in self.0.iter().filter(|(_, entry)| entry.member) {
            path.push(element.clone());
            visit(path);
            path.pop();
        }
        for (element, entry) in &self.0 {
            path.push(element.clone());
            entry.below.for_each(path, visit);
            path.pop();
        }
    }

    /// The set as `fieldsV1`.
    pub fn to_value(&self) -> Value {
        let fields = self.0.iter().map(|(element, entry)| {
            let mut below = Map::with_capacity(entry.below.0.len() + 1);
            if entry.member && !entry.below.is_empty() {
                below.insert(".", Value::object());
            }
            if let Value::Object(children) = entry.below.to_value() {
                children.into_iter().for_each(|(key, value)| {
                    below.insert(key, value);
                });
            }
            (element.serialize().into(), Value::Object(below))
        });
        Value::Object(fields.collect())
    }

    /// Reads `fieldsV1`.
    pub fn from_value(value: &Value) -> Result<Self, String> {
        let Value::Object(fields) = value else { return Err("fieldsV1 is no object".to_owned()) };
        let mut set = Self::default();
        for (key, below) in fields.iter().filter(|(key, _)| *key != ".") {
            let children = Self::from_value(below)?;
            let member = children.is_empty() || below.get(".").is_some();
            set.0.insert(PathElement::parse(key)?, Entry { member, below: children });
        }
        Ok(set)
    }
}
