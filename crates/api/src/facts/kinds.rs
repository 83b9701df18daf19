//! `kinds.txt`: every kind that has a resource. The file's header tells the format.

use std::collections::BTreeMap;

/// All kinds.
#[derive(Debug, Default)]
pub(crate) struct KindFacts {
    /// The package whose types a group version has, by `GROUP/VERSION`: `apps/v1` of `apps/v1`.
    pub(crate) packages: BTreeMap<&'static str, &'static str>,
    pub(crate) kinds: Vec<KindFact>,
}

/// One kind in one version.
#[derive(Debug)]
pub(crate) struct KindFact {
    /// `v1`, `apps/v1`.
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) namespaced: bool,
    /// By default.
    pub(crate) served: bool,
    pub(crate) verbs: Vec<&'static str>,
    pub(crate) short_names: Vec<&'static str>,
    pub(crate) categories: Vec<&'static str>,
    /// The stored version and the key below `/registry/`; `None` for a kind that is never stored.
    pub(crate) storage: Option<(&'static str, &'static str)>,
    pub(crate) subresources: Vec<SubresourceFact>,
}

#[derive(Debug)]
pub(crate) struct SubresourceFact {
    pub(crate) name: &'static str,
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) served: bool,
    pub(crate) verbs: Vec<&'static str>,
}

/// Reads the table.
///
/// # Panics
/// On a line that dev/facts does not write.
pub(crate) fn read(text: &'static str) -> KindFacts {
    let mut facts = KindFacts::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(package) = line.strip_prefix('=') {
            facts.packages.extend(package.split_once(' '));
        } else if let Some(subresource) = line.strip_prefix(' ') {
            let kind = facts.kinds.last_mut().expect("a subresource follows its kind");
            kind.subresources.push(read_subresource(subresource));
        } else {
            facts.kinds.push(read_kind(line));
        }
    }
    facts
}

fn read_kind(line: &'static str) -> KindFact {
    let mut parts = line.split(' ');
    let mut next = || parts.next().unwrap_or_else(|| panic!("a kind lacks a part: {line}"));
    let mut fact = KindFact {
        api_version: next(),
        kind: next(),
        plural: next(),
        singular: next(),
        namespaced: next() == "ns",
        served: next() == "on",
        // None, where only its subresources are served.
        verbs: next().split(',').filter(|verb| !verb.is_empty()).collect(),
        short_names: Vec::new(),
        categories: Vec::new(),
        storage: None,
        subresources: Vec::new(),
    };
    let (mut store, mut key) = ("", "");
    for part in parts {
        match part.split_once('=') {
            Some(("short", names)) => fact.short_names = names.split(',').collect(),
            Some(("cat", names)) => fact.categories = names.split(',').collect(),
            Some(("store", version)) => store = version,
            Some(("key", prefix)) => key = prefix,
            _ => panic!("unknown part {part}: {line}"),
        }
    }
    fact.storage = (!key.is_empty()).then_some((store, key));
    fact
}

fn read_subresource(line: &'static str) -> SubresourceFact {
    let mut parts = line.split(' ');
    let mut next = || parts.next().unwrap_or_else(|| panic!("a subresource lacks a part: {line}"));
    SubresourceFact {
        name: next(),
        api_version: next(),
        kind: next(),
        served: next() == "on",
        verbs: next().split(',').collect(),
    }
}
