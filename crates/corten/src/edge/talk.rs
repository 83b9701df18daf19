//! What control and edge say to each other over a local socket: a line of JSON each.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

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
}

/// Asks the edge that listens at a path.
pub fn ask(socket: &Path, ask: &Ask) -> anyhow::Result<Told> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    send(&mut stream, ask)?;
    receive(&mut BufReader::new(stream))?.ok_or_else(|| anyhow::anyhow!("the edge closed the connection"))
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
