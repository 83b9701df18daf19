//! The cluster's certificates, under `D/pki`: authorities that last ten years, and leaves that last thirty days and
//! are made anew at half life. Everything is ECDSA on P-256. Asking for a leaf gives the stored one as long as it is
//! good, so that start and renewal are the same step.

mod leaf;
pub mod sign;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use corten_stdx::clock::Clock;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub use leaf::{Leaf, LeafError, Stored};

use crate::files::{FileError, read_if_there, write_private};

/// The API server to the servers of nodes, by the name that upstream's tools give it.
pub const NODE_CLIENT: &str = "kube-apiserver-kubelet-client";

/// The file of the cluster's authority.
const CLUSTER: &str = "ca";

const DAY_S: i64 = 24 * 3600;
const AUTHORITY_S: i64 = 3652 * DAY_S;
/// Certificates are valid a little before they are made, for clients whose clocks are behind.
const BACKDATED_S: i64 = 300;

pub struct Pki {
    clock: Clock,
    cluster: Authority,
    front_proxy: Authority,
    dir: PathBuf,
}

/// The names under which a server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub dns: BTreeSet<String>,
    pub ips: BTreeSet<IpAddr>,
}

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} cannot be used: {why}; restore it, or remove it and its key, start again and hand out new kubeconfigs", path.display())]
    Authority { path: PathBuf, why: String },
    #[error("{} is not valid yet by this server's clock; set the clock, then start again", path.display())]
    Clock { path: PathBuf },
    #[error("the certificate {name} cannot be made")]
    Making { name: &'static str, source: rcgen::Error },
}

/// A certificate authority with its key.
struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Reads the authorities, or makes them.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, PkiError> {
        let cluster = Authority::open(dir, CLUSTER, "corten cluster", &clock)?;
        let front_proxy = Authority::open(dir, "front-proxy-ca", "corten front proxy", &clock)?;
        Ok(Self { clock, cluster, front_proxy, dir: dir.to_owned() })
    }

    /// The cluster authority's certificate, as kubeconfigs carry it.
    pub fn cluster_pem(&self) -> &str {
        &self.cluster.pem
    }

    /// The certificate of the authority by which the API server vouches for users.
    pub fn front_proxy_pem(&self) -> &str {
        &self.front_proxy.pem
    }

    /// Against this the API server verifies client certificates.
    pub fn cluster_der(&self) -> &CertificateDer<'static> {
        &self.cluster.der
    }

    /// The cluster's authority for requests of others.
    pub fn signer(&self) -> Result<sign::ClusterSigner, PkiError> {
        let authority = Authority::open(&self.dir, CLUSTER, "corten cluster", &self.clock)?;
        Ok(sign::ClusterSigner { authority, clock: self.clock.clone() })
    }

    /// The API server's own certificate.
    pub fn serving(&self, names: &Names) -> Result<Leaf, PkiError> {
        let wanted = leaf::Wanted {
            file: "apiserver",
            common_name: "kube-apiserver",
            organization: None,
            names: names.clone(),
            usage: ExtendedKeyUsagePurpose::ServerAuth,
        };
        self.leaf(&self.cluster, &wanted)
    }

    /// The administrator's client certificate: a member of `system:masters`.
    pub fn administrator(&self) -> Result<Leaf, PkiError> {
        let wanted = leaf::Wanted {
            file: "admin",
            common_name: "kubernetes-admin",
            organization: Some("system:masters"),
            names: Names::default(),
            usage: ExtendedKeyUsagePurpose::ClientAuth,
        };
        self.leaf(&self.cluster, &wanted)
    }

    /// The certificate with which the API server vouches for users to aggregated API servers.
    pub fn front_proxy_client(&self) -> Result<Leaf, PkiError> {
        let wanted = leaf::Wanted {
            file: "front-proxy-client",
            common_name: "front-proxy-client",
            organization: None,
            names: Names::default(),
            usage: ExtendedKeyUsagePurpose::ClientAuth,
        };
        self.leaf(&self.front_proxy, &wanted)
    }

    /// The certificate of a node's own server.
    pub fn node_serving(&self, node: &str, names: &Names) -> Result<Leaf, PkiError> {
        let wanted = leaf::Wanted {
            file: "kubelet",
            common_name: &format!("system:node:{node}"),
            organization: Some("system:nodes"),
            names: names.clone(),
            usage: ExtendedKeyUsagePurpose::ServerAuth,
        };
        self.leaf(&self.cluster, &wanted)
    }

    /// The certificate with which the API server comes to the servers of nodes. To itself it is a user without rights.
    pub fn node_client(&self) -> Result<Leaf, PkiError> {
        let wanted = leaf::Wanted {
            file: "apiserver-kubelet-client",
            common_name: NODE_CLIENT,
            organization: None,
            names: Names::default(),
            usage: ExtendedKeyUsagePurpose::ClientAuth,
        };
        self.leaf(&self.cluster, &wanted)
    }

    fn leaf(&self, authority: &Authority, wanted: &leaf::Wanted<'_>) -> Result<Leaf, PkiError> {
        stored(&self.dir, &self.clock, authority, wanted)
    }
}

/// Vouches for hosts of the edge that nobody else has vouched for: whoever trusts it once (`edge-ca.crt`) trusts all of them. It
/// has nothing to do with the cluster's authority, which browsers are not to know.
pub struct EdgeAuthority {
    authority: Authority,
    dir: PathBuf,
    clock: Clock,
}

impl EdgeAuthority {
    /// Reads the authority, or makes it.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, PkiError> {
        let authority = Authority::open(dir, "edge-ca", "corten edge", &clock)?;
        Ok(Self { authority, dir: dir.to_owned(), clock })
    }

    /// One certificate for all these hosts.
    pub fn serving(&self, hosts: &BTreeSet<String>) -> Result<Leaf, PkiError> {
        let wanted = leaf::Wanted {
            file: "edge",
            common_name: "corten edge",
            organization: None,
            names: Names { dns: hosts.clone(), ips: BTreeSet::new() },
            usage: ExtendedKeyUsagePurpose::ServerAuth,
        };
        stored(&self.dir, &self.clock, &self.authority, &wanted)
    }
}

/// The name of the node whose server's certificate this file holds, as text.
pub fn node_of(pem: &[u8]) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    name.strip_prefix("system:node:").map(str::to_owned)
}

/// The stored leaf if it is still good, else a new one.
fn stored(dir: &Path, clock: &Clock, authority: &Authority, wanted: &leaf::Wanted<'_>) -> Result<Leaf, PkiError> {
    let now_s = clock.wall_s();
    let path = dir.join(format!("{}.pem", wanted.file));
    let stored = read_if_there(&path)?.and_then(|text| Leaf::good(&text, wanted, authority, now_s));
    if let Some(leaf) = stored {
        return Ok(leaf);
    }
    let leaf = Leaf::make(wanted, authority, now_s)?;
    write_private(&path, leaf.text().as_bytes())?;
    tracing::info!(name = wanted.file, "made a certificate");
    Ok(leaf)
}

impl Authority {
    fn open(dir: &Path, file: &'static str, name: &str, clock: &Clock) -> Result<Self, PkiError> {
        let (certificate, key) = (dir.join(format!("{file}.crt")), dir.join(format!("{file}.key")));
        let (pem, key_pem) = match (read_if_there(&certificate)?, read_if_there(&key)?) {
            (Some(pem), Some(key_pem)) => (pem, key_pem),
            (None, _) => {
                let (pem, key_pem) =
                    make(name, clock.wall_s()).map_err(|source| PkiError::Making { name: file, source })?;
                // The key first: a certificate without its key would be refused at the next start.
                write_private(&key, key_pem.as_bytes())?;
                write_private(&certificate, pem.as_bytes())?;
                (pem, key_pem)
            }
            (Some(_), None) => {
                return Err(PkiError::Authority { path: certificate, why: "its key is missing".to_owned() });
            }
        };
        Self::read(pem, &key_pem, clock.wall_s()).map_err(|refusal| match refusal {
            Unusable::NotYet => PkiError::Clock { path: certificate },
            Unusable::Because(why) => PkiError::Authority { path: certificate, why },
        })
    }

    fn read(pem: String, key_pem: &str, now_s: i64) -> Result<Self, Unusable> {
        let text = |error: &dyn std::fmt::Display| Unusable::Because(error.to_string());
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| text(&error))?;
        let key = KeyPair::from_pem(key_pem).map_err(|error| text(&error))?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| text(&error))?;
        let validity = certificate.validity();
        if now_s < validity.not_before.timestamp() {
            return Err(Unusable::NotYet);
        }
        if now_s >= validity.not_after.timestamp() {
            return Err(Unusable::Because("it has expired".to_owned()));
        }
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(Unusable::Because("its key belongs to another certificate".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| text(&error))?;
        Ok(Self { pem, der, issuer })
    }
}

/// Why a stored authority is not taken.
enum Unusable {
    NotYet,
    Because(String),
}

/// A self-signed authority: certificate and key.
fn make(name: &str, now_s: i64) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    leaf::set_validity(&mut params, now_s - BACKDATED_S, now_s + AUTHORITY_S);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use corten_controllers::certificate::LIFETIME_S;

    use super::*;

    const START_MS: i64 = 1_800_000_000_000;

    fn names(dns: &str) -> Names {
        Names { dns: [dns.to_owned()].into(), ips: [IpAddr::from([10, 96, 0, 1])].into() }
    }

    #[test]
    fn leaves_stay_until_half_life_and_are_then_made_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Clock::manual(START_MS);
        let pki = Pki::open(dir.path(), clock.clone()).expect("made");
        let first = pki.serving(&names("one")).expect("made");
        assert_eq!(pki.serving(&names("one")).expect("stored"), first);
        assert_ne!(pki.serving(&names("two")).expect("other names").certificate_pem, first.certificate_pem);
        let first = pki.administrator().expect("made");
        clock.advance(Duration::from_secs(14 * 24 * 3600));
        assert_eq!(pki.administrator().expect("stored"), first);
        clock.advance(Duration::from_secs(2 * 24 * 3600));
        let second = pki.administrator().expect("renewed");
        assert_ne!(second.certificate_pem, first.certificate_pem);
        assert!(second.renew_at_s > first.renew_at_s + 14 * DAY_S);
    }

    #[test]
    fn a_clock_set_back_makes_leaves_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |day: i64| Pki::open(dir.path(), Clock::manual(START_MS + day * DAY_S * 1000)).expect("an authority");
        at(0);
        let later = at(5).administrator().expect("made");
        let now = at(4).administrator().expect("made anew: the other one is not valid yet");
        assert_ne!(now.certificate_pem, later.certificate_pem);
        assert!(now.renew_at_s < later.renew_at_s);
    }

    #[test]
    fn authorities_survive_a_restart_and_leaves_follow_a_new_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || Pki::open(dir.path(), Clock::manual(START_MS));
        let pki = open().expect("made");
        let (authority, admin) = (pki.cluster_pem().to_owned(), pki.administrator().expect("made"));
        let again = open().expect("read");
        assert_eq!(again.cluster_pem(), authority);
        assert_eq!(again.administrator().expect("stored"), admin);
        std::fs::remove_file(dir.path().join("ca.crt")).expect("there");
        let other = open().expect("made anew");
        assert_ne!(other.cluster_pem(), authority);
        assert_ne!(other.administrator().expect("made anew").certificate_pem, admin.certificate_pem);
    }

    #[test]
    fn the_edge_keeps_its_certificate_over_restarts_until_its_hosts_or_the_time_change() {
        let dir = tempfile::tempdir().expect("a directory");
        let hosts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let at = |ms| EdgeAuthority::open(dir.path(), Clock::manual(ms)).expect("opens");
        let first = at(START_MS).serving(&hosts(&["a.localhost", "*.localhost"])).expect("made");
        let again = at(START_MS + 1000).serving(&hosts(&["*.localhost", "a.localhost"])).expect("read");
        assert_eq!(first, again);
        let other = at(START_MS).serving(&hosts(&["b.localhost"])).expect("made");
        assert_ne!(other.certificate_pem, first.certificate_pem);
        let late = at(START_MS + LIFETIME_S * 600).serving(&hosts(&["b.localhost"])).expect("renewed");
        assert_ne!(late.certificate_pem, other.certificate_pem);
    }

    #[test]
    fn unusable_authorities_are_refused_with_their_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let check = |now_ms: i64, expect: &str| {
            let text = Pki::open(dir.path(), Clock::manual(now_ms)).err().expect("refused").to_string();
            assert!(text.contains("ca.crt") && text.contains(expect), "{text}");
        };
        Pki::open(dir.path(), Clock::manual(START_MS)).expect("made");
        check(START_MS - 3_600_000, "clock");
        check(START_MS + 11 * 366 * DAY_S * 1000, "expired");
        let key = std::fs::read(dir.path().join("front-proxy-ca.key")).expect("there");
        std::fs::write(dir.path().join("ca.key"), key).expect("written");
        check(START_MS, "another certificate");
        std::fs::remove_file(dir.path().join("ca.key")).expect("there");
        check(START_MS, "key is missing");
    }

    #[test]
    fn a_leaf_says_who_and_for_what() {
        let dir = tempfile::tempdir().expect("a directory");
        let pki = Pki::open(dir.path(), Clock::manual(START_MS)).expect("made");
        let admin = pki.administrator().expect("made");
        let der = CertificateDer::from_pem_slice(admin.certificate_pem.as_bytes()).expect("a certificate");
        let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
        assert_eq!(certificate.subject().to_string(), "O=system:masters, CN=kubernetes-admin");
        let usage = certificate.extended_key_usage().expect("readable").expect("there");
        assert!(usage.value.client_auth && !usage.value.server_auth);
    }
}
