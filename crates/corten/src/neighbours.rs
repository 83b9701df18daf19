//! The images of this node, and where they come from: what is not here is asked of the cluster's other servers first, those whose
//! Node object names it before the others, then of its registry. An image that was imported on one server so runs on every one.

use std::io;
use std::sync::Arc;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;
use corten_client::{Client, Error, Resource, Select};
use corten_image::{Credentials, Dial, Duplex, Image, ImageError, Images, Peer, Reference, Store};
use corten_stdx::error::Chain;
use futures_core::future::BoxFuture;

use crate::dial::Connections;

const NODES: Resource = Resource::new("", "v1", "nodes");

/// How many others are asked for one image.
const ASKED_MAX: usize = 16;

type Pull<'a> = BoxFuture<'a, Result<Arc<Image>, ImageError>>;

pub struct Neighbours {
    pub store: Store,
    /// Reads nodes.
    pub client: Client,
    pub dial: Arc<Connections>,
    /// This node's name.
    pub own: String,
}

impl Neighbours {
    /// From the first that has it whole; `None` where nobody has.
    async fn ask_others(&self, reference: &str) -> Result<Option<Arc<Image>>, ImageError> {
        let name = Reference::parse(reference)?.to_string();
        let peers = match self.client.list(&NODES, "", &Select::default()).await {
            Ok(nodes) => peers(&nodes.items, &self.own, &name),
            Err(error) => {
                self.tell(&error);
                Vec::new()
            }
        };
        let pull = move |peer: Peer| -> Pull<'_> {
            Box::pin(async move { self.store.pull_from(&peer, self.dial.clone(), reference).await })
        };
        first_of(peers, pull).await
    }

    fn tell(&self, error: &Error) {
        tracing::warn!(error = %Chain(error), "the other servers are not known, images come from registries alone");
    }
}

/// The first image that comes. That a server does not have it is no failure; one that breaks off is, if nobody else helps.
async fn first_of<'a>(peers: Vec<Peer>, pull: impl Fn(Peer) -> Pull<'a>) -> Result<Option<Arc<Image>>, ImageError> {
    let mut failed = None;
    for peer in peers {
        let what = format!("from the server {}", peer.name);
        match pull(peer).await {
            Ok(image) => return Ok(Some(image)),
            Err(ImageError::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, "an image does not come {what}");
                failed = Some(ImageError::Failed { what, detail: error.to_string() });
            }
        }
    }
    failed.map_or(Ok(None), Err)
}

/// Who is asked, in this order.
fn peers(nodes: &[Value], own: &str, image: &str) -> Vec<Peer> {
    let ready = |node: &&Value| {
        let conditions = node.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
        conditions.iter().any(|one| one.str_at(&["type"]) == "Ready" && one.str_at(&["status"]) == "True")
    };
    let has = |node: &Value| {
        let images = node.at(&["status", "images"]).and_then(Value::as_array).unwrap_or_default();
        let names = images.iter().filter_map(|one| one.get("names").and_then(Value::as_array)).flatten();
        names.into_iter().any(|name| name.as_str() == Some(image))
    };
    let others = nodes.iter().filter(|node| Meta::of(node).name() != own).filter(ready);
    let mut found: Vec<(bool, Peer)> = others.filter_map(|node| Some((!has(node), peer(node)?))).collect();
    found.sort_by(|(a_lacks, a), (b_lacks, b)| (a_lacks, &a.name).cmp(&(b_lacks, &b.name)));
    found.truncate(ASKED_MAX);
    found.into_iter().map(|(_, peer)| peer).collect()
}

fn peer(node: &Value) -> Option<Peer> {
    let addresses = node.at(&["status", "addresses"]).and_then(Value::as_array)?;
    let address = addresses.iter().find(|address| address.str_at(&["type"]) == "InternalIP")?;
    let port = node.i64_at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"])?;
    Some(Peer {
        name: Meta::of(node).name().to_owned(),
        host: address.str_at(&["address"]).to_owned(),
        port: u16::try_from(port).ok()?,
    })
}

impl Images for Neighbours {
    fn find(&self, reference: &str) -> Result<Option<Arc<Image>>, ImageError> {
        self.store.find(reference)
    }

    fn pull<'a>(
        &'a self,
        reference: &'a str,
        credentials: &'a [Credentials],
    ) -> BoxFuture<'a, Result<Arc<Image>, ImageError>> {
        Box::pin(async move {
            // What is here is asked for again only to hear of a newer one, which its registry alone knows.
            let here = self.store.find(reference).is_ok_and(|found| found.is_some());
            let failed = if here {
                None
            } else {
                match self.ask_others(reference).await {
                    Ok(Some(image)) => return Ok(image),
                    Ok(None) => None,
                    Err(error) => Some(error),
                }
            };
            let pulled = self.store.pull(reference, credentials).await;
            pulled.map_err(|error| match failed {
                Some(first) => ImageError::Failed { what: reference.to_owned(), detail: format!("{first}; {error}") },
                None => error,
            })
        })
    }

    fn list(&self) -> Vec<Arc<Image>> {
        self.store.list()
    }

    fn set_in_use(&self, ids: Vec<String>) {
        self.store.set_in_use(ids);
    }

    fn remove_unused(&self) -> Result<u64, ImageError> {
        self.store.remove_unused()
    }
}

impl Dial for Connections {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        Box::pin(async move {
            let stream = corten_builtin::connect::Dial::node(self, host, port).await?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn node(name: &str, ready: &str, images: &[&str]) -> Value {
        value!({"metadata": {"name": name}, "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "192.0.2.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": [{"names": (images.to_vec())}]
        }})
    }

    #[test]
    fn those_that_have_it_are_asked_first_and_the_lost_not_at_all() {
        let image = "localhost/shop/www:1";
        let nodes = [
            node("a", "True", &[]),
            node("b", "True", &["localhost/shop/www@sha256:1", image]),
            node("c", "Unknown", &[image]),
            node("own", "True", &[image]),
        ];
        let asked = peers(&nodes, "own", image);
        let names: Vec<&str> = asked.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(asked[0], Peer { name: "b".to_owned(), host: "192.0.2.1".to_owned(), port: 10250 });
    }

    #[tokio::test]
    async fn the_next_server_is_asked_when_one_fails() {
        let asked = |names: &[&'static str]| {
            let peer = |name: &&str| Peer { name: (*name).to_owned(), host: String::new(), port: 1 };
            let pull = |peer: Peer| -> Pull<'static> {
                Box::pin(std::future::ready(match peer.name.as_str() {
                    "has" => Ok(Arc::new(Image::default())),
                    "lacks" => Err(ImageError::NotFound { reference: "x".to_owned(), detail: "no".to_owned() }),
                    _ => Err(ImageError::Failed { what: "x".to_owned(), detail: "it breaks off".to_owned() }),
                }))
            };
            first_of(names.iter().map(peer).collect(), pull)
        };
        assert!(asked(&["lacks", "breaks", "has"]).await.expect("it comes").is_some());
        assert_eq!(asked(&["lacks", "lacks"]).await, Ok(None));
        assert_eq!(asked(&[]).await, Ok(None));
        let error = asked(&["breaks", "lacks"]).await.expect_err("nobody has it whole").to_string();
        assert_eq!(error, "from the server breaks: x: it breaks off");
    }
}
