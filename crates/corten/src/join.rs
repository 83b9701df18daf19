//! `corten node`: this server as a further node of a cluster whose API is elsewhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use corten_client::Error;
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use http::Uri;
use tokio::net::lookup_host;

use crate::agent::Agent;
use crate::args::Join;
use crate::cluster::{self, Cluster};
use crate::datadir::{DataDir, RUN};
use crate::edge::doors::Doors;
use crate::membership::Membership;
use crate::progress::Progress;
use crate::ranges::Ranges;
use crate::seams::Seams;
use crate::signals::Signals;
use crate::site::{Site, node_name};
use crate::token::JoinToken;
use crate::up::{drain, take_back};
use crate::{node, preflight};

/// Between two looks whether the API is there.
const LOOK: Duration = Duration::from_secs(1);

/// What entering a cluster stands on.
struct Joining<'a> {
    settings: &'a Join,
    token: Option<JoinToken>,
    dir: DataDir,
    seams: Seams,
    progress: Progress,
}

/// Runs until SIGTERM or SIGINT. What cannot work is refused before anything is started.
pub fn run(settings: &Join) -> anyhow::Result<()> {
    let progress = Progress::start();
    preflight::fit_for_pods()?;
    let token = settings.token.as_deref().map(str::parse::<JoinToken>).transpose();
    let token = token.map_err(|why| anyhow::anyhow!("--token is {why}"))?;
    let seams = Seams::new(Clock::from_environment().map_err(anyhow::Error::msg)?, Random::system());
    let dir = DataDir::open(&settings.node.data_dir, &seams.random)?;
    let joining = Joining { settings, token, dir, seams, progress };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime")?;
    runtime.block_on(joining.serve()).inspect_err(|_| take_back(&settings.node, &joining.dir))?;
    node::leave(&joining.dir);
    Ok(())
}

impl Joining<'_> {
    async fn serve(&self) -> anyhow::Result<()> {
        let mut signals = Signals::take()?;
        let started = tokio::select! {
            started = self.start() => started.map(|()| true),
            () = signals.end() => Ok(false),
        };
        if matches!(started, Ok(true)) {
            signals.end().await;
        }
        drain(&self.seams.tasks).await;
        started.map(drop)
    }

    /// Enters the cluster, then starts what every server runs.
    async fn start(&self) -> anyhow::Result<()> {
        let Self { settings, token, dir, seams, progress } = self;
        let name = node_name(&settings.node);
        let membership = Membership::open(dir, &name, &settings.server, token.as_ref(), seams).await?;
        let cluster = self.until_there(&membership).await?;
        progress.part("cluster", &settings.server)?;
        let address = match settings.node_ip {
            Some(address) => IpAddr::V4(address),
            None => own_address(&settings.server).await?,
        };
        let ranges = Ranges { service: cluster.services, pod: cluster.pods };
        ranges
            .fit(&settings.node.data_dir, dir.instance(), true)
            .context("the cluster's ranges cannot be used on this server")?;
        let listener = preflight::listen_node(settings.node.node_listen)?;
        let doors = Doors::open(&settings.node, &Path::new(RUN).join(dir.instance()))?;
        ranges.claim(&settings.node.data_dir, dir.instance())?;
        let doors = doors.map(|doors| doors.with_names(dir, ranges.dns())).transpose()?;
        let site = Site { settings: &settings.node, name, address, dir, ranges, seams: seams.clone() };
        let access = membership.access();
        let reading = seams.informers(access.data_path("corten-edge"));
        let number = cluster::network_number(&cluster.authority_pem)?;
        let (told, serving) = tokio::sync::oneshot::channel();
        let identity = async {
            let serving = membership.serving(address).await?;
            let identity = serving.identity.clone();
            // Nobody waits for it any more where the start was cut short.
            drop(told.send(serving));
            Ok(identity)
        };
        let agent = Agent {
            access,
            reading,
            listener: Some(listener),
            identity: Box::pin(identity),
            dial: membership.connections(),
            network: true,
            number,
            doors,
        };
        agent.start(&site, progress).await?;
        let serving = serving.await.context("the certificate of the node's server")?;
        seams.tasks.spawn("certificates", membership.keep(serving, seams.tasks.stopped()));
        Ok(progress.joined(&site.name)?)
    }

    /// What the cluster says of itself, once its API is there: after a reboot of everything, this server may be the first.
    async fn until_there(&self, membership: &Membership) -> anyhow::Result<Cluster> {
        let mut waiting = false;
        loop {
            let error = match membership.cluster().await {
                Ok(cluster) => return Ok(cluster),
                Err(error) => error,
            };
            if !matches!(error.downcast_ref::<Error>(), Some(Error::Transport(_))) {
                return Err(error);
            }
            if !waiting {
                let server = &self.settings.server;
                self.progress.part("cluster", &format!("waiting for {server}: {error:#}"))?;
                waiting = true;
            }
            self.seams.clock.sleep(LOOK).await;
        }
    }
}

/// The address of this server from which the kernel would go to the API. Nothing is sent.
async fn own_address(server: &str) -> anyhow::Result<IpAddr> {
    let url: Uri = server.parse().with_context(|| format!("--server {server:?} is no URL"))?;
    let host = url.host().with_context(|| format!("--server {server:?} names no host"))?;
    let mut found = lookup_host((host.trim_matches(['[', ']']), url.port_u16().unwrap_or(443))).await?;
    let to = found
        .find(SocketAddr::is_ipv4)
        .with_context(|| format!("{host} has no IPv4 address; name one of this server's own with --node-ip"))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to).with_context(|| format!("there is no way to {to}"))?;
    let own = socket.local_addr()?.ip();
    anyhow::ensure!(
        !own.is_loopback(),
        "the API at {server} is on this very server; `corten up` has made it a node already"
    );
    Ok(own)
}
