//! Kills: of a container, a pod, control at random moments. What may go on has to go on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use corten_stdx::random::Random;

use super::kills::{containers, kill, programs};
use super::names::{ASKED_ONCE, Askers};
use super::node::Node;
use super::shop::{HOSTS, NAMESPACE};
use super::verbs::pod;
use crate::load::{Load, Running};

/// Control is killed at some moment within this after its start.
const KILL_WITHIN_MS: u64 = 700;

/// A container killed from outside is started again and counted; a deleted pod is replaced.
pub(super) fn containers_and_pods(node: &mut Node) -> Result<()> {
    let name = pod(node, "www")?;
    let object = format!("pod/{name}");
    let uid = node.field(NAMESPACE, &object, "{.metadata.uid}")?;
    let first = *containers(&programs(&node.instance()?)?, &uid).first().context("the pod has a process")?;
    kill(first, &[])?;
    let restarts = ["-n", NAMESPACE, "get", &object, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
    node.until(&restarts, |count| count == "1")?;
    let ready = ["-n", NAMESPACE, "get", &object, "-o", "jsonpath={.status.containerStatuses[0].ready}"];
    node.until(&ready, |ready| ready == "true")?;
    let last = node.field(NAMESPACE, &object, "{.status.containerStatuses[0].lastState.terminated.exitCode}")?;
    ensure!(last == "137", "the killed container ended with {last}");
    node.kubectl(&["-n", NAMESPACE, "delete", &object, "--wait=false"])?;
    let pods = ["-n", NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/name=www", "-o", "name"];
    node.until(&pods, |pods| pods.lines().count() == 3 && !pods.contains(&name))?;
    Ok(())
}

/// What must not change while control is away: every container's id, start and process.
pub(super) fn running(node: &Node) -> Result<BTreeMap<String, String>> {
    let path = "{range .items[*]}{.metadata.uid} {.status.containerStatuses[*].containerID} \
                {.status.containerStatuses[*].state.running.startedAt} \
                {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}";
    let listed = node.kubectl(&["-n", NAMESPACE, "get", "pods", "-o", &format!("jsonpath={path}")])?;
    let (mut found, programs) = (BTreeMap::new(), programs(&node.instance()?)?);
    for line in listed.lines() {
        let (uid, rest) = line.split_once(' ').context("a pod has an identity")?;
        found.insert(uid.to_owned(), format!("{rest} {:?}", containers(&programs, uid)));
    }
    Ok(found)
}

/// Requests through the edge to every host of the shop.
pub(super) fn visitors(node: &Node) -> Vec<Running> {
    let load = |(host, word): (&'static str, &str)| Load {
        name: host,
        address: node.edge(),
        host: host.to_owned(),
        path: "/".to_owned(),
        echo: false,
        expect: word.to_owned(),
        keep_alive: false,
        connections: 4,
        requests_per_s: 100,
    };
    HOSTS.map(|host| load(host).start()).into()
}

/// Control dies at random moments, during its start too. No request and no query notices; what comes back takes over what runs.
pub(super) async fn control_kills(node: &mut Node, times: u32) -> Result<()> {
    let askers = Askers::start(node)?;
    let before = running(node)?;
    let random = Random::seeded(7);
    let visitors = visitors(node);
    for _ in 0..times {
        node.kill()?;
        node.start()?;
        let moment = Duration::from_millis(random.next_u64() % KILL_WITHIN_MS);
        tokio::time::sleep(moment).await;
    }
    node.kill()?;
    node.up()?;
    for load in visitors {
        load.stop().await?.nothing_lost()?;
    }
    askers.go_on(node, ASKED_ONCE)?;
    let after = running(node)?;
    ensure!(before == after, "containers are not what they were:\n{before:#?}\n{after:#?}");
    askers.finish(node)
}
