//! Writers who remember what was acknowledged to them: ConfigMaps that they make, change and delete, over and over, and read in
//! between. Each has names of its own, so that what it was told last is what is there. What was not answered is asked again until it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use corten_stdx::clock::Stopwatch;
use corten_stdx::random::Random;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::super::node::{LIMIT, Node};
use crate::http::{Answer, Client, Request};
use crate::kubeconfig::Endpoint;

const WRITERS: u64 = 3;

/// Names of one writer.
const NAMES: u64 = 60;

/// Between two requests, and between two attempts of one.
const PAUSE: Duration = Duration::from_millis(15);

pub(super) struct Writers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<Writer>>,
    namespace: &'static str,
}

struct Writer {
    client: Client,
    namespace: &'static str,
    number: u64,
    random: Random,
    /// The newest value that was acknowledged; names that are not in it are not there.
    known: BTreeMap<String, String>,
    acknowledged: u64,
    unanswered: u64,
}

impl Writers {
    pub(super) fn start(node: &Node, namespace: &'static str, seed: u64) -> Result<Self> {
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for number in 0..WRITERS {
            let client = Client::new(&Endpoint::read(&node.kubeconfig())?)?;
            let random = Random::seeded(seed.wrapping_add(number));
            let known = BTreeMap::new();
            let writer = Writer { client, namespace, number, random, known, acknowledged: 0, unanswered: 0 };
            tasks.spawn(writer.write(stop.clone()));
        }
        Ok(Self { stop, tasks, namespace })
    }

    /// Ends them, and compares what is there with what was acknowledged.
    pub(super) async fn stop(mut self, node: &Node) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        let (mut known, mut acknowledged, mut unanswered) = (BTreeMap::new(), 0, 0);
        while let Some(ended) = self.tasks.join_next().await {
            let writer = ended.context("a writer")??;
            known.extend(writer.known);
            acknowledged += writer.acknowledged;
            unanswered += writer.unanswered;
        }
        println!("        {acknowledged} writes acknowledged, {unanswered} attempts without an answer");
        ensure!(acknowledged > 0, "nothing was written");
        let there = written(&node.kubectl(&["-n", self.namespace, "get", "configmaps", "-o", "json"])?)?;
        ensure!(
            known == there,
            "acknowledged and not there: {:?}; there and not acknowledged: {:?}",
            less(&known, &there),
            less(&there, &known)
        );
        Ok(())
    }
}

fn less<'a>(all: &'a BTreeMap<String, String>, without: &BTreeMap<String, String>) -> Vec<(&'a String, &'a String)> {
    all.iter().filter(|(name, value)| without.get(*name) != Some(*value)).collect()
}

/// Names and values of those that writers have made.
fn written(list: &str) -> Result<BTreeMap<String, String>> {
    let list: Value = serde_json::from_str(list)?;
    let items = list["items"].as_array().context("a list has items")?;
    let pair = |item: &Value| {
        let name = item["metadata"]["name"].as_str()?;
        Some((name.to_owned(), value(item)?)).filter(|_| name.starts_with("written-"))
    };
    Ok(items.iter().filter_map(pair).collect())
}

fn value(item: &Value) -> Option<String> {
    item["data"]["value"].as_str().map(str::to_owned)
}

impl Writer {
    async fn write(mut self, stop: Arc<AtomicBool>) -> Result<Self> {
        while !stop.load(Ordering::SeqCst) {
            let name = format!("written-{}-{}", self.number, self.random.next_u64() % NAMES);
            let next = format!("{:016x}", self.random.next_u64());
            self.check(&name).await?;
            match (self.known.contains_key(&name), self.random.next_u64() % 8) {
                (false, _) => self.create(&name, next).await?,
                (true, 0) => self.delete(&name).await?,
                (true, _) => self.change(&name, next).await?,
            }
            self.acknowledged += 1;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(self)
    }

    fn path(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{}/configmaps/{name}", self.namespace)
    }

    /// What was acknowledged is what is there.
    async fn check(&mut self, name: &str) -> Result<()> {
        let (there, known) = (self.read(name).await?, self.known.get(name));
        ensure!(there.as_ref() == known, "{name} was acknowledged as {known:?} and is {there:?}");
        Ok(())
    }

    async fn read(&mut self, name: &str) -> Result<Option<String>> {
        let (answer, _) = self.ask(&Request::get(self.path(name))).await?;
        match answer.code {
            200 => Ok(value(&serde_json::from_slice(&answer.body)?)),
            404 => Ok(None),
            _ => bail!("reading {name}: {}", told(&answer)),
        }
    }

    async fn create(&mut self, name: &str, next: String) -> Result<()> {
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": next}});
        let request =
            Request::new("POST", self.path("").trim_end_matches('/')).body("application/json", object.to_string());
        match self.ask(&request).await? {
            (answer, _) if answer.code == 201 => {}
            // An attempt that was not answered has made it.
            (answer, true) if answer.code == 409 => {
                let there = self.read(name).await?;
                ensure!(there.as_ref() == Some(&next), "{name} is there with {there:?}, and nobody else writes it");
            }
            (answer, _) => bail!("making {name}: {}", told(&answer)),
        }
        self.known.insert(name.to_owned(), next);
        Ok(())
    }

    async fn change(&mut self, name: &str, next: String) -> Result<()> {
        let patch = json!({"data": {"value": next}}).to_string();
        let request = Request::new("PATCH", self.path(name)).body("application/merge-patch+json", patch);
        let (answer, _) = self.ask(&request).await?;
        ensure!(answer.code == 200, "changing {name}: {}", told(&answer));
        self.known.insert(name.to_owned(), next);
        Ok(())
    }

    async fn delete(&mut self, name: &str) -> Result<()> {
        let (answer, again) = self.ask(&Request::new("DELETE", self.path(name))).await?;
        ensure!(answer.code == 200 || again && answer.code == 404, "deleting {name}: {}", told(&answer));
        self.known.remove(name);
        Ok(())
    }

    /// The answer, and whether there was an attempt before without one.
    async fn ask(&mut self, request: &Request) -> Result<(Answer, bool)> {
        let (watch, mut again) = (Stopwatch::start(), false);
        loop {
            let last = match self.client.attempt(request).await {
                // A server that starts or ends says so.
                Ok(answer) if ![429, 500, 503, 504].contains(&answer.code) => return Ok((answer, again)),
                Ok(answer) => told(&answer),
                Err(error) => format!("{error:#}"),
            };
            self.unanswered += 1;
            again = true;
            ensure!(watch.elapsed() < LIMIT, "{} {} has no answer: {last}", request.method, request.path);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn told(answer: &Answer) -> String {
    format!("{} {}", answer.code, String::from_utf8_lossy(&answer.body))
}
