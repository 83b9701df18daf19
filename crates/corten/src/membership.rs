//! How a server that joined a cluster is known there: certificates for its node, its node's server and its data path, each asked
//! for by a request that the cluster signs, the first with a token; and how it knows the cluster: by its authority.

mod request;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use corten_client::https::{Https, Server};
use corten_client::trust::Trust;
use corten_client::{Client, Transport as _};
use corten_kubelet::server::Identity;
use corten_stdx::error::Chain;
use corten_stdx::task::Stopped;
use http_body_util::BodyExt as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::watch;

use crate::access::Access;
use crate::cluster::{self, Cluster};
use crate::datadir::DataDir;
use crate::dial::{Connections, NodeClient};
use crate::files::{read_if_there, write_private};
use crate::pki::Leaf;
use crate::seams::Seams;
use crate::token::{JoinToken, hash_of};
use request::Wanted;

/// Clocks of servers may differ by this; certificates are made a little before they are needed.
const SKEW_S_MAX: i64 = 240;
/// The longest time between two looks at the clock, which may be set.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// After a certificate could not be renewed.
const PAUSE: Duration = Duration::from_secs(30);

/// A server's place in a cluster.
pub struct Membership {
    seams: Seams,
    /// The node's name.
    name: String,
    /// The API's URL.
    server: String,
    pki: PathBuf,
    authority_pem: String,
    node: Leaf,
    edge: Leaf,
    node_way: Arc<Https>,
    edge_way: Arc<Https>,
    connections: Arc<Connections>,
}

impl Membership {
    /// Finds the membership of an earlier start, or enters with a token.
    ///
    /// # Errors
    /// When the cluster cannot be reached, is another one, or refuses; each says what to do.
    pub async fn open(
        dir: &DataDir,
        name: &str,
        server: &str,
        token: Option<&JoinToken>,
        seams: &Seams,
    ) -> anyhow::Result<Self> {
        let pki = dir.join("pki");
        anyhow::ensure!(
            !pki.join("ca.key").exists(),
            "this data directory is that of a cluster's first server; name another one with --data-dir, or go on with `corten up`"
        );
        let authority = pki.join("ca.crt");
        let known = read_if_there(&authority)?;
        let now_s = seams.clock.wall_s();
        let stored = request::stored(&Wanted::node(name), &pki, known.as_deref(), now_s)?;
        let (authority_pem, node) = match (known, stored, token) {
            (Some(authority_pem), Some(node), _) => (authority_pem, node),
            (_, None, Some(token)) | (None, _, Some(token)) => {
                let authority_pem = discover(server, token, seams).await?;
                let as_bearer = bearer(server, &authority_pem, token, seams)?;
                let node = request::certificate(&as_bearer, &Wanted::node(name), &pki, seams).await?;
                // Last: without it, the next start begins anew.
                write_private(&authority, authority_pem.as_bytes())?;
                (authority_pem, node)
            }
            _ => anyhow::bail!(
                "this server is in no cluster, or its certificate is over; run `corten token create` on the cluster's first \
                 server, and start this one with what that prints"
            ),
        };
        let node_way = Arc::new(Https::new(&with(server, &authority_pem, &node), seams.tasks.clone())?);
        let client = Client::new(node_way.clone(), "corten");
        let edge = match request::stored(&Wanted::edge(name), &pki, Some(&authority_pem), now_s)? {
            Some(edge) => edge,
            None => request::certificate(&client, &Wanted::edge(name), &pki, seams).await?,
        };
        let edge_way = Arc::new(Https::new(&with(server, &authority_pem, &edge), seams.tasks.clone())?);
        let (name, server, seams) = (name.to_owned(), server.to_owned(), seams.clone());
        let connections = Arc::new(Connections::new(node_client(&node, &authority_pem)?, seams.clock.clone())?);
        Ok(Self { seams, name, server, pki, authority_pem, node, edge, node_way, edge_way, connections })
    }

    /// The ways to the API.
    pub fn access(&self) -> Access {
        Access { node: self.node_way.clone(), edge: self.edge_way.clone() }
    }

    /// The way to other nodes' servers, as this node.
    pub fn connections(&self) -> Arc<Connections> {
        self.connections.clone()
    }

    fn client(&self) -> Client {
        Client::new(self.node_way.clone(), "corten")
    }

    /// What the cluster says of itself.
    pub async fn cluster(&self) -> anyhow::Result<Cluster> {
        cluster::read(&self.client()).await.with_context(|| format!("the cluster at {} cannot be asked", self.server))
    }

    /// Who this node's server is; its certificate is asked for once the cluster knows the node's address.
    pub async fn serving(&self, address: IpAddr) -> anyhow::Result<Serving> {
        let wanted = Wanted::serving(&self.name, address);
        let now_s = self.seams.clock.wall_s();
        let leaf = match request::stored(&wanted, &self.pki, Some(&self.authority_pem), now_s)? {
            Some(leaf) => leaf,
            None => request::certificate(&self.client(), &wanted, &self.pki, &self.seams).await?,
        };
        let (sender, identity) = watch::channel(self.identity(&leaf)?);
        Ok(Serving { wanted, leaf, sender, identity })
    }

    fn identity(&self, leaf: &Leaf) -> anyhow::Result<Identity> {
        Ok(leaf.identity(CertificateDer::from_pem_slice(self.authority_pem.as_bytes())?)?)
    }

    /// Renews what has reached its half life, until it is told to stop.
    pub async fn keep(mut self, mut serving: Serving, mut stopped: Stopped) {
        let mut pause = Duration::ZERO;
        loop {
            let due_s = [&self.node, &self.edge, &serving.leaf].map(|own| own.renew_at_s).into_iter().min();
            let left_s = due_s.unwrap_or_default() - self.seams.clock.wall_s();
            let left = Duration::from_secs(u64::try_from(left_s).unwrap_or_default()).min(LOOK_EVERY).max(pause);
            tokio::select! {
                () = stopped.wait() => return,
                () = self.seams.clock.sleep(left) => {}
            }
            pause = match self.renew(&mut serving).await {
                Ok(()) => Duration::ZERO,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "a certificate of this node cannot be renewed yet");
                    PAUSE
                }
            };
        }
    }

    async fn renew(&mut self, serving: &mut Serving) -> anyhow::Result<()> {
        let (client, now_s) = (self.client(), self.seams.clock.wall_s());
        if self.node.renew_at_s <= now_s {
            self.node = request::certificate(&client, &Wanted::node(&self.name), &self.pki, &self.seams).await?;
            self.node_way.renew(&with(&self.server, &self.authority_pem, &self.node)).await?;
            self.connections.replace(node_client(&self.node, &self.authority_pem)?)?;
        }
        if self.edge.renew_at_s <= now_s {
            self.edge = request::certificate(&client, &Wanted::edge(&self.name), &self.pki, &self.seams).await?;
            self.edge_way.renew(&with(&self.server, &self.authority_pem, &self.edge)).await?;
        }
        if serving.leaf.renew_at_s <= now_s {
            serving.leaf = request::certificate(&client, &serving.wanted, &self.pki, &self.seams).await?;
            serving.sender.send_replace(self.identity(&serving.leaf)?);
        }
        Ok(())
    }
}

/// The certificate of the node's own server, and who is told of a new one.
pub struct Serving {
    wanted: Wanted,
    leaf: Leaf,
    sender: watch::Sender<Identity>,
    pub identity: watch::Receiver<Identity>,
}

fn node_client(leaf: &Leaf, authority_pem: &str) -> anyhow::Result<NodeClient> {
    let (certificate, key) = leaf.parsed()?;
    Ok(NodeClient { certificate, key, root: CertificateDer::from_pem_slice(authority_pem.as_bytes())? })
}

fn with(server: &str, authority_pem: &str, own: &Leaf) -> Server {
    Server {
        url: server.to_owned(),
        trust: Trust::Authorities(authority_pem.as_bytes().to_vec()),
        certificate_pem: Some((own.certificate_pem.as_bytes().to_vec(), own.key_pem.as_bytes().to_vec())),
        token: None,
    }
}

fn bearer(server: &str, authority_pem: &str, token: &JoinToken, seams: &Seams) -> anyhow::Result<Client> {
    let trust = Trust::Authorities(authority_pem.as_bytes().to_vec());
    let server = Server { url: server.to_owned(), trust, certificate_pem: None, token: Some(token.bearer()) };
    Ok(Client::new(Arc::new(Https::new(&server, seams.tasks.clone())?), "corten"))
}

/// The authority of the cluster at a URL, if it is the one that a token was made in. The token itself is not sent.
async fn discover(server: &str, token: &JoinToken, seams: &Seams) -> anyhow::Result<String> {
    let unknown = Server { url: server.to_owned(), trust: Trust::Anybody, certificate_pem: None, token: None };
    let way = Https::new(&unknown, seams.tasks.clone()).context("see --server")?;
    let request = http::Request::get(cluster::path()).header(http::header::ACCEPT, "application/json");
    let asked = way.send(request.body(bytes::Bytes::new())?).await;
    let answer = asked.map_err(|error| {
        anyhow::anyhow!(
            "no API answers at {server} ({}); see --server, and whether that server's firewall lets it through",
            Chain(&error)
        )
    })?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|error| anyhow::anyhow!("{server} broke off: {error}"))?.to_bytes();
    anyhow::ensure!(
        head.status.is_success(),
        "{server} does not tell of its cluster ({}); is it the API of a cluster of corten?",
        head.status
    );
    let object = corten_apimachinery::json::parse(&body).context("the cluster's answer")?.value;
    let Cluster { authority_pem, .. } = cluster::parse(&object)?;
    anyhow::ensure!(
        hash_of(&authority_pem)? == token.hash,
        "the cluster at {server} is not the one that the token was made in: its authority has another key; see --server, or make a \
         token there with `corten token create`"
    );
    check_clock(&head.headers, seams)?;
    Ok(authority_pem)
}

/// Refuses a clock by which certificates of the cluster would not be valid.
fn check_clock(headers: &http::HeaderMap, seams: &Seams) -> anyhow::Result<()> {
    let date = headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
    let Some(theirs_s) = date.and_then(http_date_s) else { return Ok(()) };
    let ahead_s = seams.clock.wall_s() - theirs_s;
    let which = if ahead_s > 0 { "ahead of" } else { "behind" };
    anyhow::ensure!(
        ahead_s.abs() <= SKEW_S_MAX,
        "this server's clock is {} s {which} the cluster's; set it (for example with `timedatectl set-ntp true`), then start again",
        ahead_s.abs()
    );
    Ok(())
}

/// Unix seconds of a date as HTTP has it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110).
fn http_date_s(text: &str) -> Option<i64> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words.as_slice() else { return None };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| name == month)? + 1;
    let text = format!("{year}-{month:02}-{day}T{time}Z");
    corten_apimachinery::time::Time::parse(&text).ok().map(|time| time.seconds)
}

#[cfg(test)]
mod tests {
    use corten_stdx::clock::Clock;
    use corten_stdx::random::Random;

    use super::*;

    #[test]
    fn a_clock_that_is_off_is_said_with_the_way_it_is() {
        let seams = Seams::new(Clock::manual(784_111_777_000), Random::seeded(1));
        let said = |date: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::DATE, date.parse().expect("a header"));
            check_clock(&headers, &seams).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(said("Sun, 06 Nov 1994 08:49:37 GMT"), "");
        assert_eq!(said("nonsense"), "");
        assert!(said("Sun, 06 Nov 1994 07:49:37 GMT").contains("3600 s ahead of"));
        assert!(said("Sun, 06 Nov 1994 09:49:37 GMT").contains("3600 s behind"));
    }
}
