//! What a cluster publishes of itself for servers that join (`kube-public/cluster-info`).

use std::net::SocketAddr;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::value::Value;
use corten_apimachinery::yaml;
use corten_builtin::bootstrap::joining::{KUBECONFIG, NAME, NAMESPACE, POD_RANGE, SERVICE_RANGE};
use corten_client::{Client, Resource};
use ipnet::Ipv4Net;

use crate::token::hash_of;

pub const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Where other servers reach the API, if they can.
    pub server: Option<String>,
    /// Who vouches for it.
    pub authority_pem: String,
    pub pods: Ipv4Net,
    pub services: Ipv4Net,
}

/// The URL under which other servers reach an API.
pub fn server_url(endpoint: SocketAddr) -> String {
    format!("https://{endpoint}")
}

/// Tells the network between a cluster's servers from those of other clusters: the first 24 bits of the authority's hash.
pub fn network_number(authority_pem: &str) -> anyhow::Result<u32> {
    let hash = hash_of(authority_pem)?;
    u32::from_str_radix(&hash[..6], 16).context("a hash has hexadecimal digits")
}

/// Asks the API for it.
pub async fn read(client: &Client) -> anyhow::Result<Cluster> {
    parse(&client.get(&CONFIG_MAPS, NAMESPACE, NAME).await?)
}

/// Where it is found.
pub fn path() -> String {
    CONFIG_MAPS.path(NAMESPACE, NAME, "")
}

/// Reads the object.
pub fn parse(object: &Value) -> anyhow::Result<Cluster> {
    let data = |key: &str| object.str_at(&["data", key]);
    let kubeconfig = yaml::parse(data(KUBECONFIG).as_bytes()).context("the cluster's kubeconfig is no YAML")?.value;
    let first = kubeconfig.get("clusters").and_then(Value::as_array).and_then(|clusters| clusters.first());
    let cluster = first.and_then(|first| first.get("cluster")).context("the cluster's kubeconfig names no cluster")?;
    let authority =
        STANDARD.decode(cluster.str_at(&["certificate-authority-data"])).context("the cluster's authority")?;
    let range = |key: &str| -> anyhow::Result<Ipv4Net> {
        data(key)
            .parse()
            .with_context(|| format!("the cluster's {key}, {:?}, is no range; is it a cluster of corten?", data(key)))
    };
    let server = cluster.str_at(&["server"]);
    Ok(Cluster {
        server: (!server.is_empty()).then(|| server.to_owned()),
        authority_pem: String::from_utf8(authority).context("the cluster's authority")?,
        pods: range(POD_RANGE)?,
        services: range(SERVICE_RANGE)?,
    })
}

#[cfg(test)]
mod tests {
    use corten_builtin::bootstrap::Joining;

    use super::*;

    #[test]
    fn a_cluster_is_read_as_it_is_published() {
        let check = |server: Option<&str>| {
            let cluster = Cluster {
                server: server.map(str::to_owned),
                authority_pem: "PEM".to_owned(),
                pods: "10.244.0.0/16".parse().expect("a range"),
                services: "10.96.0.0/16".parse().expect("a range"),
            };
            let Cluster { server, authority_pem, pods, services } = cluster.clone();
            let published = Joining { server, authority: STANDARD.encode(authority_pem), pods, services };
            assert_eq!(parse(&published.object().1).expect("read"), cluster);
        };
        check(Some("https://10.0.0.1:6443"));
        check(None);
    }

    #[test]
    fn a_cluster_of_others_is_told_from_ours() {
        let object = corten_apimachinery::value!({"data": {"kubeconfig": "clusters:\n- cluster: {server: x}\n"}});
        assert!(format!("{:#}", parse(&object).expect_err("no ranges")).contains("is it a cluster of corten?"));
    }
}
