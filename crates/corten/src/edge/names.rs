//! The name server that runs in the edge's process: on a thread of its own, with sockets from the holder and zones from the
//! snapshot.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use anyhow::Context as _;
use corten_dns::{Forwarder, Server, Sockets, Table, Zones};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Answers queries for as long as it is kept.
pub(super) struct NameServer {
    tables: watch::Sender<Arc<Table>>,
    server: Server,
    tasks: Tasks,
    runtime: Handle,
}

impl NameServer {
    /// Starts its thread. It has no sockets yet and knows no name.
    pub(super) fn start(clock: &Clock, random: &Random) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("names")?;
        let (tables, newest) = watch::channel(Arc::new(Table::default()));
        let server = Server::new(newest, Forwarder::new(clock.clone(), random.clone()));
        let (tasks, handle) = (Tasks::new(), runtime.handle().clone());
        let mut stopped = tasks.stopped();
        let run = move || runtime.block_on(stopped.wait());
        std::thread::Builder::new().name("names".to_owned()).spawn(run).context("names")?;
        Ok(Self { tables, server, tasks, runtime: handle })
    }

    /// Serves these sockets too.
    pub(super) fn listen(&self, datagrams: Vec<UdpSocket>, connections: Vec<TcpListener>) -> anyhow::Result<()> {
        let _entered = self.runtime.enter();
        let mut sockets = Sockets::default();
        for socket in datagrams {
            socket.set_nonblocking(true)?;
            sockets.datagrams.push(tokio::net::UdpSocket::from_std(socket)?);
        }
        for socket in connections {
            socket.set_nonblocking(true)?;
            sockets.connections.push(tokio::net::TcpListener::from_std(socket)?);
        }
        self.server.start(sockets, &self.tasks);
        Ok(())
    }

    /// Puts zones in force.
    pub(super) fn apply(&self, zones: &Zones) {
        self.tables.send_replace(Arc::new(Table::new(zones)));
    }
}
