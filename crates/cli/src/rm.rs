//! `corten rm NAME`: takes away what `corten run` has made. Volumes are kept, unless they are named for removal too.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use corten_apimachinery::kind::Propagation;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;
use corten_client::error::unless_gone;
use corten_client::{Delete, Resource, Select};

use crate::app::{CLAIMS, DEPLOYMENTS, INGRESSES, SERVICES, is_ours, of};
use crate::connect::{Session, Target, refused};

/// What ends within this time needs no word.
const SOON: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct Rm {
    #[command(flatten)]
    target: Target,
    /// Its volumes too, with everything that is in them.
    #[arg(long)]
    volumes: bool,
    /// What is removed.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// Resolves when nothing of them runs any more.
///
/// # Errors
/// When there is no such application, or the cluster refuses.
pub fn run(rm: &Rm) -> anyhow::Result<()> {
    rm.target.with(async |session| {
        for name in &rm.names {
            remove(&session, name, rm.volumes).await?;
        }
        Ok(())
    })
}

async fn remove(session: &Session, name: &str, with_volumes: bool) -> anyhow::Result<()> {
    let claims = claims(session, name).await?;
    let found = unless_gone(session.client.get(&DEPLOYMENTS, &session.namespace, name).await).context(refused())?;
    match &found {
        Some(deployment) if !is_ours(deployment) => {
            bail!("deployments.apps/{name} was not made by `corten run`; `kubectl delete deployment {name}` removes it")
        }
        None if claims.is_empty() || !with_volumes => {
            bail!("nothing called {name} was started by `corten run`; `corten ps` shows what was")
        }
        _ => {}
    }
    for resource in [&INGRESSES, &SERVICES] {
        let object = unless_gone(session.client.get(resource, &session.namespace, name).await).context(refused())?;
        if let Some(object) = object.filter(is_ours) {
            delete(session, resource, &object).await?;
        }
    }
    if let Some(deployment) = &found {
        delete(session, &DEPLOYMENTS, deployment).await?;
        gone(session, &DEPLOYMENTS, deployment).await?;
        println!("{name} removed");
    }
    for claim in &claims {
        let claim_name = Meta::of(claim).name();
        if with_volumes {
            delete(session, &CLAIMS, claim).await?;
            gone(session, &CLAIMS, claim).await?;
            println!("volume {claim_name} removed");
        } else {
            println!("volume {claim_name} is kept; `corten rm --volumes {name}` removes it too");
        }
    }
    Ok(())
}

async fn claims(session: &Session, name: &str) -> anyhow::Result<Vec<Value>> {
    let select = Select { labels: of(name), ..Select::default() };
    let listed = session.client.list(&CLAIMS, &session.namespace, &select).await;
    listed.map(|listed| listed.items).context(refused())
}

/// In the foreground: what belongs to it goes before it does.
async fn delete(session: &Session, resource: &Resource, object: &Value) -> anyhow::Result<()> {
    let meta = Meta::of(object);
    let delete = Delete { propagation: Some(Propagation::Foreground), ..Delete::of(meta.uid()) };
    let deleted = session.client.delete(resource, &session.namespace, meta.name(), &delete).await;
    unless_gone(deleted).with_context(|| format!("{resource}/{} is not removed", meta.name())).map(drop)
}

async fn gone(session: &Session, resource: &Resource, object: &Value) -> anyhow::Result<()> {
    let meta = Meta::of(object);
    let is_other = |now: Option<&Value>| now.is_none_or(|now| Meta::of(now).uid() != meta.uid()).then_some(());
    let gone = session.client.until(resource, &session.namespace, meta.name(), is_other);
    tokio::pin!(gone);
    tokio::select! {
        gone = &mut gone => return gone.context(refused()),
        () = session.clock.sleep(SOON) => eprintln!("{} is told to end", meta.name()),
    }
    gone.await.context(refused())
}
