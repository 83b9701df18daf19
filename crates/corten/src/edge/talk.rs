//! What control and edge say to each other over a local socket: a line of JSON each.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_kubelet::server::Edge;
use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Bytes of a line: health of some ten thousand endpoints.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long the other side may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Control to edge. What is not set is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ask {
    /// Take the snapshot, which has this generation.
    pub generation: Option<u64>,
    pub metrics: bool,
}

/// Edge to control.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// In force.
    pub generation: u64,
    /// Why the snapshot was not taken.
    pub error: Option<String>,
    pub listeners: Vec<String>,
    pub connections: u64,
    pub endpoints: Vec<Health>,
    pub metrics: Option<String>,
}

/// What an edge knows of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub address: SocketAddr,
    pub in_flight: u32,
    /// In a row, to reach it.
    pub failures: u32,
    /// Requests that it was given since the edge has started.
    #[serde(default)]
    pub requests: u64,
}

/// Asks the edge that listens at a path.
pub fn ask(socket: &Path, ask: &Ask) -> anyhow::Result<Told> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    send(&mut stream, ask)?;
    receive(&mut BufReader::new(stream))?.ok_or_else(|| anyhow::anyhow!("the edge closed the connection"))
}

/// The edge that listens at a path, for the node's server.
pub struct Asked(pub PathBuf);

impl Edge for Asked {
    fn requests(&self) -> BoxFuture<'_, Vec<(IpAddr, u64)>> {
        let socket = self.0.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&socket, &Ask::default()));
        Box::pin(async move {
            match asked.await.map_err(anyhow::Error::from).and_then(|told| told) {
                Ok(told) => by_address(&told.endpoints),
                Err(error) => {
                    tracing::debug!(error = format!("{error:#}"), "the edge does not say what it has answered");
                    Vec::new()
                }
            }
        })
    }
}

/// Of all ports of an address together.
fn by_address(endpoints: &[Health]) -> Vec<(IpAddr, u64)> {
    let mut sums = BTreeMap::new();
    for endpoint in endpoints {
        *sums.entry(endpoint.address.ip()).or_insert(0) += endpoint.requests;
    }
    sums.into_iter().collect()
}

pub(super) fn send(stream: &mut UnixStream, message: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

/// The next message; `None` at the end.
pub(super) fn receive<T: DeserializeOwned>(reader: &mut impl BufRead) -> anyhow::Result<Option<T>> {
    let mut line = Vec::new();
    if reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_an_address_are_added_up() {
        let endpoint = |last, port, requests| Health {
            address: SocketAddr::from(([10, 244, 0, last], port)),
            in_flight: 0,
            failures: 0,
            requests,
        };
        let sums = by_address(&[endpoint(2, 80, 3), endpoint(3, 80, 1), endpoint(2, 81, 4)]);
        assert_eq!(sums, [(IpAddr::from([10, 244, 0, 2]), 7), (IpAddr::from([10, 244, 0, 3]), 1)]);
    }

    #[tokio::test]
    async fn an_edge_that_is_away_has_given_nothing() {
        assert_eq!(Asked("/nowhere/edge.sock".into()).requests().await, []);
    }
}
