//! The deeds that a plan asks for, carried out: each is one future that ends in one outcome, which goes back to the loop.

pub(crate) mod claims;
mod image;
mod start;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::error::unless_gone;
use corten_client::{Error, Resource};
use corten_network::NetworkError;
use corten_runtime::spec::PodSpec;
use corten_stdx::error::Chain;
use futures_util::future::try_join_all;

use crate::allowance::Allowance;
use crate::container::sysctls;
use crate::fields::Subject;
use crate::files::{self, Naming};
use crate::ground::Ground;
use crate::host_port::host_ports;
use crate::pod::Pod;
use crate::qos;
use crate::sources::{Reference, Sources, of_volume};
use crate::volumes::{self, Claims, Tokens, token_keys};

pub(crate) use start::{NotStarted, Started, message, start};

const SERVICE_ACCOUNTS: Resource = Resource::new("", "v1", "serviceaccounts");

/// A pod that a deed is about: its object at the time of the decision.
#[derive(Clone)]
pub(crate) struct Subjected {
    pub(crate) ground: Arc<Ground>,
    pub(crate) object: Arc<Value>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Subjected {
    pub(crate) fn pod(&self) -> Pod<'_> {
        Pod(&self.object)
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            pod: self.pod(),
            addresses: &self.addresses,
            host_addresses: &self.ground.parts.settings.addresses,
            allocatable: &self.ground.allocatable,
        }
    }

    /// Reads the objects that are referred to.
    pub(crate) async fn sources(&self, references: BTreeSet<Reference>) -> Result<Sources, Error> {
        let namespace = self.pod().namespace();
        let client = &self.ground.parts.client;
        let reads = references.into_iter().map(|reference| async move {
            let read = client.get(&reference.0.resource(), namespace, &reference.1).await;
            unless_gone(read).map(|object| (reference, object))
        });
        Ok(Sources { namespace: namespace.to_owned(), objects: try_join_all(reads).await?.into_iter().collect() })
    }
}

/// Makes every volume of a pod, or makes those true again that follow other objects. The error is the text of an event.
pub(crate) async fn prepare_volumes(of: Subjected, only_following: bool) -> Result<(), String> {
    let tokens = tokens(&of).await.map_err(|error| Chain(&error).to_string())?;
    let wanted = of.pod().spec_list("volumes").iter().filter(|volume| !only_following || volumes::follows(volume));
    let references = wanted.flat_map(of_volume).collect();
    let sources = of.sources(references).await.map_err(|error| Chain(&error).to_string())?;
    let claims = if only_following { Claims::new() } else { claims::read(&of).await? };
    let (told, bound) = (of.clone(), claims.clone());
    let made = blocking(move || {
        let settings = &of.ground.parts.settings;
        make_dir(&settings.pod_dir(of.pod().uid()))?;
        for volume in of.pod().spec_list("volumes") {
            if only_following && !volumes::follows(volume) {
                continue;
            }
            let stamp = format!("{:016x}", of.ground.parts.random.next_u64());
            let (subject, sources, tokens, claims) = (of.subject(), &sources, &tokens, &claims);
            let making = volumes::Making { settings, subject, sources, tokens, claims, stamp: &stamp };
            if let Err(error) = volumes::prepare(making, volume) {
                let name = volume.str_at(&["name"]);
                return Ok(Err(format!("MountVolume.SetUp failed for volume {name:?} : {}", Chain(&error))));
            }
        }
        Ok(Ok(()))
    });
    made.await.unwrap_or_else(|error| Err(format!("error making pod data directories: {error}")))?;
    claims::tell_sizes(&told, &bound).await.map_err(|error| Chain(&error).to_string())
}

async fn tokens(of: &Subjected) -> Result<Tokens, Error> {
    let pod = of.pod();
    let account = pod.spec_str("serviceAccountName");
    let account = if account.is_empty() { "default" } else { account };
    let mut tokens = Tokens::new();
    for key in token_keys(pod) {
        let bound = value!({"kind": "Pod", "apiVersion": "v1", "name": (pod.name()), "uid": (pod.uid())});
        let mut spec = value!({"expirationSeconds": (key.expiration_s), "boundObjectRef": bound});
        if let Some(map) = spec.as_object_mut().filter(|_| !key.audience.is_empty()) {
            map.insert("audiences", vec![key.audience.as_str()]);
        }
        let request = value!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec});
        let client = &of.ground.parts.client;
        let answer = client.create_part(&SERVICE_ACCOUNTS, pod.namespace(), account, "token", &request).await?;
        tokens.insert(key, answer.str_at(&["status", "token"]).to_owned());
    }
    Ok(tokens)
}

fn make_dir(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(path)
}

/// Work on files, beside the loop.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Takes away what a pod has on the disk and in memory. Logs stay until the object has gone.
pub(crate) async fn remove_volumes(of: Subjected, with_logs: bool) -> Result<(), String> {
    let removed = blocking(move || {
        let settings = &of.ground.parts.settings;
        volumes::remove(settings, of.pod().uid())?;
        if !with_logs {
            return Ok(());
        }
        match std::fs::remove_dir_all(settings.log_dir(of.pod())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    });
    removed.await.map_err(|error| error.to_string())
}

/// Makes the pod's process, its link, and the files that tell names.
pub(crate) async fn create_sandbox(of: Subjected) -> Result<Vec<IpAddr>, String> {
    let made = try_create_sandbox(&of).await;
    if made.is_err() {
        // What stands half is in the way of the next try; what fails here is tried again with it.
        if let Err(error) = remove_sandbox(of).await {
            tracing::warn!(error, "a pod that could not be made is not taken away");
        }
    }
    made
}

async fn try_create_sandbox(of: &Subjected) -> Result<Vec<IpAddr>, String> {
    let (pod, parts) = (of.pod(), &of.ground.parts);
    let (hostname, _) = files::hostname(pod, &parts.settings.cluster_domain);
    let allowance = Allowance::of(pod).map_err(|error| error.to_string())?;
    let spec = PodSpec {
        id: pod.uid().to_owned(),
        namespace: pod.namespace().to_owned(),
        name: pod.name().to_owned(),
        hostname: hostname.clone(),
        host_network: pod.is_host_network(),
        host_pid: pod.spec_is("hostPID"),
        host_ipc: pod.spec_is("hostIPC"),
        share_processes: pod.spec_is("shareProcessNamespace"),
        sysctls: sysctls(pod).collect(),
        cgroup: qos::cgroup(pod),
        limits: qos::pod_limits(pod, allowance, parts.settings.pids_of_pod_max),
    };
    let pid = parts.engine.create_pod(&spec).await.map_err(|error| error.to_string())?;
    let addresses = if pod.is_host_network() {
        Vec::new()
    } else {
        link(&of.ground, pod, pid).await.map_err(|error| error.to_string())?
    };
    let with = Subjected { addresses: addresses.clone(), ..of.clone() };
    let written = blocking(move || write_files(&with, &hostname));
    written.await.map_err(|error| format!("cannot write the pod's files: {error}"))?;
    Ok(addresses)
}

/// Gives a pod, whose process this is, its addresses, and its ports of the node. What is there already stays.
pub(crate) async fn link(ground: &Ground, pod: Pod<'_>, pid: u32) -> Result<Vec<IpAddr>, NetworkError> {
    let network = &ground.parts.network;
    let addresses = network.attach(pod.uid(), pid).await?;
    let ports = host_ports(pod);
    if !ports.is_empty() {
        network.publish(pod.uid(), &ports).await?;
    }
    Ok(addresses)
}

/// The files that tell names, in a pod's folder, and where its containers find them.
pub(crate) const NAME_FILES: [(&str, &str); 3] =
    [("etc-hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")];

/// Makes those files where one is missing: no container starts without them, and control may have been killed between making the
/// pod's process and them.
pub(crate) fn mend_files(of: &Subjected) -> io::Result<()> {
    let dir = of.ground.parts.settings.pod_dir(of.pod().uid());
    if NAME_FILES.iter().all(|(file, _)| dir.join(file).exists()) {
        return Ok(());
    }
    tracing::info!(pod = of.pod().long_name(), "a file that tells names was missing");
    let (hostname, _) = files::hostname(of.pod(), &of.ground.parts.settings.cluster_domain);
    write_files(of, &hostname)
}

fn write_files(of: &Subjected, hostname: &str) -> io::Result<()> {
    let (pod, settings) = (of.pod(), &of.ground.parts.settings);
    let dir = settings.pod_dir(pod.uid());
    make_dir(&dir)?;
    // A node without such a file has nothing to pass on.
    let of_node = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let own = if pod.is_host_network() { &settings.addresses } else { &of.addresses };
    let hosts = files::hosts(pod, own, &settings.cluster_domain, &of_node("/etc/hosts"));
    let naming = Naming { cluster_domain: &settings.cluster_domain, cluster_dns: &settings.cluster_dns };
    let resolv_conf = files::resolv_conf(pod, naming, &of_node("/etc/resolv.conf"));
    std::fs::write(dir.join("etc-hosts"), hosts)?;
    std::fs::write(dir.join("hostname"), format!("{hostname}\n"))?;
    std::fs::write(dir.join("resolv.conf"), resolv_conf)
}

/// Ends everything of a pod that runs, and its link.
pub(crate) async fn remove_sandbox(of: Subjected) -> Result<(), String> {
    let parts = &of.ground.parts;
    let uid = of.pod().uid();
    parts.engine.remove_pod(uid).await.map_err(|error| error.to_string())?;
    parts.network.detach(uid).await.map_err(|error| error.to_string())
}
