//! The edge as a whole: one thread a core, all of which accept from the same sockets. Routes, certificates and sockets change
//! while requests go on.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::access::{self, AccessLog};
use crate::client::Client;
use crate::config::NodeConfig;
use crate::core::{Core, Settings};
use crate::link::{Io, Link};
use crate::stats::{self, Stats};
use crate::table::Table;
use crate::tls::{CertificateError, Certificates};
use crate::wire::Asker;

/// How often a core hands over log lines that are not yet a batch, and looks at idle connections.
const TICK: Duration = Duration::from_secs(1);

/// After an accept that failed, for want of descriptors for example.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// A socket that clients reach.
#[derive(Debug)]
pub struct Listener {
    pub socket: TcpListener,
    pub tls: bool,
}

type Listeners = Arc<Vec<Listener>>;

/// A running edge. Dropping it ends the threads, with all connections.
#[derive(Debug)]
pub struct Edge {
    tables: watch::Sender<Arc<Table>>,
    listeners: watch::Sender<Listeners>,
    draining: watch::Sender<bool>,
    certificates: Arc<Certificates>,
    stats: Vec<Arc<Stats>>,
    threads: Vec<JoinHandle<()>>,
}

impl Edge {
    /// Starts as many threads as `cores`, which listen to nothing yet. The access log goes to `log`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        cores: usize,
        settings: Settings,
        clock: &Clock,
        random: &Random,
        log: Option<Box<dyn Write + Send>>,
    ) -> io::Result<Self> {
        let mut edge = Self {
            tables: watch::Sender::new(Arc::default()),
            listeners: watch::Sender::new(Arc::default()),
            draining: watch::Sender::new(false),
            certificates: Arc::default(),
            stats: Vec::new(),
            threads: Vec::new(),
        };
        let lines = match log {
            Some(out) => {
                let (sender, batches) = access::channel();
                let write = move || access::write_all(&batches, out);
                edge.threads.push(std::thread::Builder::new().name("access-log".to_owned()).spawn(write)?);
                Some(sender)
            }
            None => None,
        };
        for number in 0..cores.max(1) {
            let stats = Arc::new(Stats::default());
            let seed = CoreSeed {
                settings,
                clock: clock.clone(),
                random: random.clone(),
                stats: stats.clone(),
                log: lines.clone(),
                tables: edge.tables.subscribe(),
                listeners: edge.listeners.subscribe(),
                draining: edge.draining.subscribe(),
                acceptor: TlsAcceptor::from(edge.certificates.server_config()),
            };
            let name = format!("core-{number}");
            edge.threads.push(std::thread::Builder::new().name(name).spawn(move || seed.run())?);
            edge.stats.push(stats);
        }
        Ok(edge)
    }

    /// Puts a configuration in force. Gives back certificates that cannot be served, with the reason.
    pub fn apply(&self, config: &NodeConfig) -> Vec<(String, CertificateError)> {
        let refused = self.certificates.set(&config.certificates);
        self.tables.send_modify(|table| {
            let new = Table::new(config, table);
            new.take_over(table);
            *table = Arc::new(new);
        });
        refused
    }

    /// Accepts from these sockets and no others.
    pub fn listen(&self, listeners: Vec<Listener>) {
        self.listeners.send_replace(Arc::new(listeners));
    }

    /// Accepts nothing more, and ends every connection with the answer that it is at.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Client connections.
    pub fn connections(&self) -> u64 {
        self.stats.iter().map(|stats| stats.connections_open.get()).sum()
    }

    /// Counters in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        stats::text(self.stats.iter().map(|stats| &**stats))
    }

    pub fn table(&self) -> Arc<Table> {
        self.tables.borrow().clone()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // The threads end when nobody can tell them anything any more.
        self.tables = watch::Sender::new(Arc::default());
        self.listeners = watch::Sender::new(Arc::default());
        self.draining = watch::Sender::new(false);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the edge has panicked");
            }
        }
    }
}

/// What a core's thread begins with.
struct CoreSeed {
    settings: Settings,
    clock: Clock,
    random: Random,
    stats: Arc<Stats>,
    log: Option<std::sync::mpsc::SyncSender<Vec<u8>>>,
    tables: watch::Receiver<Arc<Table>>,
    listeners: watch::Receiver<Listeners>,
    draining: watch::Receiver<bool>,
    acceptor: TlsAcceptor,
}

impl CoreSeed {
    fn run(self) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build_local(tokio::runtime::LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve()),
            Err(error) => tracing::error!(%error, "a core of the edge cannot run"),
        }
    }

    async fn serve(self) {
        let Self { settings, clock, random, stats, log, tables, mut listeners, mut draining, acceptor } = self;
        let core = Core::new(settings, clock, &random, stats, AccessLog::new(log), tables);
        let tasks = Tasks::new();
        let mut accepting = JoinSet::new();
        loop {
            accepting.shutdown().await;
            if *draining.borrow_and_update() {
                core.drain();
            }
            if !core.is_draining() {
                let current = listeners.borrow_and_update().clone();
                for number in 0..current.len() {
                    let (core, tasks, acceptor) = (core.clone(), tasks.clone(), acceptor.clone());
                    accepting.spawn_local(accept(core, tasks, current.clone(), number, acceptor));
                }
            }
            loop {
                tokio::select! {
                    () = sleep(TICK) => tick(&core),
                    changed = listeners.changed() => if changed.is_ok() { break } else { return tick(&core) },
                    changed = draining.changed() => if changed.is_ok() { break } else { return tick(&core) },
                }
            }
        }
    }
}

fn tick(core: &Core) {
    core.stats.log_lines_dropped.add(core.log.flush());
    core.pool.sweep();
}

async fn accept(core: Rc<Core>, tasks: Tasks, listeners: Listeners, number: usize, acceptor: TlsAcceptor) {
    let Listener { socket, tls } = &listeners[number];
    let socket = socket.try_clone().and_then(|socket| {
        socket.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(socket)
    });
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "a socket cannot be listened to"),
    };
    let port = socket.local_addr().map_or(0, |address| address.port());
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                let acceptor = tls.then(|| acceptor.clone());
                connected(&core, &tasks, stream, peer, port, acceptor);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_REST).await;
            }
        }
    }
}

fn connected(
    core: &Rc<Core>,
    tasks: &Tasks,
    stream: TcpStream,
    peer: SocketAddr,
    port: u16,
    acceptor: Option<TlsAcceptor>,
) {
    let stats = &core.stats;
    if stats.connections_open.get() >= core.settings.connections_max || stream.set_nodelay(true).is_err() {
        stats.connections_refused.add(1);
        return;
    }
    stats.connections.add(1);
    let open = Open::new(core.clone());
    tasks.spawn_local("connection", async move {
        let asker = Asker::new(peer.ip().to_canonical(), acceptor.is_some(), port);
        let io = match acceptor {
            None => Some(Io::Plain(stream)),
            Some(acceptor) => handshake(&open.0, stream, acceptor).await,
        };
        if let Some(io) = io {
            Client::new(open.0.clone(), Link::new(io), asker).serve().await;
        }
    });
}

async fn handshake(core: &Core, stream: TcpStream, acceptor: TlsAcceptor) -> Option<Io> {
    match timeout(core.settings.timeouts.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            core.stats.tls_handshakes.add(1);
            Some(Io::Tls(Box::new(stream)))
        }
        Ok(Err(_)) | Err(_) => {
            core.stats.tls_failures.add(1);
            None
        }
    }
}

/// Counts a connection for as long as it is open.
struct Open(Rc<Core>);

impl Open {
    fn new(core: Rc<Core>) -> Self {
        core.stats.connections_open.add(1);
        Self(core)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.stats.connections_open.subtract(1);
    }
}
