//! The kinds that the real server serves, by its own discovery, with a valid sample of each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::scenario::NAMESPACE;
use crate::http::{Client, Request};

pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
    /// Names of subresources.
    pub(crate) subresources: Vec<String>,
    /// Text of a valid object; `NN` stands for a number. Absent where clients cannot create one.
    sample: Option<String>,
}

#[derive(Deserialize)]
struct ResourceList {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    namespaced: bool,
    kind: String,
    verbs: Vec<String>,
}

impl Kind {
    pub(crate) fn subject(&self) -> String {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        format!("{group}/{}/{}", self.version, self.kind)
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub(crate) fn has(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// A stored kind, which can be read back; not a review.
    pub(crate) fn stored(&self) -> bool {
        self.has("create") && self.has("get")
    }

    /// The path of the collection in the test's namespace.
    pub(crate) fn collection(&self) -> String {
        let scope = if self.namespaced { format!("/namespaces/{NAMESPACE}") } else { String::new() };
        format!("{}{scope}/{}", group_path(&self.group, &self.version), self.plural)
    }

    /// The path over all namespaces.
    pub(crate) fn everywhere(&self) -> String {
        format!("{}/{}", group_path(&self.group, &self.version), self.plural)
    }

    /// A valid object with a number in its name.
    pub(crate) fn sample(&self, number: usize) -> Result<Value> {
        let text = self.sample.as_ref().with_context(|| format!("no sample of {}", self.subject()))?;
        let text = text.replace("NN", &number.to_string());
        serde_saphyr::from_str(&text).with_context(|| format!("the sample of {}", self.subject()))
    }
}

fn group_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// Every kind in discovery. One that clients can create and that has no sample is an error: add it.
pub(crate) async fn read(client: &mut Client, samples: &Path) -> Result<Vec<Kind>> {
    let mut samples = read_samples(samples)?;
    let mut kinds = resources(client, "", "v1").await?;
    let groups: Value = get(client, "/apis").await?;
    for group in groups["groups"].as_array().context("/apis has no groups")? {
        for version in group["versions"].as_array().context("a group has no versions")? {
            let version = version["version"].as_str().context("a version has no name")?;
            kinds.extend(resources(client, group["name"].as_str().context("a group has no name")?, version).await?);
        }
    }
    for kind in &mut kinds {
        kind.sample = samples.remove(&(kind.api_version(), kind.kind.clone()));
        let creatable = kind.has("create") && kind.kind != "Binding";
        ensure!(kind.sample.is_some() || !creatable, "{} has no sample: add one", kind.subject());
    }
    ensure!(samples.is_empty(), "samples of kinds that are not served: {:?}", samples.keys());
    Ok(kinds)
}

fn read_samples(path: &Path) -> Result<BTreeMap<(String, String), String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct TypeMeta {
        api_version: String,
        kind: String,
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut samples = BTreeMap::new();
    for document in text.split("\n---\n") {
        let head: TypeMeta = serde_saphyr::from_str(document).with_context(|| format!("sample {document}"))?;
        if samples.insert((head.api_version.clone(), head.kind.clone()), document.to_owned()).is_some() {
            bail!("two samples of {} {}", head.api_version, head.kind);
        }
    }
    Ok(samples)
}

async fn resources(client: &mut Client, group: &str, version: &str) -> Result<Vec<Kind>> {
    let list: ResourceList = get(client, &group_path(group, version)).await?;
    let (below, whole): (Vec<_>, Vec<_>) = list.resources.into_iter().partition(|resource| resource.name.contains('/'));
    let kind = |resource: Resource| {
        let prefix = format!("{}/", resource.name);
        let subresources = below.iter().filter_map(|sub| sub.name.strip_prefix(&prefix)).map(str::to_owned).collect();
        Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: resource.kind,
            plural: resource.name,
            namespaced: resource.namespaced,
            verbs: resource.verbs,
            subresources,
            sample: None,
        }
    };
    Ok(whole.into_iter().map(kind).collect())
}

async fn get<T: for<'de> Deserialize<'de>>(client: &mut Client, path: &str) -> Result<T> {
    let answer = client.send(&Request::get(path).header("accept", "application/json")).await?;
    ensure!(answer.code == 200, "{path}: {}", answer.code);
    serde_json::from_slice(&answer.body).with_context(|| format!("the answer to {path}"))
}
