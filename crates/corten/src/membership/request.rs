//! One certificate of a joined server: asked for with a key that never leaves this server, kept in the data directory.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::{Client, Error, Resource};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::access::{EDGES, NODES, edge_user, node_user};
use crate::files::{read_if_there, write_private};
use crate::pki::{Leaf, Names, Stored, sign};
use crate::seams::Seams;

const REQUESTS: Resource = Resource::new("certificates.k8s.io", "v1", "certificatesigningrequests");
/// How long the cluster may take to sign.
const SIGNED_MAX: Duration = Duration::from_secs(30);

/// What is asked for.
pub(super) struct Wanted {
    file: &'static str,
    signer: &'static str,
    side: &'static str,
    user: String,
    group: &'static str,
    names: Names,
}

impl Wanted {
    /// The node to the API server.
    pub(super) fn node(name: &str) -> Self {
        let signer = "kubernetes.io/kube-apiserver-client-kubelet";
        Self::client("node", signer, node_user(name), NODES)
    }

    /// The node's data path to the API server.
    pub(super) fn edge(name: &str) -> Self {
        Self::client("edge-client", corten_controllers::certificate::EDGE_CLIENT, edge_user(name), EDGES)
    }

    fn client(file: &'static str, signer: &'static str, user: String, group: &'static str) -> Self {
        Self { file, signer, side: "client auth", user, group, names: Names::default() }
    }

    /// The node's own server.
    pub(super) fn serving(name: &str, address: IpAddr) -> Self {
        let names = Names { dns: [name.to_owned()].into(), ips: [address].into() };
        let signer = "kubernetes.io/kubelet-serving";
        Self { file: "kubelet", signer, side: "server auth", user: node_user(name), group: NODES, names }
    }
}

/// The stored certificate, if it is what is wanted, of this authority, and not over yet.
pub(super) fn stored(
    wanted: &Wanted,
    pki: &Path,
    authority_pem: Option<&str>,
    now_s: i64,
) -> anyhow::Result<Option<Leaf>> {
    let Some(text) = read_if_there(&pki.join(format!("{}.pem", wanted.file)))? else { return Ok(None) };
    Ok(authority_pem.and_then(|authority| good(&text, wanted, authority, now_s)))
}

fn good(text: &str, wanted: &Wanted, authority_pem: &str, now_s: i64) -> Option<Leaf> {
    let authority = CertificateDer::from_pem_slice(authority_pem.as_bytes()).ok()?;
    let Stored { leaf, common_name, names, valid_s } = Stored::read(text, &authority)?;
    let good = common_name == wanted.user && now_s < valid_s.end && wanted.names.ips.is_subset(&names.ips);
    good.then_some(leaf)
}

/// Has a certificate made, and stores it. A start that is cut short goes on with the same key and the same request.
pub(super) async fn certificate(client: &Client, wanted: &Wanted, pki: &Path, seams: &Seams) -> anyhow::Result<Leaf> {
    let next = pki.join(format!("{}.next.key", wanted.file));
    let key_pem = match read_if_there(&next)? {
        Some(key_pem) => key_pem,
        None => {
            let key_pem = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("a key")?.serialize_pem();
            write_private(&next, key_pem.as_bytes())?;
            key_pem
        }
    };
    let key = KeyPair::from_pem(&key_pem).with_context(|| format!("{} is no key; remove it", next.display()))?;
    let name = name(wanted, &key);
    let request = sign::request(&wanted.user, wanted.group, &wanted.names, &key).context("a request")?;
    let object = value!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": (name.as_str())},
        "spec": {
            "signerName": (wanted.signer), "request": request, "usages": ["digital signature", (wanted.side)]
        }
    });
    let asked = client.create(&REQUESTS, "", &object).await;
    if matches!(&asked, Err(Error::Status(_)) if !asked.as_ref().is_err_and(Error::is_already_exists)) {
        // What was refused is not asked for again under its name.
        std::fs::remove_file(&next).context("a key that is of no use")?;
    }
    match asked {
        Err(error) if error.is_already_exists() => {}
        Err(error) if error.is_unauthorized() => anyhow::bail!(
            "the cluster does not know the token: it is wrong, was used or is over; make another on its first server with \
             `corten token create`"
        ),
        other => drop(other.with_context(|| format!("the cluster does not take a request for {}", wanted.user))?),
    }
    let requests = REQUESTS;
    let signed = tokio::select! {
        signed = client.until(&requests, "", &name, answer) => signed?,
        () = seams.clock.sleep(SIGNED_MAX) => Err(format!(
            "nobody has decided on it yet; see `kubectl get csr {name}`, approve it with `kubectl certificate approve {name}`, and \
             start again"
        )),
    };
    let certificate_pem = match signed {
        Ok(certificate) => certificate,
        Err(why) => {
            std::fs::remove_file(&next).context("a key that is of no use")?;
            anyhow::bail!("the cluster gives {} no certificate: {why}", wanted.user)
        }
    };
    let leaf = Leaf::new(certificate_pem, key_pem)?;
    write_private(&pki.join(format!("{}.pem", wanted.file)), leaf.text().as_bytes())?;
    std::fs::remove_file(&next).context("the key beside its certificate")?;
    Ok(leaf)
}

/// A name that only this key has.
fn name(wanted: &Wanted, key: &KeyPair) -> String {
    let digest = digest::digest(&digest::SHA256, key.der_bytes());
    let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("corten-{}-{hex}", wanted.file)
}

/// What has become of a request, once something has: its certificate, or why there is none.
fn answer(request: Option<&Value>) -> Option<Result<String, String>> {
    let Some(request) = request else { return Some(Err("the request was deleted; start again".to_owned())) };
    let certificate = request.str_at(&["status", "certificate"]);
    if !certificate.is_empty() {
        let bytes = STANDARD.decode(certificate).unwrap_or_default();
        return Some(String::from_utf8(bytes).map_err(|_| "the certificate is no text".to_owned()));
    }
    let conditions = request.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    let refused = conditions.iter().find(|condition| matches!(condition.str_at(&["type"]), "Denied" | "Failed"));
    refused.map(|condition| Err(condition.str_at(&["message"]).to_owned()))
}

#[cfg(test)]
mod tests {
    use corten_controllers::certificate::{Signer as _, Terms};
    use corten_stdx::clock::Clock;

    use super::*;
    use crate::pki::Pki;

    const NOW_S: i64 = 1_800_000_000;

    fn store(pki: &Pki, dir: &Path, wanted: &Wanted) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let request = sign::request(&wanted.user, wanted.group, &wanted.names, &key).expect("signed");
        let terms = Terms { usages: &["digital signature", wanted.side], lifetime_s: 86_400 };
        let signed = pki.signer().expect("an authority").sign(&request, &terms).expect("signed");
        let pem = String::from_utf8(STANDARD.decode(signed).expect("base64")).expect("text");
        std::fs::write(dir.join(format!("{}.pem", wanted.file)), format!("{pem}{}", key.serialize_pem()))
            .expect("written");
    }

    #[test]
    fn a_stored_certificate_is_good_for_what_it_was_made_for() {
        let (dir, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let open = |dir: &Path| Pki::open(dir, Clock::manual(NOW_S * 1000)).expect("made");
        let (pki, foreign) = (open(dir.path()), open(other.path()));
        let own = IpAddr::from([10, 0, 0, 2]);
        store(&pki, dir.path(), &Wanted::serving("two", own));
        let stored = |wanted: &Wanted, authority: &Pki, now_s| {
            super::stored(wanted, dir.path(), Some(authority.cluster_pem()), now_s).expect("read").is_some()
        };
        assert!(stored(&Wanted::serving("two", own), &pki, NOW_S));
        assert!(!stored(&Wanted::serving("two", [10, 0, 0, 3].into()), &pki, NOW_S), "another address");
        assert!(!stored(&Wanted::serving("one", own), &pki, NOW_S), "another name");
        assert!(!stored(&Wanted::serving("two", own), &foreign, NOW_S), "another cluster");
        assert!(!stored(&Wanted::serving("two", own), &pki, NOW_S + 86_400), "its time is over");
        assert!(!stored(&Wanted::node("two"), &pki, NOW_S), "there is none");
    }

    #[test]
    fn a_refusal_is_told_in_the_clusters_words() {
        let with = |kind: &str| value!({"status": {"conditions": [{"type": kind, "message": "because"}]}});
        assert_eq!(answer(Some(&with("Approved"))), None);
        assert_eq!(answer(Some(&with("Denied"))), Some(Err("because".to_owned())));
        let issued = value!({"status": {"certificate": (STANDARD.encode("PEM"))}});
        assert_eq!(answer(Some(&issued)), Some(Ok("PEM".to_owned())));
        assert!(answer(None).is_some_and(|answer| answer.is_err()));
    }
}
