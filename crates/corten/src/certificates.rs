//! The certificates in use: given to TLS and written into the kubeconfig at the start and again whenever one was made
//! anew, without a restart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corten_apiserver::http::tls::{Tls, TlsError, TlsMaterial};
use corten_builtin::bootstrap::Authorities;
use corten_client::trust::TrustError;
use corten_kubelet::server::Identity;
use corten_stdx::clock::Clock;
use corten_stdx::error::Chain;
use corten_stdx::task::Stopped;
use rustls::pki_types::pem;
use tokio::sync::watch;

use crate::dial::{Connections, NodeClient};
use crate::files::{FileError, read_if_there, write_private};
use crate::kubeconfig;
use crate::pki::sign::ClusterSigner;
use crate::pki::{Leaf, Names, Pki, PkiError};
use crate::reach::node_address;

#[cfg(test)]
mod years;

/// The longest time between two looks at the clock, which may be set.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// The names by which pods know the API server.
const SERVICE_NAMES: [&str; 5] =
    ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"];

pub struct Certificates {
    pki: Pki,
    names: Names,
    node: String,
    node_names: Names,
    kubeconfig: PathBuf,
    server_url: String,
}

#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the certificate that nodes are shown cannot be used")]
    NodeClient(#[source] TrustError),
    #[error("a stored certificate or key is no PEM")]
    Pem(#[from] pem::Error),
}

/// The leaves that are in use.
#[derive(PartialEq, Eq)]
pub struct InUse {
    serving: Leaf,
    administrator: Leaf,
    front_proxy: Leaf,
    node_serving: Leaf,
    node_client: Leaf,
}

/// Who uses certificates, and takes a renewed one while it runs.
pub struct Users {
    pub tls: Arc<Tls>,
    pub connections: Arc<Connections>,
    pub node: watch::Sender<Identity>,
}

impl Certificates {
    /// `service` is the address of the `kubernetes` Service.
    pub fn new(pki: Pki, node: &str, listening: SocketAddr, service: Ipv4Addr, kubeconfig: &Path) -> Self {
        let server_url = kubeconfig::server_url(listening);
        let names = names(node, listening.ip(), service);
        let ips = names.ips.iter().copied().filter(|ip| *ip != IpAddr::V4(service)).collect();
        let node_names = Names { dns: [node.to_owned()].into(), ips };
        Self { pki, names, node: node.to_owned(), node_names, kubeconfig: kubeconfig.to_owned(), server_url }
    }

    pub fn server_url(&self) -> &str {
        &self.server_url
    }

    /// The authority that vouches for the API server.
    pub fn authority_pem(&self) -> &str {
        self.pki.cluster_pem()
    }

    /// The authority for requests of others.
    pub fn signer(&self) -> Result<ClusterSigner, PkiError> {
        self.pki.signer()
    }

    /// What aggregated API servers have to trust.
    pub fn authorities(&self) -> Authorities {
        Authorities { clients: self.pki.cluster_pem().to_owned(), front_proxy: self.pki.front_proxy_pem().to_owned() }
    }

    /// The leaves as they have to be now; the kubeconfig is written with them.
    pub fn current(&self) -> Result<InUse, CertificatesError> {
        let in_use = InUse {
            serving: self.pki.serving(&self.names)?,
            administrator: self.pki.administrator()?,
            front_proxy: self.pki.front_proxy_client()?,
            node_serving: self.pki.node_serving(&self.node, &self.node_names)?,
            node_client: self.pki.node_client()?,
        };
        let text = kubeconfig::text(&self.server_url, self.pki.cluster_pem(), &in_use.administrator);
        if read_if_there(&self.kubeconfig)?.as_deref() != Some(&text) {
            write_private(&self.kubeconfig, text.as_bytes())?;
        }
        Ok(in_use)
    }

    pub fn material(&self, in_use: &InUse) -> Result<TlsMaterial, CertificatesError> {
        let (certificate, key) = in_use.serving.parsed()?;
        Ok(TlsMaterial { chain: vec![certificate], key, client_roots: vec![self.pki.cluster_der().clone()] })
    }

    /// What the API server shows to nodes.
    pub fn node_client(&self, in_use: &InUse) -> Result<NodeClient, CertificatesError> {
        let (certificate, key) = in_use.node_client.parsed()?;
        Ok(NodeClient { certificate, key, root: self.pki.cluster_der().clone() })
    }

    /// Who this node's server is, and the one client that it serves.
    pub fn node_identity(&self, in_use: &InUse) -> Result<Identity, CertificatesError> {
        Ok(in_use.node_serving.identity(self.pki.cluster_der().clone())?)
    }

    /// Renews what has reached its half life, until it is told to stop.
    pub async fn keep(self, mut in_use: InUse, users: Users, clock: Clock, mut stopped: Stopped) {
        // From before each look, so that a clock that is moved meanwhile is looked at again.
        let mut looked_ms = clock.now_ms();
        loop {
            let pause_ms = i64::try_from(until(in_use.renew_at_s(), &clock).as_millis()).unwrap_or(i64::MAX);
            tokio::select! {
                () = stopped.wait() => return,
                () = clock.sleep_until_ms(looked_ms.saturating_add(pause_ms)) => looked_ms = clock.now_ms(),
            }
            match self.renew(&in_use, &users) {
                Ok(Some(renewed)) => in_use = renewed,
                Ok(None) => {}
                Err(error) => tracing::error!(error = %Chain(&error), "certificates could not be renewed"),
            }
        }
    }

    fn renew(&self, in_use: &InUse, users: &Users) -> Result<Option<InUse>, CertificatesError> {
        let now = self.current()?;
        if now == *in_use {
            return Ok(None);
        }
        users.tls.replace(self.material(&now)?)?;
        users.connections.replace(self.node_client(&now)?).map_err(CertificatesError::NodeClient)?;
        users.node.send_replace(self.node_identity(&now)?);
        Ok(Some(now))
    }
}

impl InUse {
    fn renew_at_s(&self) -> i64 {
        [&self.serving, &self.administrator, &self.front_proxy, &self.node_serving, &self.node_client]
            .map(|leaf| leaf.renew_at_s)
            .into_iter()
            .min()
            .unwrap_or(0)
    }
}

fn until(unix_s: i64, clock: &Clock) -> Duration {
    let left = u64::try_from(unix_s - clock.wall_s()).unwrap_or_default();
    Duration::from_secs(left.max(1)).min(LOOK_EVERY)
}

/// Every name and address under which clients may come.
fn names(node: &str, listening: IpAddr, service: Ipv4Addr) -> Names {
    let dns = SERVICE_NAMES.iter().copied().chain([node]).map(str::to_owned).collect();
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(service)];
    let mut names = Names { dns, ips: loopback.into() };
    if !listening.is_unspecified() {
        names.ips.insert(listening);
    }
    if listening.is_unspecified() || listening.is_loopback() {
        names.ips.extend(node_address().map(IpAddr::V4));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

    #[test]
    fn at_half_life_tls_and_the_kubeconfig_change_together() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Clock::manual(1_800_000_000_000);
        let kubeconfig = dir.path().join("admin.kubeconfig");
        let pki = Pki::open(dir.path(), clock.clone()).expect("made");
        let certificates = Certificates::new(pki, "node-1", ([127, 0, 0, 1], 6443).into(), SERVICE, &kubeconfig);
        let in_use = certificates.current().expect("made");
        let tls = Tls::new(certificates.material(&in_use).expect("PEM"), clock.clone()).expect("usable");
        let connections =
            Connections::new(certificates.node_client(&in_use).expect("PEM"), clock.clone()).expect("usable");
        let (node, identity) = watch::channel(certificates.node_identity(&in_use).expect("PEM"));
        let first = identity.borrow().chain.clone();
        let users = Users { tls: Arc::new(tls), connections: Arc::new(connections), node };
        let before = std::fs::read_to_string(&kubeconfig).expect("written");
        assert!(before.contains("server: https://127.0.0.1:6443"));
        assert!(certificates.renew(&in_use, &users).expect("looked").is_none(), "nothing is due");
        assert_eq!(until(in_use.renew_at_s(), &clock), LOOK_EVERY);
        clock.advance(Duration::from_secs(16 * 24 * 3600));
        assert_eq!(until(in_use.renew_at_s(), &clock), Duration::from_secs(1), "overdue, but not at once for ever");
        let renewed = certificates.renew(&in_use, &users).expect("renewed").expect("all are due");
        assert_ne!(identity.borrow().chain, first, "the node's server has a new one, too");
        assert!(renewed.renew_at_s() > clock.now_s() + 14 * 24 * 3600);
        assert_ne!(std::fs::read_to_string(&kubeconfig).expect("written"), before);
    }

    #[test]
    fn the_server_is_known_by_all_its_names() {
        let own = names("node-1", [10, 0, 0, 7].into(), SERVICE);
        let ips = ["10.96.0.1", "127.0.0.1", "10.0.0.7", "::1"].map(|ip| ip.parse().expect("an address"));
        assert!(ips.iter().all(|ip| own.ips.contains(ip)), "{:?}", own.ips);
        assert!(
            ["kubernetes.default.svc.cluster.local", "localhost", "node-1"].iter().all(|name| own.dns.contains(*name))
        );
    }
}
