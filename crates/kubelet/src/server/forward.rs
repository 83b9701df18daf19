//! Port-forward: each of the client's connections becomes one inside the pod.

use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::OwnedFd;

use bytes::BytesMut;
use corten_runtime::engine::Engine;
use corten_streaming::forward::{self, Forward, Forwards};
use corten_streaming::{CHUNK_BYTES_MAX, Incoming, Outgoing};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::body::Incoming as Body;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::Server;
use super::answer::{Answer, Refusal, whole};
use super::program::while_connected;
use super::route::Target;

/// Connections of one session at a time; more wait.
const CONNECTIONS_MAX: usize = 1000;

pub(super) fn serve(
    server: &Server,
    mut request: http::Request<Body>,
    target: &Target,
    ports: Vec<u16>,
) -> Result<Answer, Refusal> {
    let pod = server.host.pod(&target.namespace, &target.pod);
    let pod = pod.ok_or_else(|| Refusal::not_found("pod does not exist"))?;
    if !target.uid.is_empty() && target.uid != pod.uid {
        return Err(Refusal::not_found("pod not found"));
    }
    let (answer, upgrading) = match forward::upgrade(&mut request, ports) {
        Ok(upgraded) => upgraded,
        Err(refused) => return Ok(whole(refused.into_response())),
    };
    let engine = server.engine.clone();
    server.tasks.spawn_endless("port-forward", async move {
        match upgrading.open().await {
            Ok((forwards, driver)) => while_connected(driver, forward_all(&*engine, &pod.uid, forwards)).await,
            Err(error) => tracing::debug!(%error, "port-forward session did not open"),
        }
    });
    Ok(whole(answer))
}

async fn forward_all(engine: &dyn Engine, pod: &str, mut forwards: Forwards) {
    let mut connections = FuturesUnordered::new();
    let mut open = true;
    while open || !connections.is_empty() {
        tokio::select! {
            next = forwards.next(), if open && connections.len() < CONNECTIONS_MAX => match next {
                Some(forward) => connections.push(connect(engine, pod, forward)),
                None => open = false,
            },
            Some(()) = connections.next() => {}
        }
    }
}

/// One connection to its end; what fails is told on its error stream.
async fn connect(engine: &dyn Engine, pod: &str, forward: Forward) {
    let Forward { port, incoming, outgoing, error } = forward;
    let stream = match engine.connect(pod, port).await {
        Ok(fd) => established(fd).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match stream {
        Ok(stream) => {
            let (reading, writing) = stream.into_split();
            carry(incoming, writing, reading, outgoing).await;
        }
        Err(why) => {
            let why = format!("failed to connect to localhost:{port} inside the pod: {why}");
            let text = format!("error forwarding port {port} to pod {pod}, uid : {why}");
            if error.send(text.into()).await.is_err() {
                tracing::debug!(port, "client is gone");
            }
        }
    }
}

/// A connection that may still be on its way.
async fn established(fd: OwnedFd) -> io::Result<TcpStream> {
    let stream = StdStream::from(fd);
    stream.set_nonblocking(true)?;
    let stream = TcpStream::from_std(stream)?;
    stream.writable().await?;
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

/// Both directions, each to its own end; a client that gives its stream up ends both.
async fn carry(incoming: Incoming, to: OwnedWriteHalf, from: OwnedReadHalf, outgoing: Outgoing) {
    let mut sending = std::pin::pin!(send(incoming, to));
    let mut receiving = std::pin::pin!(receive(from, outgoing));
    tokio::select! {
        complete = &mut sending => if complete { receiving.await },
        () = &mut receiving => {
            // The program has closed; what the client still sends goes nowhere.
        }
    }
}

/// Whether the client has finished, rather than given up.
async fn send(mut incoming: Incoming, mut to: OwnedWriteHalf) -> bool {
    while let Some(bytes) = incoming.next().await {
        if let Err(error) = to.write_all(&bytes).await {
            tracing::debug!(%error, "forwarded connection cannot be written");
            return true;
        }
    }
    if let Err(error) = to.shutdown().await {
        tracing::debug!(%error, "forwarded connection cannot be ended");
    }
    !incoming.was_reset()
}

async fn receive(mut from: OwnedReadHalf, outgoing: Outgoing) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK_BYTES_MAX);
        let read = tokio::select! {
            read = from.read_buf(&mut buffer) => read,
            () = outgoing.gone() => return,
        };
        match read {
            Ok(0) => break,
            Ok(_) => {
                if outgoing.send(buffer.split().freeze()).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "forwarded connection cannot be read");
                break;
            }
        }
    }
    if outgoing.finish().await.is_err() {
        tracing::debug!("client is gone");
    }
}
