//! Kills of everything that may be killed, in a random order, under load: control, the edge, its holder, processes of pods, programs in
//! containers. No acknowledged write is lost, no request of a replicated application, none is carried out twice, and in the end nothing
//! is left. The order comes from a seed, which is printed, so that a run can be repeated.
//!
//! One process dies at a time. Before the next one, whoever is to bring the last one back has had the time for it where nobody
//! else could: a holder is killed only while control is there, and control not before the holder is back, since otherwise nobody has
//! the sockets.

mod judge;
mod requests;
mod victims;
mod writers;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use corten_stdx::random::Random;

use super::heal;
use super::names::{ASKED_TWICE, Askers};
use super::node::{LIMIT, Node};
use super::shop::{HOSTS, NAMESPACE as SHOP};
use super::traces::Traces;
use crate::load::Load;
use crate::process::wait;
use judge::Strikes;
pub(super) use judge::{Death, longest_wait, lost};
use requests::Requests;
pub(crate) use victims::{Role, containers, edge, kill, parent, programs};
use writers::Writers;

const NAMESPACE: &str = "kills";
const DEPLOYMENT: &str = "deployment/many";

/// Who dies, in what proportion; each deck is shuffled, so that everybody has a turn.
const DECK: [Kind; 12] = [
    Kind::Control,
    Kind::Control,
    Kind::Control,
    Kind::Edge,
    Kind::Edge,
    Kind::Holder,
    Kind::Pod,
    Kind::Pod,
    Kind::Container,
    Kind::Container,
    Kind::Container,
    Kind::Container,
];

/// A run of more than this is a long one: more pods, and a rollout now and then, which also forgets the pauses of crash loops.
const SHORT_KILLS_MAX: u32 = 30;
const REPLICAS_OF_LONG: u32 = 12;
const DECKS_PER_ROLLOUT: u32 = 2;

/// Between two kills, at most.
const PAUSE_MS_MAX: u64 = 1200;

/// Pods that have to be ready before another one is struck.
const READY_MIN: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Control,
    Edge,
    Holder,
    Pod,
    Container,
}

/// What is wanted of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    kills: u32,
    seed: u64,
}

impl Plan {
    /// Without a seed a short run is the same each time, and a long one another.
    pub(super) fn new(kills: u32, seed: Option<u64>) -> Self {
        let seed =
            seed.unwrap_or_else(|| if kills > SHORT_KILLS_MAX { Random::system().next_u64() % 1_000_000 } else { 4 });
        Self { kills, seed }
    }
}

struct Killer<'a> {
    node: &'a mut Node,
    instance: String,
    random: Random,
    plan: Plan,
    requests: &'a Requests,
    /// Of the edge, which a holder's death is too.
    edges: Vec<Death>,
    strikes: Strikes,
    /// Since when control is away, and has not said since that it is ready.
    away: Option<Duration>,
    /// How often each pod was struck, by UID.
    struck: BTreeMap<String, u32>,
    killed: BTreeMap<Kind, u32>,
    last: Option<Kind>,
}

pub(super) async fn everything(node: &mut Node, instances: &[String], plan: Plan) -> Result<()> {
    let before = Traces::with_namespaces(instances)?;
    let (askers, shop) = (Askers::start(node)?, heal::running(node)?);
    let service = visitors_of_shop(node)?.start();
    let outcome = under_load(node, plan).await;
    let service = service.stop().await?;
    outcome?;
    service.nothing_lost()?;
    println!("        {} past the edge, slowest {:.0?}", service.samples.len(), service.slowest());
    askers.go_on(node, ASKED_TWICE)?;
    ensure!(heal::running(node)? == shop, "containers that nobody struck are not what they were: {shop:#?}");
    askers.finish(node)?;
    node.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=120s"])?;
    let left = || before.nothing_more(&Traces::with_namespaces(instances)?);
    // The kernel takes a moment to let go of what has ended.
    wait(LIMIT, || Ok(left().ok())).or_else(|_| left())
}

/// The kills, with writers and requests for who is struck.
async fn under_load(node: &mut Node, plan: Plan) -> Result<()> {
    println!("        {} kills with --seed {}", plan.kills, plan.seed);
    deploy(node, plan)?;
    let writers = Writers::start(node, NAMESPACE, plan.seed)?;
    let requests = Requests::start(node)?;
    let mut killer = Killer::new(node, &requests, plan)?;
    let killed = killer.run().await;
    let Killer { edges, strikes, struck, killed: counts, .. } = killer;
    killed.with_context(|| format!("after {counts:?}"))?;
    println!("        {counts:?}");
    requests.judge(&edges, &strikes).await?;
    writers.stop(node).await?;
    again(node, &struck)
}

fn deploy(node: &Node, plan: Plan) -> Result<()> {
    let (file, records) = (node.folder().join("kills.yaml"), requests::records(node));
    fs::create_dir_all(&records)?;
    let objects = include_str!("kills.yaml").replace("RECORDS", records.to_str().context("a path of text")?);
    fs::write(&file, objects)?;
    node.kubectl(&["apply", "-f", file.to_str().context("a path of text")?])?;
    if plan.kills > SHORT_KILLS_MAX {
        let replicas = format!("--replicas={REPLICAS_OF_LONG}");
        node.kubectl(&["-n", NAMESPACE, "scale", DEPLOYMENT, &replicas])?;
    }
    rolled_out(node)
}

fn rolled_out(node: &Node) -> Result<()> {
    let limit = format!("--timeout={}s", 3 * LIMIT.as_secs());
    node.kubectl(&["-n", NAMESPACE, "rollout", "status", DEPLOYMENT, &limit]).map(drop)
}

/// Requests for pods that nobody strikes, by their Service's address, which needs no process of ours.
fn visitors_of_shop(node: &Node) -> Result<Load> {
    let address = node.field(SHOP, "service/www", "{.spec.clusterIP}:{.spec.ports[0].port}")?;
    Ok(Load {
        name: "past the edge",
        address: address.parse().with_context(|| format!("the Service's address is {address:?}"))?,
        host: HOSTS[0].0.to_owned(),
        path: "/".to_owned(),
        echo: false,
        expect: HOSTS[0].1.to_owned(),
        keep_alive: false,
        connections: 4,
        requests_per_s: 60,
    })
}

/// Everything is ready again by itself, and a container was started again as often as something of its pod was struck, at most.
fn again(node: &Node, struck: &BTreeMap<String, u32>) -> Result<()> {
    rolled_out(node)?;
    let line = "{.metadata.uid} {.status.containerStatuses[*].restartCount}";
    let path = format!("jsonpath={{range .items[*]}}{line}{{\"\\n\"}}{{end}}");
    let told = node.kubectl(&["-n", NAMESPACE, "get", "pods", "-o", &path])?;
    for pod in told.lines() {
        let mut words = pod.split(' ');
        let most = words.next().and_then(|uid| struck.get(uid)).copied().unwrap_or_default();
        let counts: Vec<u32> = words.map(str::parse).collect::<Result<_, _>>().with_context(|| pod.to_owned())?;
        ensure!(counts.iter().all(|count| *count <= most), "struck {most} times, and started again: {pod}");
    }
    Ok(())
}

impl<'a> Killer<'a> {
    fn new(node: &'a mut Node, requests: &'a Requests, plan: Plan) -> Result<Self> {
        Ok(Self {
            instance: node.instance()?,
            random: Random::seeded(plan.seed),
            node,
            plan,
            requests,
            edges: Vec::new(),
            strikes: Strikes::default(),
            away: None,
            struck: BTreeMap::new(),
            killed: BTreeMap::new(),
            last: None,
        })
    }

    /// All kills; afterwards control and an edge are there.
    async fn run(&mut self) -> Result<()> {
        let mut deck = Vec::new();
        for number in 0..self.plan.kills {
            if deck.is_empty() {
                deck = self.shuffled();
                let decks = number / u32::try_from(DECK.len())?;
                if self.plan.kills > SHORT_KILLS_MAX && decks % DECKS_PER_ROLLOUT == DECKS_PER_ROLLOUT - 1 {
                    self.roll().await?;
                }
            }
            tokio::time::sleep(Duration::from_millis(self.random.next_u64() % PAUSE_MS_MAX)).await;
            let kind = deck.pop().context("it was filled")?;
            self.strike(kind).with_context(|| format!("kill {number}, of {kind:?}"))?;
            *self.killed.entry(kind).or_default() += 1;
            self.last = Some(kind);
        }
        self.ready()?;
        self.edge().map(drop)
    }

    fn shuffled(&self) -> Vec<Kind> {
        let mut deck = DECK.to_vec();
        deck.sort_by_cached_key(|_| self.random.next_u64());
        deck
    }

    /// Waits until control says that it is ready.
    fn ready(&mut self) -> Result<()> {
        self.node.until_ready()?;
        if let Some(begun) = self.away.take() {
            self.strikes.absences.push(Death { begun, over: self.requests.elapsed() });
        }
        Ok(())
    }

    /// Begins a rollout; nobody waits for its end.
    async fn roll(&mut self) -> Result<()> {
        self.ready()?;
        self.node.kubectl(&["-n", NAMESPACE, "rollout", "restart", DEPLOYMENT]).map(drop)
    }

    fn strike(&mut self, kind: Kind) -> Result<()> {
        // What is struck right after control is struck while nobody looks; enough were ready before.
        if self.last != Some(Kind::Control) {
            self.settle()?;
        }
        match kind {
            Kind::Control => {
                // One that was killed before it was ready is away for longer.
                self.away.get_or_insert(self.requests.elapsed());
                self.node.kill()?;
                self.node.start()
            }
            Kind::Edge => {
                let edge = self.edge()?;
                self.end_edge(edge, &[])
            }
            Kind::Holder => {
                self.ready()?;
                let edge = self.edge()?;
                self.end_edge(victims::parent(edge)?, &[edge])?;
                self.edge().map(drop)
            }
            Kind::Pod | Kind::Container => self.strike_pod(kind),
        }
    }

    /// Control is ready, and so are enough pods.
    fn settle(&mut self) -> Result<()> {
        self.ready()?;
        let ready = ["-n", NAMESPACE, "get", DEPLOYMENT, "-o", "jsonpath={.status.readyReplicas}"];
        let is_enough = |ready: &str| ready.parse::<u32>().is_ok_and(|ready| ready >= READY_MIN);
        self.node.until(&ready, is_enough).map(drop)
    }

    /// The edge's process, when there is one.
    fn edge(&self) -> Result<i32> {
        wait(LIMIT, || edge(&self.instance)).context("no edge runs")
    }

    fn end_edge(&mut self, pid: i32, others: &[i32]) -> Result<()> {
        let begun = self.requests.elapsed();
        kill(pid, others)?;
        self.edges.push(Death { begun, over: self.requests.elapsed() });
        Ok(())
    }

    /// One of the pods that were struck least.
    fn strike_pod(&mut self, kind: Kind) -> Result<()> {
        wait(LIMIT, || {
            let ours = victims::pods(self.node, NAMESPACE)?;
            let mut candidates: Vec<(u32, u64, i32, String)> = Vec::new();
            let programs = programs(&self.instance)?;
            for (pid, role) in &programs {
                let uid = match (kind, role) {
                    (Kind::Pod, Role::Pod(uid)) | (Kind::Container, Role::Container(uid, true)) => uid,
                    _ => continue,
                };
                if ours.contains(uid) {
                    let times = self.struck.get(uid).copied().unwrap_or_default();
                    candidates.push((times, self.random.next_u64(), *pid, uid.clone()));
                }
            }
            let Some((_, _, pid, uid)) = candidates.into_iter().min() else { return Ok(None) };
            // Its containers end with a pod's process.
            let others = if kind == Kind::Pod { containers(&programs, &uid) } else { Vec::new() };
            *self.struck.entry(uid).or_default() += 1;
            let begun = self.requests.elapsed();
            let was_there = kill(pid, &others)?;
            self.strikes.deaths.push(Death { begun, over: self.requests.elapsed() });
            Ok(was_there.then_some(()))
        })
        .context("nobody to be struck")
    }
}
