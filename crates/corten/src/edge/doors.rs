//! The sockets at which the edge is reached. They are found in the holder, or opened here, before anything is started: a port
//! that somebody else has is said at once.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use corten_podspec::Held;
use corten_runtime::{Error, Holder};

use super::{DNS_CONNECTIONS, DNS_DATAGRAMS, HTTP, HTTPS, address};
use crate::args::Node;
use crate::datadir::DataDir;
use crate::preflight;

/// Where every resolver asks.
const DNS_PORT: u16 = 53;

/// What the edge listens at.
pub struct Doors {
    pub(super) holder: Option<(Holder, Held)>,
    /// Opened here, and not in the holder yet.
    pub(super) opened: Vec<(String, OwnedFd)>,
    /// All of them.
    pub(super) names: Vec<String>,
    pub(super) run_dir: PathBuf,
    pub(super) http_port: u16,
    pub(super) https_port: u16,
}

impl Doors {
    /// `None` where no edge is wanted: both ports are 0.
    ///
    /// # Errors
    /// When a port is taken by somebody else, or the holder cannot be asked.
    pub fn open(settings: &Node, run_dir: &Path) -> anyhow::Result<Option<Self>> {
        if settings.http_port == 0 && settings.https_port == 0 {
            return Ok(None);
        }
        let holder = adopt(&run_dir.join("holder.sock"))?;
        let held = holder.as_ref().map(|(_, held)| held.names.clone()).unwrap_or_default();
        let mut doors = Self {
            holder,
            opened: Vec::new(),
            names: Vec::new(),
            run_dir: run_dir.to_owned(),
            http_port: settings.http_port,
            https_port: settings.https_port,
        };
        for (kind, port, flag) in
            [(HTTP, settings.http_port, "--http-port PORT"), (HTTPS, settings.https_port, "--https-port PORT")]
        {
            if port == 0 {
                continue;
            }
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let name = format!("{kind}{address}");
            if !held.contains(&name) {
                doors.opened.push((name.clone(), preflight::listen(address, flag)?.into()));
            }
            doors.names.push(name);
        }
        Ok(Some(doors))
    }

    /// Opens the sockets of cluster DNS too, at an address that is put on loopback for it.
    ///
    /// # Errors
    /// When the address or its port cannot be had.
    pub fn with_names(mut self, dir: &DataDir, ip: Ipv4Addr) -> anyhow::Result<Self> {
        address::add(dir, ip)?;
        let at = SocketAddr::from((ip, DNS_PORT));
        let taken = || format!("cluster DNS cannot listen at {at}; choose another range with --service-cidr");
        let held = self.holder.as_ref().map(|(_, held)| held.names.clone()).unwrap_or_default();
        let (datagrams, connections) = (format!("{DNS_DATAGRAMS}{at}"), format!("{DNS_CONNECTIONS}{at}"));
        if !held.contains(&datagrams) {
            self.opened.push((datagrams.clone(), UdpSocket::bind(at).with_context(taken)?.into()));
        }
        if !held.contains(&connections) {
            self.opened.push((connections.clone(), TcpListener::bind(at).with_context(taken)?.into()));
        }
        self.names.extend([datagrams, connections]);
        Ok(self)
    }

    /// With copies of all that the holder has, so that they outlive it: this is all that another holder needs.
    ///
    /// # Errors
    /// When the holder does not answer.
    pub(super) fn kept(mut self, holder: &mut Holder) -> anyhow::Result<Self> {
        let missing = self.names.iter().filter(|name| !self.opened.iter().any(|(opened, _)| opened == *name));
        for name in missing.cloned().collect::<Vec<_>>() {
            match holder.lend(&name) {
                Ok(socket) => self.opened.push((name, socket)),
                // Of an earlier version; it is the only one that has them, as it was then.
                Err(Error::Failed(failed)) => tracing::debug!(name, about = failed.about, "the holder lends nothing"),
                Err(error) => return Err(error).context("the holder"),
            }
        }
        Ok(self)
    }

    /// The same for a holder that is there by now, or for none.
    ///
    /// # Errors
    /// When there are too many open files, or the holder cannot be asked.
    pub(super) fn again(&self) -> anyhow::Result<Self> {
        let copy = |(name, socket): &(String, OwnedFd)| Ok((name.clone(), socket.try_clone()?));
        let opened = self.opened.iter().map(copy).collect::<std::io::Result<_>>()?;
        let (names, run_dir) = (self.names.clone(), self.run_dir.clone());
        let holder = adopt(&run_dir.join("holder.sock"))?;
        Ok(Self { holder, opened, names, run_dir, http_port: self.http_port, https_port: self.https_port })
    }

    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// Where a browser on this server begins.
    pub fn url(&self) -> String {
        match (self.http_port, self.https_port) {
            (0, 443) => "https://localhost/".to_owned(),
            (0, port) => format!("https://localhost:{port}/"),
            (80, _) => "http://localhost/".to_owned(),
            (port, _) => format!("http://localhost:{port}/"),
        }
    }
}

/// The holder of an earlier start of this instance.
fn adopt(socket: &Path) -> anyhow::Result<Option<(Holder, Held)>> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let mut holder = match Holder::adopt(socket) {
        Ok(holder) => holder,
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error).context("the holder of the edge's sockets cannot be asked"),
    };
    match holder.hello() {
        Ok(held) => Ok(Some((holder, held))),
        // It ended while it was asked.
        Err(Error::Closed) => Ok(None),
        Err(error) => Err(error).context("the holder of the edge's sockets does not answer"),
    }
}
