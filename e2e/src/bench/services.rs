//! Many Services: how long it takes from a request that changes one endpoint until the kernel has it, and until the kernel has
//! everything where its table was lost. The kernel itself says when it has committed a change.

mod notices;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use corten_stdx::clock::Stopwatch;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use self::notices::Notices;
use super::crew::Crew;
use super::figures::quantile;
use super::of_node;
use crate::http::{Client, Request};
use crate::kubeconfig::Endpoint;
use crate::spine::node::{LIMIT, Node};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// Between two changes, so that each is by itself.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 1000)]
    services: usize,
    /// Of each Service.
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// Endpoints that are changed, one after the other.
    #[arg(long, default_value_t = 500)]
    changes: usize,
    /// How often the table is lost.
    #[arg(long, default_value_t = 10)]
    losses: usize,
}

/// Milliseconds from the request of a change, and of its answer.
struct Took {
    answered: f64,
    in_kernel: f64,
}

pub(crate) async fn run(corten: PathBuf, programs: &Path, arguments: Arguments) -> Result<ExitCode> {
    of_node(|| Node::new(corten, programs), async |node| figures(node, &arguments).await).await
}

async fn figures(node: &mut Node, arguments: &Arguments) -> Result<()> {
    node.up()?;
    let table = format!("corten-{}", node.instance()?);
    let watch = Stopwatch::start();
    make(node, arguments).await?;
    until_complete(&table, arguments.services * arguments.endpoints).await?;
    println!(
        "{} Services made, each in the kernel at once: {:.1} s",
        arguments.services,
        watch.elapsed().as_secs_f64()
    );

    let mut client = Client::new(&Endpoint::read(&node.kubeconfig())?)?;
    let mut notices = Notices::open()?;
    let mut changed = Vec::new();
    for number in 0..arguments.changes {
        changed.push(change(&mut client, &mut notices, arguments, number).await?);
    }
    ensure!(has(&table, &address(arguments.changes - 1, CHANGED))?, "the last change is not in the kernel");
    let mut lost = Vec::new();
    for number in 0..arguments.losses {
        nft(&["delete", "table", "ip", &table])?;
        lost.push(change(&mut client, &mut notices, arguments, arguments.changes + number).await?);
        until_complete(&table, arguments.services * arguments.endpoints).await?;
    }
    println!("\n| from the request that changes one endpoint, ms | p50 | p99 | most | n |\n|---|---|---|---|---|");
    row("answered, durable", changed.iter().map(|took| took.answered));
    row("in the kernel", changed.iter().map(|took| took.in_kernel));
    row("in the kernel, from the answer", changed.iter().map(|took| took.in_kernel - took.answered));
    row("the whole table in the kernel, where it was lost", lost.iter().map(|took| took.in_kernel));
    let watch = Stopwatch::start();
    node.kill()?;
    nft(&["delete", "table", "ip", &table])?;
    node.up()?;
    until_complete(&table, arguments.services * arguments.endpoints).await?;
    println!("\nKilled, the table gone, started again until ready: {:.2} s.", watch.elapsed().as_secs_f64());
    Ok(())
}

fn row(what: &str, values: impl Iterator<Item = f64> + Clone) {
    let at = |percent| quantile(values.clone(), percent);
    println!("| {what} | {:.2} | {:.2} | {:.2} | {} |", at(50), at(99), at(100), values.clone().count());
}

/// Changes an endpoint of one of the Services and waits for the answer and for the kernel.
async fn change(client: &mut Client, notices: &mut Notices, arguments: &Arguments, number: usize) -> Result<Took> {
    sleep(PAUSE).await;
    notices.forget()?;
    let service = number * 7 % arguments.services;
    let (endpoint, address) = (number % arguments.endpoints, address(number, CHANGED));
    let patch = json!([{"op": "replace", "path": format!("/endpoints/{endpoint}/addresses/0"), "value": address}]);
    let request = Request::new("PATCH", format!("{SLICES}/service-{service}"))
        .body("application/json-patch+json", patch.to_string());
    let since = Stopwatch::start();
    let ask = async {
        let answer = client.send(&request).await?;
        let at = since.elapsed();
        ensure!(answer.code == 200, "{}: {}", answer.code, String::from_utf8_lossy(&answer.body));
        Ok(at)
    };
    let see = async {
        notices.commit().await?;
        Ok(since.elapsed())
    };
    let both = async { tokio::try_join!(ask, see) };
    let Ok(both) = timeout(LIMIT, both).await else { anyhow::bail!("a change is not in the kernel after {LIMIT:?}") };
    let (answered, in_kernel) = both?;
    Ok(Took { answered: answered.as_secs_f64() * 1e3, in_kernel: in_kernel.as_secs_f64() * 1e3 })
}

/// Services without selectors, and their slices.
async fn make(node: &Node, arguments: &Arguments) -> Result<()> {
    let post = |path: &str, object: Value| Request::new("POST", path).body("application/json", object.to_string());
    let services = (0..arguments.services).map(|number| {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("service-{number}")},
            "spec": {"ports": [{"name": "web", "port": 80}]},
        });
        post(SERVICES, service)
    });
    let slices = (0..arguments.services).map(|number| post(SLICES, slice(number, arguments.endpoints)));
    Crew::new(&node.kubeconfig(), 8)?.send(services.chain(slices).collect()).await
}

fn slice(number: usize, endpoints: usize) -> Value {
    let name = format!("service-{number}");
    let endpoint = |index: usize| json!({"addresses": [address(number * endpoints + index, FIRST)], "conditions": {"ready": true}, "nodeName": "elsewhere"});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<Value>>(),
    })
}

/// Second bytes of the addresses that are there first, and of those that they are changed to.
const FIRST: u8 = 100;
const CHANGED: u8 = 101;

fn address(number: usize, part: u8) -> String {
    format!("10.{part}.{}.{}", number / 250, number % 250 + 1)
}

/// Waits until the kernel's table has so many endpoints.
async fn until_complete(table: &str, endpoints: usize) -> Result<()> {
    let since = Stopwatch::start();
    loop {
        let found = nft(&["list", "table", "ip", table])?.matches(" . 8080").count();
        if found >= endpoints {
            return Ok(());
        }
        ensure!(since.elapsed() < LIMIT, "{found} of {endpoints} endpoints are in the kernel after {LIMIT:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn has(table: &str, address: &str) -> Result<bool> {
    Ok(nft(&["list", "table", "ip", table])?.contains(&format!("{address} . 8080")))
}

fn nft(words: &[&str]) -> Result<String> {
    let output = Command::new("nft").args(words).output()?;
    ensure!(output.status.success(), "nft {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
