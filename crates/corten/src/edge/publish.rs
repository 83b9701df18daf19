//! Telling the edge what the API says: the configuration is sealed into the snapshot, and the edge asked to take it. So the edge
//! has it as well when it starts while control is away.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use corten_dns::Zones;
use corten_gateway::ingress::Wanted;
use corten_proxy::config::{Certificate, NodeConfig};
use corten_stdx::clock::Clock;
use corten_stdx::file::replace_with;
use corten_stdx::random::Random;
use corten_stdx::task::Stopped;
use tokio::sync::watch;

use crate::pki::{EdgeAuthority, Leaf};

use super::SNAPSHOT;
use super::start::{Place, show_to_edge};
use super::talk::{self, Ask, Told};

/// Hosts that the self-made certificate is always for.
const OWN_HOSTS: [&str; 2] = ["localhost", "*.localhost"];

/// How often it is looked whether the self-made certificate is to be made anew; that has two weeks' time.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// After something went wrong.
const PAUSE: Duration = Duration::from_secs(1);

/// What the API says to the edge, always the newest.
pub struct FromApi {
    pub wanted: watch::Receiver<Option<Arc<Wanted>>>,
    pub zones: watch::Receiver<Arc<Zones>>,
}

/// Writes snapshots and tells the edge of them.
pub struct Publisher {
    place: Arc<Place>,
    https_port: u16,
    authority: EdgeAuthority,
    clock: Clock,
    random: Random,
    generation: u64,
    self_made: Option<(BTreeSet<String>, Leaf)>,
}

impl Publisher {
    pub fn new(place: Arc<Place>, https_port: u16, authority: EdgeAuthority, clock: Clock, random: Random) -> Self {
        Self { place, https_port, authority, clock, random, generation: 0, self_made: None }
    }

    /// Writes the snapshot.
    pub fn write(&mut self, wanted: &Wanted, zones: &Zones) -> anyhow::Result<()> {
        // By the clock, so that it grows over restarts as well.
        let now_ms = u64::try_from(self.clock.now_ms()).unwrap_or_default();
        self.generation = now_ms.max(self.generation + 1);
        let (generation, https_port) = (self.generation, self.https_port);
        let dns = Some(serde_json::to_value(zones).context("zones of DNS")?);
        let mut config = NodeConfig { generation, https_port, dns, ..wanted.config.clone() };
        config.certificates.insert(0, self.self_made(&wanted.without_certificate)?);
        let sealed = self.place.seal.seal(&config, &self.random);
        write(&self.place.folder.join(SNAPSHOT), &sealed).context("the edge's snapshot")
    }

    /// A certificate for hosts that have none. It is made again when there are other hosts, and in time.
    fn self_made(&mut self, hosts: &[String]) -> anyhow::Result<Certificate> {
        let hosts: BTreeSet<String> = OWN_HOSTS.map(str::to_owned).into_iter().chain(hosts.iter().cloned()).collect();
        let now_s = self.clock.now_s();
        let known = self.self_made.take().filter(|(known, leaf)| *known == hosts && now_s < leaf.renew_at_s);
        let leaf = match known {
            Some((_, leaf)) => leaf,
            None => self.authority.serving(&hosts)?,
        };
        let names = hosts.iter().cloned().collect();
        let Leaf { certificate_pem, key_pem, .. } = leaf.clone();
        self.self_made = Some((hosts, leaf));
        Ok(Certificate { hosts: names, chain_pem: certificate_pem, key_pem })
    }

    /// Whether the self-made certificate is to be made anew.
    fn is_due(&self) -> bool {
        let now_s = self.clock.now_s();
        self.self_made.as_ref().is_some_and(|(_, leaf)| leaf.renew_at_s <= now_s)
    }

    /// Has the edge take what was written.
    pub async fn tell(&self) -> anyhow::Result<Told> {
        let (socket, generation) = (self.place.control.clone(), self.generation);
        let ask = Ask { generation: Some(generation), ..Ask::default() };
        let told = tokio::task::spawn_blocking(move || talk::ask(&socket, &ask)).await?.context("the edge")?;
        match &told.error {
            Some(error) => anyhow::bail!("the edge has not taken generation {generation}: {error}"),
            None => Ok(told),
        }
    }

    /// Follows the API until the end.
    pub async fn keep(mut self, mut told: FromApi, mut stopped: Stopped) {
        let FromApi { wanted, zones } = &mut told;
        loop {
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                changed = zones.changed() => if changed.is_err() { return },
                () = self.clock.sleep(LOOK_EVERY) => if !self.is_due() { continue },
                () = stopped.wait() => return,
            }
            let Some(now) = wanted.borrow_and_update().clone() else { continue };
            let names = zones.borrow_and_update().clone();
            while let Err(error) = self.publish(&now, &names).await {
                tracing::warn!(error = format!("{error:#}"), "the edge is not up to date");
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stopped.wait() => return,
                }
                // What came meanwhile is what counts.
                if wanted.has_changed().unwrap_or(false) || zones.has_changed().unwrap_or(false) {
                    wanted.mark_changed();
                    break;
                }
            }
        }
    }

    async fn publish(&mut self, wanted: &Wanted, zones: &Zones) -> anyhow::Result<()> {
        self.write(wanted, zones)?;
        self.tell().await.map(drop)
    }
}

/// Replaces the file as a whole. It is made again from the API after a crash, so nobody waits for the disk.
fn write(path: &Path, sealed: &[u8]) -> anyhow::Result<()> {
    replace_with(path, |file| {
        show_to_edge(file)?;
        Ok(file.write_all(sealed)?)
    })
}
