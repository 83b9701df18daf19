//! Forwarded ports: pairs of streams, one for the connection's bytes and one for what went wrong with it. SPDY opens pairs as
//! connections come, bare or inside a WebSocket; the older WebSocket protocol has one pair for each port of the request.

use std::collections::HashMap;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::handshake::{Carrier, Refused, negotiate};
use crate::websocket::{self, Channel, Direction, Encoding, Tunnel};
use crate::{Driver, Incoming, OpenError, Outgoing, spdy};

const SPDY: [&str; 1] = ["portforward.k8s.io"];
const WEBSOCKET: [&str; 4] = ["SPDY/3.1+portforward.k8s.io", "", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

/// Streams that wait for the other of their pair.
pub const HALVES_MAX: usize = 256;

/// Ports of one request of the older protocol: each takes two of 255 channels.
pub const PORTS_MAX: usize = 127;

/// One forwarded connection.
#[derive(Debug)]
pub struct Forward {
    pub port: u16,
    pub incoming: Incoming,
    pub outgoing: Outgoing,
    /// Takes a text when the port cannot be reached.
    pub error: Outgoing,
}

/// Forwarded connections as they are opened.
#[derive(Debug)]
pub struct Forwards(Source);

#[derive(Debug)]
enum Source {
    Spdy { connection: spdy::Connection, halves: HashMap<String, spdy::Stream> },
    Channels(mpsc::Receiver<Forward>),
}

/// A request that is being upgraded.
#[derive(Debug)]
pub struct Upgrading {
    upgrade: OnUpgrade,
    carrier: Carrier,
    protocol: &'static str,
    ports: Vec<u16>,
}

/// Chooses carrier and protocol. `ports` are those that the request names, which only the older WebSocket protocol needs.
///
/// # Errors
/// When the request is no upgrade that is served.
pub fn upgrade<B>(request: &mut Request<B>, ports: Vec<u16>) -> Result<(Response<Full<Bytes>>, Upgrading), Refused> {
    let (carrier, protocol, response) = negotiate(request, &WEBSOCKET, &SPDY)?;
    if is_by_channels(carrier, protocol) && (ports.is_empty() || ports.len() > PORTS_MAX) {
        return Err(Refused::new(StatusCode::BAD_REQUEST, "query parameter \"port\" is required"));
    }
    Ok((response, Upgrading { upgrade: hyper::upgrade::on(request), carrier, protocol, ports }))
}

fn is_by_channels(carrier: Carrier, protocol: &str) -> bool {
    carrier == Carrier::WebSocket && !protocol.starts_with(crate::handshake::TUNNEL_PREFIX)
}

impl Upgrading {
    /// Opens the session once the answer was sent.
    ///
    /// # Errors
    /// When the connection is not upgraded.
    pub async fn open(self) -> Result<(Forwards, Driver), OpenError> {
        let io = TokioIo::new(self.upgrade.await?);
        Ok(match self.carrier {
            Carrier::Spdy => over_spdy(io),
            Carrier::WebSocket if is_by_channels(self.carrier, self.protocol) => {
                over_channels(io, self.protocol, &self.ports).await
            }
            Carrier::WebSocket => over_spdy(Tunnel::new(websocket::accept(io).await)),
        })
    }
}

/// Forwards over SPDY.
pub fn over_spdy<S>(io: S) -> (Forwards, Driver)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (connection, driver) = spdy::serve(io);
    (Forwards(Source::Spdy { connection, halves: HashMap::new() }), driver)
}

/// Forwards over the channels of a WebSocket; the first message of each names the port in two bytes, the lower one first.
pub async fn over_channels<S>(io: S, protocol: &str, ports: &[u16]) -> (Forwards, Driver)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let encoding = Encoding { base64: protocol.contains("base64."), close: false };
    let directions: Vec<_> = ports.iter().flat_map(|_| [Direction::Both, Direction::ToClient]).collect();
    let (channels, driver) = websocket::channels(websocket::accept(io).await, encoding, &directions);
    let (sender, receiver) = mpsc::channel(PORTS_MAX);
    let mut channels = channels.into_iter();
    for port in ports {
        let (Some(data), Some(error)) = (channels.next(), channels.next()) else { break };
        if let Some(forward) = pair(*port, data, error)
            && sender.try_send(forward).is_err()
        {
            tracing::debug!(port, "more ports than are served");
        }
    }
    (Forwards(Source::Channels(receiver)), driver)
}

fn pair(port: u16, data: Channel, error: Channel) -> Option<Forward> {
    Some(Forward { port, incoming: data.incoming?, outgoing: data.outgoing?, error: error.outgoing? })
}

impl Forwards {
    /// The next connection; none when there will be no more.
    pub async fn next(&mut self) -> Option<Forward> {
        match &mut self.0 {
            Source::Channels(forwards) => {
                let forward = forwards.recv().await?;
                let port = Bytes::copy_from_slice(&forward.port.to_le_bytes());
                let told = async {
                    forward.outgoing.send(port.clone()).await?;
                    forward.error.send(port).await
                };
                if let Err(gone) = told.await {
                    tracing::debug!(%gone, "no port is forwarded");
                    return None;
                }
                Some(forward)
            }
            Source::Spdy { connection, halves } => loop {
                let stream = connection.accept().await?;
                if let Some(forward) = join(stream, halves).await {
                    return Some(forward);
                }
            },
        }
    }
}

/// Keeps a stream until the other of its pair has come. One that says nothing useful is refused.
async fn join(stream: spdy::Stream, halves: &mut HashMap<String, spdy::Stream>) -> Option<Forward> {
    let is_data = match stream.headers.get("streamtype") {
        Some("data") => true,
        Some("error") => false,
        _ => return refuse(stream, "no stream type").await,
    };
    let port = stream.headers.get("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    let Some(port) = port else { return refuse(stream, "no port").await };
    // Clients without request ids open the error stream first and the data stream next.
    let id = stream.headers.get("requestid").map_or_else(
        || if is_data { stream.id.saturating_sub(2).to_string() } else { stream.id.to_string() },
        str::to_owned,
    );
    let Some(other) = halves.remove(&id) else {
        if halves.len() >= HALVES_MAX {
            return refuse(stream, "too many halves of pairs").await;
        }
        stream.reply().await;
        halves.insert(id, stream);
        return None;
    };
    if (other.headers.get("streamtype") == Some("data")) == is_data {
        halves.insert(id, other);
        return refuse(stream, "the pair has a stream of this type").await;
    }
    stream.reply().await;
    let (data, error) = if is_data { (stream, other) } else { (other, stream) };
    Some(Forward { port, incoming: data.incoming, outgoing: data.outgoing, error: error.outgoing })
}

async fn refuse(stream: spdy::Stream, why: &str) -> Option<Forward> {
    tracing::debug!(stream = stream.id, why, "forwarding stream refused");
    stream.refuse().await;
    None
}
