//! Asks the servers of the world: each in its turn, by datagram and, for what does not fit, over a connection.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::answer::PAYLOAD_BYTES;
use crate::cache::Cache;

/// How long one server may take.
const SERVER_LIMIT: Duration = Duration::from_millis(1500);

/// Questions that are under way at the same time; one more is answered with a failure at once.
pub(crate) const QUESTIONS_MAX: usize = 1024;

/// Why nobody answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no server is configured for names outside of the cluster")]
    NoServers,
    #[error("more than {QUESTIONS_MAX} questions are under way")]
    TooMany,
    #[error("none of the servers answered, the last one ({server})")]
    Silent { server: SocketAddr, source: io::Error },
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counts {
    pub asked: AtomicU64,
    pub from_cache: AtomicU64,
    pub failed: AtomicU64,
}

/// Asks, and remembers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Forwarder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    random: Random,
    cache: Cache,
    places: Semaphore,
    counts: Counts,
}

impl Forwarder {
    pub fn new(clock: Clock, random: Random) -> Self {
        let places = Semaphore::new(QUESTIONS_MAX);
        Self(Arc::new(Inner { clock, random, cache: Cache::default(), places, counts: Counts::default() }))
    }

    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// Replies that are remembered.
    pub fn remembered(&self) -> usize {
        self.0.cache.len()
    }

    /// The reply of the first server that gives one.
    pub(crate) async fn ask(&self, question: &Query, servers: &[SocketAddr]) -> Result<Message, Error> {
        let Inner { clock, cache, counts, .. } = &*self.0;
        if let Some(reply) = cache.get(question, clock.now_s()) {
            counts.from_cache.fetch_add(1, Ordering::Relaxed);
            return Ok(reply);
        }
        let asked = self.ask_servers(question, servers).await;
        match &asked {
            Ok(reply) => {
                counts.asked.fetch_add(1, Ordering::Relaxed);
                cache.put(question, reply, clock.now_s());
            }
            Err(_) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        asked
    }

    async fn ask_servers(&self, question: &Query, servers: &[SocketAddr]) -> Result<Message, Error> {
        let _place = self.0.places.try_acquire().map_err(|_| Error::TooMany)?;
        let mut last = Err(Error::NoServers);
        for &server in servers {
            let asked = timeout(SERVER_LIMIT, self.ask_one(question, server)).await;
            match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(reply) if failed(&reply) => last = Ok(reply),
                Ok(reply) => return Ok(reply),
                Err(source) if last.is_err() => last = Err(Error::Silent { server, source }),
                Err(_) => {}
            }
        }
        last
    }

    async fn ask_one(&self, question: &Query, server: SocketAddr) -> io::Result<Message> {
        let id = (self.0.random.next_u64() >> 16) as u16;
        let bytes = message(id, question).to_vec().map_err(io::Error::other)?;
        let reply = by_datagram(&bytes, id, question, server).await?;
        if reply.metadata.truncation { by_connection(&bytes, id, question, server).await } else { Ok(reply) }
    }
}

/// A server that cannot or will not: perhaps the next one does.
fn failed(reply: &Message) -> bool {
    matches!(reply.metadata.response_code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp)
}

fn message(id: u16, question: &Query) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(question.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD_BYTES);
    message.edns = Some(edns);
    message
}

async fn by_datagram(bytes: &[u8], id: u16, question: &Query, server: SocketAddr) -> io::Result<Message> {
    // A socket of its own, so that the kernel chooses a port that nobody can guess (RFC 5452).
    let socket = match server {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await?,
    };
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(reply) = fitting(&buffer[..length], id, question) {
            return Ok(reply);
        }
    }
}

async fn by_connection(bytes: &[u8], id: u16, question: &Query, server: SocketAddr) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&framed(bytes)?).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    fitting(&buffer, id, question).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A message with its length before it (RFC 1035 § 4.2.2).
pub(crate) fn framed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes(), bytes].concat())
}

/// The reply, if that is what the bytes are: anything else may come from anybody.
fn fitting(bytes: &[u8], id: u16, question: &Query) -> Option<Message> {
    let reply = match Message::from_vec(bytes) {
        Ok(reply) => reply,
        Err(error) => {
            tracing::debug!(%error, "a datagram that is no reply");
            return None;
        }
    };
    let fits = reply.metadata.id == id && reply.metadata.message_type == MessageType::Response;
    let same = |asked: &Query| asked.name() == question.name() && asked.query_type() == question.query_type();
    (fits && reply.queries.len() == 1 && reply.queries.first().is_some_and(same)).then_some(reply)
}
