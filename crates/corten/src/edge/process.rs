//! `corten edge`: the process that the holder runs. It begins with one socket, from its holder, over which everything else
//! comes; it has no privileges and needs none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::mem::take;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use corten_dns::Zones;
use corten_podspec::{Done, EdgeOrder, HolderEvent, Keep};
use corten_proxy::Settings;
use corten_proxy::server::{Edge, Listener};
use corten_proxy::snapshot::{FILE_BYTES_MAX, Seal};
use corten_runtime::datagram;
use corten_stdx::clock::{Clock, Stopwatch};
use corten_stdx::random::Random;
use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Deserialize as _;

use super::log::{AccessLog, Folder};
use super::names::NameServer;
use super::talk::{self, Ask, Health, Told};
use super::{CONTROL, DNS_CONNECTIONS, DNS_DATAGRAMS, FOLDER, HTTP, HTTPS, KEY, LOGS, SNAPSHOT};

/// While it drains, how often it looks whether it is done; and how long it must have been, for the log to be written.
const DRAIN_LOOK: Duration = Duration::from_millis(50);
const DRAIN_QUIET: Duration = Duration::from_millis(1200);

struct State {
    edge: Edge,
    names: NameServer,
    logs: Folder,
    things: Mutex<Things>,
}

/// What the holder has handed over.
#[derive(Default)]
struct Things {
    seal: Option<Seal>,
    folder: Option<OwnedFd>,
    listeners: BTreeMap<String, TcpListener>,
    /// Sockets of names that nobody listens at yet: without zones every name would be refused. Until then queries wait in them.
    datagrams: Vec<UdpSocket>,
    connections: Vec<TcpListener>,
    is_serving: bool,
}

/// Serves until the holder is gone, or orders the end.
pub fn run() -> anyhow::Result<()> {
    let socket =
        rustix::io::dup(std::io::stdin()).context("no socket of a holder; the holder starts this by itself")?;
    take_all_descriptors()?;
    let logs = Folder::default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let clock = Clock::from_environment().map_err(anyhow::Error::msg)?;
    let random = Random::system();
    let edge = Edge::start(cores, Settings::default(), &clock, &random, Some(Box::new(AccessLog::new(logs.clone()))))?;
    let state = Arc::new(State { edge, names: NameServer::start(&clock, &random)?, logs, things: Mutex::default() });
    while let Some((bytes, mut descriptors)) = datagram::receive(&socket)? {
        match EdgeOrder::decode(&bytes)?.1 {
            EdgeOrder::Keep(keep) => state.keep(keep, descriptors.pop())?,
            EdgeOrder::Forget(forget) => state.forget(&forget.name)?,
            EdgeOrder::Serve(_) => {
                state.serve()?;
                datagram::send(&socket, &HolderEvent::from(Done::default()).encode(0)?, &[])?;
            }
            EdgeOrder::Drain(drain) => {
                state.drain(Duration::from_millis(drain.drain_ms));
                return Ok(());
            }
        }
    }
    Ok(())
}

/// As many connections as the system lets this process have.
fn take_all_descriptors() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

impl State {
    fn things(&self) -> MutexGuard<'_, Things> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(self: &Arc<Self>, keep: Keep, descriptor: Option<OwnedFd>) -> anyhow::Result<()> {
        match (keep.name.as_str(), descriptor) {
            (KEY, _) => self.things().seal = Some(Seal::new(&keep.bytes)?),
            (FOLDER, Some(folder)) => self.things().folder = Some(folder),
            (LOGS, Some(folder)) => self.logs.set(folder),
            (CONTROL, Some(socket)) => self.clone().listen_to_control(UnixListener::from(socket))?,
            (name, Some(socket)) if name.starts_with(HTTP) || name.starts_with(HTTPS) => {
                self.things().listeners.insert(keep.name, TcpListener::from(socket));
            }
            (name, Some(socket)) if name.starts_with(DNS_DATAGRAMS) => {
                self.things().datagrams.push(UdpSocket::from(socket));
            }
            (name, Some(socket)) if name.starts_with(DNS_CONNECTIONS) => {
                self.things().connections.push(TcpListener::from(socket));
            }
            // For somebody else, or for a later version.
            _ => return Ok(()),
        }
        if self.things().is_serving { self.serve() } else { Ok(()) }
    }

    fn forget(&self, name: &str) -> anyhow::Result<()> {
        self.things().listeners.remove(name);
        if self.things().is_serving { self.serve() } else { Ok(()) }
    }

    /// With what there is. Without a snapshot it serves nothing yet, but says so to every client.
    fn serve(&self) -> anyhow::Result<()> {
        if let Err(error) = self.load() {
            tracing::warn!(error = format!("{error:#}"), "no configuration");
        }
        let mut things = self.things();
        things.is_serving = true;
        let listener = |(name, socket): (&String, &TcpListener)| {
            socket.try_clone().map(|socket| Listener { socket, tls: name.starts_with(HTTPS) })
        };
        let listeners = things.listeners.iter().map(listener).collect::<Result<Vec<_>, _>>()?;
        self.edge.listen(listeners);
        Ok(())
    }

    /// Puts the snapshot in force.
    fn load(&self) -> anyhow::Result<()> {
        let mut things = self.things();
        let (Some(seal), Some(folder)) = (&things.seal, &things.folder) else { anyhow::bail!("no key or no folder") };
        let file = openat(folder, SNAPSHOT, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("no snapshot")?;
        let mut bytes = Vec::new();
        File::from(file).take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        let config = seal.open(&bytes)?;
        for (hosts, error) in self.edge.apply(&config) {
            tracing::warn!(hosts, error = format!("{:#}", anyhow::Error::from(error)), "a certificate is not served");
        }
        if let Some(zones) = &config.dns {
            self.names.apply(&Zones::deserialize(zones).context("zones of DNS")?);
            let (datagrams, connections) = (take(&mut things.datagrams), take(&mut things.connections));
            self.names.listen(datagrams, connections)?;
        }
        tracing::debug!(generation = config.generation, "configuration in force");
        Ok(())
    }

    fn listen_to_control(self: Arc<Self>, socket: UnixListener) -> anyhow::Result<()> {
        socket.set_nonblocking(false)?;
        let serve = move || {
            for stream in socket.incoming() {
                // Control asks one thing at a time; whoever breaks off is forgotten.
                let answered = stream.map_err(anyhow::Error::from).and_then(|stream| self.converse(stream));
                if let Err(error) = answered {
                    tracing::debug!(error = format!("{error:#}"), "control broke off");
                }
            }
        };
        std::thread::Builder::new().name("control".to_owned()).spawn(serve)?;
        Ok(())
    }

    fn converse(&self, mut stream: UnixStream) -> anyhow::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(ask) = talk::receive::<Ask>(&mut reader)? {
            talk::send(&mut stream, &self.answer(&ask))?;
        }
        Ok(())
    }

    fn answer(&self, ask: &Ask) -> Told {
        let loaded = if ask.generation.is_some() { self.load() } else { Ok(()) };
        let table = self.edge.table();
        let endpoints = table.endpoints().map(|endpoint| Health {
            address: endpoint.address,
            in_flight: endpoint.in_flight(),
            failures: endpoint.failures(),
            requests: endpoint.requests(),
        });
        Told {
            generation: table.generation,
            error: loaded.err().map(|error| format!("{error:#}")),
            listeners: self.things().listeners.keys().cloned().collect(),
            connections: self.edge.connections(),
            endpoints: endpoints.collect(),
            metrics: ask.metrics.then(|| self.edge.metrics()),
        }
    }

    fn drain(&self, limit: Duration) {
        self.edge.drain();
        let (watch, mut quiet) = (Stopwatch::start(), Stopwatch::start());
        while watch.elapsed() < limit && quiet.elapsed() < DRAIN_QUIET {
            std::thread::sleep(DRAIN_LOOK);
            if self.edge.connections() > 0 {
                quiet = Stopwatch::start();
            }
        }
    }
}
