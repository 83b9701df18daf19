//! `up --demo`: the shop of `examples/`, on the server that was just started. Its images are made by the repository's own
//! script, its objects applied as a user would apply them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;
use corten_apimachinery::yaml;
use corten_client::{Client, Patch, Resource};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::args::{Controllers, Network, Up};
use crate::inside::{Inside, user};

const MANAGER: &str = "corten-demo";
const IMAGES: [&str; 3] = ["www", "blog", "admin"];
const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments");

/// The shop's sources.
pub struct Demo {
    examples: PathBuf,
}

impl Demo {
    /// Looks for the examples: in the checkout that `cargo run` names, the one around the current folder, or the one that the
    /// program lies in.
    ///
    /// # Errors
    /// When there are none, or this server is to lack a part that the shop needs.
    pub fn find(up: &Up) -> anyhow::Result<Self> {
        let whole = up.controllers == Controllers::All && up.network == Network::All;
        anyhow::ensure!(
            whole && (up.node.http_port, up.node.https_port) != (0, 0),
            "the demo needs every part of a server; leave out --controllers none, --network none and ports of 0"
        );
        let places = [std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from), std::env::current_dir().ok()];
        let program = std::env::current_exe().ok();
        let examples = places.into_iter().chain([program]).flatten().find_map(|place| examples_around(&place));
        let examples = examples.context(
            "the demo is made from the examples of Corten's repository, which are not here; run it in a checkout: \
             cargo run --release -- up --demo",
        )?;
        Ok(Self { examples })
    }

    /// Makes the images, applies the objects and waits until all of the shop is available. Gives its URLs.
    ///
    /// # Errors
    /// When an image cannot be made, or an object is refused.
    pub async fn start(self, up: &Up, inside: &Inside, edge: &str) -> anyhow::Result<Vec<String>> {
        self.make_images(&up.node.data_dir).await?;
        let client = inside.client(user("system:admin", &["system:masters"]), MANAGER);
        let kinds = corten_api::kinds();
        let objects = objects(&self.examples.join("shop"))?;
        for object in &objects {
            apply(&client, &kinds, object).await?;
        }
        for deployment in objects.iter().filter(|object| object.str_at(&["kind"]) == "Deployment") {
            let meta = Meta::of(deployment);
            available(&client, meta.namespace(), meta.name()).await?;
        }
        let hosts: Vec<String> = objects.iter().flat_map(hosts_of).collect();
        Ok(hosts.iter().map(|host| edge.replacen("localhost", host, 1)).collect())
    }

    async fn make_images(&self, data_dir: &Path) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("this program's own file")?;
        let mut command = Command::new(self.examples.join("images.sh"));
        command.arg("--install").arg("--data-dir").arg(data_dir).args(IMAGES);
        // A group of its own, so that all of it can be ended.
        command.env("CORTEN", program).stdin(Stdio::null()).process_group(0);
        let mut script = Group(command.spawn().context("examples/images.sh cannot be run")?);
        let ended = script.0.wait().await?;
        anyhow::ensure!(ended.success(), "the demo's images could not be made; see above, then start again");
        Ok(())
    }
}

/// A child that leads a process group, all of which ends with this.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        // Without an id it has ended.
        if let Some(group) = id.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(group, Signal::TERM)
        {
            tracing::warn!(%error, "what makes images was not ended");
        }
    }
}

fn examples_around(place: &Path) -> Option<PathBuf> {
    let around = place.ancestors().map(|folder| folder.join("examples"));
    around.into_iter().find(|examples| examples.join("images.sh").is_file() && examples.join("shop").is_dir())
}

/// The objects of a folder's files, in the order of the files' names.
fn objects(folder: &Path) -> anyhow::Result<Vec<Value>> {
    let read = || format!("{} cannot be read", folder.display());
    let entries = std::fs::read_dir(folder).with_context(read)?.collect::<Result<Vec<_>, _>>().with_context(read)?;
    let mut files: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(read)?;
        for document in documents(&text) {
            let parsed = yaml::parse(document.as_bytes()).with_context(|| format!("{} is no YAML", file.display()))?;
            objects.extend(Some(parsed.value).filter(|value| !value.is_null()));
        }
    }
    Ok(objects)
}

/// The documents of a stream, which lines of `---` part.
fn documents(text: &str) -> Vec<String> {
    text.split_inclusive('\n').fold(vec![String::new()], |mut documents, line| {
        match documents.last_mut() {
            Some(last) if line.trim_end() != "---" => last.push_str(line),
            _ => documents.push(String::new()),
        }
        documents
    })
}

async fn apply(client: &Client, kinds: &[KindInfo], object: &Value) -> anyhow::Result<()> {
    let (api_version, kind) = (object.str_at(&["apiVersion"]), object.str_at(&["kind"]));
    let meta = Meta::of(object);
    let info = kinds.iter().find(|info| info.gvk.kind == kind && info.gvk.api_version() == api_version);
    let info = info.with_context(|| format!("the demo has a {kind} of {api_version}, which is not served"))?;
    let resource =
        Resource { group: info.gvk.group.clone(), version: info.gvk.version.clone(), plural: info.plural.clone() };
    let patch = Patch::Apply { object: object.clone(), manager: MANAGER, force: true };
    let applied = client.patch(&resource, meta.namespace(), meta.name(), "", &patch).await;
    applied.with_context(|| format!("the demo's {kind} {} is refused", meta.name())).map(drop)
}

/// Resolves when all replicas of a Deployment are available in its newest form.
async fn available(client: &Client, namespace: &str, name: &str) -> anyhow::Result<()> {
    let done = |deployment: Option<&Value>| match deployment {
        Some(deployment) => is_available(deployment).then_some(true),
        None => Some(false),
    };
    let available = client.until(&DEPLOYMENTS, namespace, name, done).await?;
    anyhow::ensure!(available, "the demo's Deployment {name} was deleted");
    Ok(())
}

fn is_available(deployment: &Value) -> bool {
    let number = |path: &[&str]| deployment.i64_at(path).unwrap_or_default();
    let replicas = number(&["spec", "replicas"]);
    number(&["status", "observedGeneration"]) >= number(&["metadata", "generation"])
        && number(&["status", "updatedReplicas"]) == replicas
        && number(&["status", "availableReplicas"]) == replicas
}

/// The hosts of an Ingress.
fn hosts_of(object: &Value) -> Vec<String> {
    let rules = object.at(&["spec", "rules"]).and_then(Value::as_array).unwrap_or_default();
    let ingress = object.str_at(&["kind"]) == "Ingress";
    rules.iter().filter(|_| ingress).map(|rule| rule.str_at(&["host"]).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> PathBuf {
        examples_around(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("the repository has examples").join("shop")
    }

    #[test]
    fn the_shop_is_read_as_kubectl_reads_it() {
        let objects = objects(&shop()).expect("read");
        assert_eq!(objects[0].str_at(&["kind"]), "Namespace", "the namespace comes before what is in it");
        let hosts: Vec<String> = objects.iter().flat_map(hosts_of).collect();
        assert_eq!(hosts, ["www.localhost", "blog.localhost", "admin.localhost"]);
        let kinds = corten_api::kinds();
        for object in &objects {
            let known = kinds.iter().any(|info| info.gvk.kind == object.str_at(&["kind"]));
            assert!(known && !object.str_at(&["metadata", "name"]).is_empty(), "{object:?}");
        }
    }

    #[test]
    fn documents_are_parted_by_lines() {
        assert_eq!(documents("a: 1\n---\nb: '---'\n--- \nc: 3"), ["a: 1\n", "b: '---'\n", "c: 3"]);
    }

    #[test]
    fn a_deployment_is_available_in_its_newest_form() {
        let check = |observed: i64, updated: i64, available: i64, expect| {
            let deployment = corten_apimachinery::value!({
                "metadata": {"generation": 2}, "spec": {"replicas": 3},
                "status": {"observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": available}
            });
            assert_eq!(is_available(&deployment), expect);
        };
        check(2, 3, 3, true);
        check(1, 3, 3, false);
        check(2, 2, 3, false);
        check(2, 3, 2, false);
    }

    #[test]
    fn elsewhere_there_are_no_examples() {
        let elsewhere = tempfile::tempdir().expect("a folder");
        assert_eq!(examples_around(elsewhere.path()), None);
    }
}
