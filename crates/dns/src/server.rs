//! Sockets: takes queries, gives replies. Which sockets comes as an argument; so do time, randomness and tasks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use corten_stdx::error::Chain;
use corten_stdx::task::Tasks;
use hickory_proto::op::{Message, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::answer::{Ask, Outcome, PAYLOAD_BYTES, PAYLOAD_BYTES_MIN, answer, no_such_name};
use crate::forward::{Forwarder, framed};
use crate::table::Table;

/// Queries of datagrams that wait for other servers at the same time; those above are dropped, and asked again.
const WAITING_MAX: usize = 1024;

/// Open connections of clients, and how long one may be silent.
const CONNECTIONS_MAX: usize = 256;
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Pause after an error of the kernel that may come again at once.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Where queries come in.
#[derive(Debug, Default)]
pub struct Sockets {
    pub datagrams: Vec<UdpSocket>,
    pub connections: Vec<TcpListener>,
}

/// Answers queries from the newest table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Server {
    table: watch::Receiver<Arc<Table>>,
    forwarder: Forwarder,
    waiting: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Server {
    pub fn new(table: watch::Receiver<Arc<Table>>, forwarder: Forwarder) -> Self {
        let (waiting, open) = (Semaphore::new(WAITING_MAX), Semaphore::new(CONNECTIONS_MAX));
        Self { table, forwarder, waiting: Arc::new(waiting), open: Arc::new(open) }
    }

    /// Serves until the tasks are stopped.
    pub fn start(&self, sockets: Sockets, tasks: &Tasks) {
        for socket in sockets.datagrams {
            let (server, mut stopped, tasks_of) = (self.clone(), tasks.stopped(), tasks.clone());
            tasks.spawn("dns-datagrams", async move {
                tokio::select! {
                    () = stopped.wait() => {}
                    () = server.datagrams(Arc::new(socket), &tasks_of) => {}
                }
            });
        }
        for listener in sockets.connections {
            let (server, mut stopped, tasks_of) = (self.clone(), tasks.stopped(), tasks.clone());
            tasks.spawn("dns-connections", async move {
                tokio::select! {
                    () = stopped.wait() => {}
                    () = server.connections(listener, &tasks_of) => {}
                }
            });
        }
    }

    async fn datagrams(&self, socket: Arc<UdpSocket>, tasks: &Tasks) {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let (length, peer) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // An ICMP error of an earlier reply shows up here: it means that peer alone.
                    tracing::debug!(error = %Chain(&error), "no datagram");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            self.datagram(&buffer[..length], &socket, peer, tasks).await;
        }
    }

    /// Answers at once what the table knows; what others must be asked is a task of its own.
    async fn datagram(&self, bytes: &[u8], socket: &Arc<UdpSocket>, peer: SocketAddr, tasks: &Tasks) {
        let Some(query) = decode(bytes) else { return };
        let limit = payload(&query);
        match self.answer(&query) {
            Outcome::Reply(reply) => send(socket, peer, reply, limit).await,
            Outcome::Ask(ask) => {
                let Ok(place) = self.waiting.clone().try_acquire_owned() else { return };
                let (server, socket) = (self.clone(), socket.clone());
                tasks.spawn("dns-question", async move {
                    let reply = server.ask(ask).await;
                    send(&socket, peer, reply, limit).await;
                    drop(place);
                });
            }
        }
    }

    async fn connections(&self, listener: TcpListener, tasks: &Tasks) {
        loop {
            let Ok(place) = self.open.clone().acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "no connection taken");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            let (server, mut stopped) = (self.clone(), tasks.stopped());
            tasks.spawn("dns-connection", async move {
                let served = tokio::select! {
                    () = stopped.wait() => Ok(()),
                    served = server.connection(stream) => served,
                };
                if let Err(error) = served {
                    tracing::debug!(error = %Chain(&error), "a connection ended early");
                }
                drop(place);
            });
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let Ok(query) = timeout(SILENCE_MAX, next(&mut stream)).await else { return Ok(()) };
            let Some(query) = query? else { return Ok(()) };
            let reply = match self.answer(&query) {
                Outcome::Reply(reply) => reply,
                Outcome::Ask(ask) => self.ask(ask).await,
            };
            let bytes = reply.to_vec().map_err(io::Error::other)?;
            timeout(SILENCE_MAX, stream.write_all(&framed(&bytes)?)).await??;
        }
    }

    fn answer(&self, query: &Message) -> Outcome {
        let table = self.table.borrow().clone();
        answer(&table, query)
    }

    /// Asks the servers of the world and puts their answer behind what is known.
    async fn ask(&self, ask: Ask) -> Message {
        let Ask { question, mut reply, searched } = ask;
        let table = self.table.borrow().clone();
        match self.forwarder.ask(&question, table.upstreams()).await {
            Ok(said) if searched && said.metadata.response_code == ResponseCode::NXDomain => absent(&table, reply),
            Ok(said) => {
                reply.metadata.response_code = said.metadata.response_code;
                reply.answers.extend(said.answers);
                reply.authorities.extend(said.authorities);
                reply.additionals.extend(said.additionals);
                reply
            }
            // The client was only trying: a name that nobody can be asked about is not there below this domain.
            Err(_) if searched => absent(&table, reply),
            Err(error) => {
                tracing::debug!(error = %Chain(&error), name = %question.name(), "no answer");
                reply.metadata.response_code = ResponseCode::ServFail;
                reply
            }
        }
    }
}

fn absent(table: &Table, reply: Message) -> Message {
    match no_such_name(table, reply) {
        Outcome::Reply(reply) => reply,
        Outcome::Ask(ask) => ask.reply,
    }
}

/// A query. What is none gets no reply: it may be somebody else's.
fn decode(bytes: &[u8]) -> Option<Message> {
    match Message::from_vec(bytes) {
        Ok(query) => Some(query).filter(|query| query.metadata.message_type == hickory_proto::op::MessageType::Query),
        Err(error) => {
            tracing::debug!(%error, "a datagram that is no query");
            None
        }
    }
}

/// Bytes that the asker can take in one datagram.
fn payload(query: &Message) -> u16 {
    let offered = query.edns.as_ref().map_or(PAYLOAD_BYTES_MIN, |edns| edns.max_payload());
    offered.clamp(PAYLOAD_BYTES_MIN, PAYLOAD_BYTES)
}

async fn send(socket: &UdpSocket, peer: SocketAddr, reply: Message, limit: u16) {
    let sent = async {
        let mut bytes = reply.to_vec().map_err(io::Error::other)?;
        if bytes.len() > usize::from(limit) {
            bytes = reply.truncate().to_vec().map_err(io::Error::other)?;
        }
        socket.send_to(&bytes, peer).await
    };
    if let Err(error) = sent.await {
        tracing::debug!(error = %Chain(&error), %peer, "a reply was not sent");
    }
}

/// The next query of a connection; none when the client has closed it.
async fn next(stream: &mut TcpStream) -> io::Result<Option<Message>> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Message::from_vec(&bytes).map(Some).map_err(io::Error::other)
}
