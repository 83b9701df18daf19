//! A stranger: kube-rs as it comes. Prints a line for each step that holds, ends at the first that does not.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;

const NAMESPACE: &str = "kube-rs";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let client = Client::try_default().await?;
    let space = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &space).await?;
    typed(Api::namespaced(client.clone(), NAMESPACE)).await.context("typed objects")?;
    println!("ok typed objects");
    refusals(Api::namespaced(client.clone(), NAMESPACE)).await.context("refusals")?;
    println!("ok refusals");
    for (name, config) in
        [("listing", watcher::Config::default()), ("streaming", watcher::Config::default().streaming_lists())]
    {
        watched(Api::namespaced(client.clone(), NAMESPACE), config, name)
            .await
            .with_context(|| format!("{name} watcher"))?;
        println!("ok {name} watcher");
    }
    Ok(())
}

async fn typed(deployments: Api<Deployment>) -> Result<()> {
    let wanted = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "example.com/image"}]},
            },
        },
    });
    let made = deployments.create(&PostParams::default(), &serde_json::from_value(wanted.clone())?).await?;
    ensure!(made.metadata.generation == Some(1), "generation {:?}", made.metadata.generation);
    let apply = PatchParams::apply("kube-rs").force();
    let mut more = wanted;
    more["spec"]["replicas"] = json!(3);
    let applied = deployments.patch("web", &apply, &Patch::Apply(&more)).await?;
    ensure!(applied.spec.replicas == Some(3), "apply did not set the replicas");
    let merge = Patch::Merge(json!({"spec": {"replicas": 4}}));
    deployments.patch_scale("web", &PatchParams::default(), &merge).await?;
    let scale = deployments.get_scale("web").await?;
    ensure!(scale.spec.and_then(|spec| spec.replicas) == Some(4), "scale did not set the replicas");
    let listed = deployments.list(&ListParams::default().fields("metadata.name=web")).await?;
    ensure!(listed.items.len() == 1, "{} items of one name", listed.items.len());
    deployments.delete("web", &DeleteParams::default()).await?;
    Ok(())
}

async fn refusals(maps: Api<ConfigMap>) -> Result<()> {
    ensure!(maps.get_opt("absent").await?.is_none(), "an absent object is there");
    let bad = serde_json::from_value(json!({"metadata": {"name": "Bad_Name"}}))?;
    match maps.create(&PostParams::default(), &bad).await {
        Err(kube::Error::Api(status)) if status.code == 422 && status.reason == "Invalid" => Ok(()),
        other => anyhow::bail!("a bad name gives {other:?}"),
    }
}

async fn watched(maps: Api<ConfigMap>, config: watcher::Config, name: &str) -> Result<()> {
    let mut events = pin!(watcher(maps.clone(), config).default_backoff().applied_objects());
    let object = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    maps.create(&PostParams::default(), &object).await?;
    let seen = async {
        while let Some(object) = events.try_next().await? {
            if object.metadata.name.as_deref() == Some(name) {
                return Ok(());
            }
        }
        anyhow::bail!("the stream ended")
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.context("nothing within 20 s")?
}
