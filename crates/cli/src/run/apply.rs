//! Brings the objects of an application to what is wanted, by server-side apply; what an earlier run had and this one has not
//! is taken away. Volumes stay.

use anyhow::{Context as _, ensure};
use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;
use corten_client::error::unless_gone;
use corten_client::{Delete, Patch, Resource};

use super::objects::Wanted;
use crate::app::{CLAIMS, DEPLOYMENTS, INGRESSES, MANAGER, SERVICES, is_ours};
use crate::connect::{Session, refused};

pub(super) async fn apply(session: &Session, wanted: &Wanted<'_>) -> anyhow::Result<()> {
    let optional = [(&SERVICES, wanted.service()), (&INGRESSES, wanted.ingress())];
    let mut present = Vec::new();
    for resource in [&DEPLOYMENTS, &SERVICES, &INGRESSES] {
        present.push(ours(session, resource, wanted.name).await?);
    }
    for (claim, is_size_said) in wanted.claims() {
        // One that is there keeps its size unless another one is named.
        if is_size_said || !ours(session, &CLAIMS, Meta::of(&claim).name()).await? {
            put(session, &CLAIMS, &claim).await?;
        }
    }
    put(session, &DEPLOYMENTS, &wanted.deployment()).await?;
    for ((resource, object), was_there) in optional.into_iter().zip(present.iter().skip(1)) {
        match object {
            Some(object) => put(session, resource, &object).await?,
            None if *was_there => take_away(session, resource, wanted.name).await?,
            None => {}
        }
    }
    let verb = if present[0] { "changed" } else { "made" };
    eprintln!("{:<10} {} {verb}, {} x {}", "run", wanted.name, wanted.run.replicas, wanted.run.image());
    Ok(())
}

/// Whether an object of this name is there. One that somebody else has made is not touched.
async fn ours(session: &Session, resource: &Resource, name: &str) -> anyhow::Result<bool> {
    let found = unless_gone(session.client.get(resource, &session.namespace, name).await).context(refused())?;
    let Some(object) = found else { return Ok(false) };
    ensure!(
        is_ours(&object),
        "there is an object {resource}/{name} that `corten run` has not made; choose another --name"
    );
    Ok(true)
}

async fn put(session: &Session, resource: &Resource, object: &Value) -> anyhow::Result<()> {
    let name = Meta::of(object).name();
    let patch = Patch::Apply { object: object.clone(), manager: MANAGER, force: true };
    let applied = session.client.patch(resource, &session.namespace, name, "", &patch).await;
    applied.with_context(|| format!("{resource}/{name} is refused")).map(drop)
}

async fn take_away(session: &Session, resource: &Resource, name: &str) -> anyhow::Result<()> {
    let deleted = session.client.delete(resource, &session.namespace, name, &Delete::default()).await;
    unless_gone(deleted).with_context(|| format!("{resource}/{name} is not removed")).map(drop)
}
