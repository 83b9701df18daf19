//! The edge, its holder, a container and a pod's process die, once each, found by their control groups: whoever it was comes back by
//! itself, the others go on as they were, and both ways to the application answer. Kills at random and under load are the spine's: an
//! emulated processor is too slow to tell a lost request from a late one.

use anyhow::{Context as _, Result, ensure};

use super::platform::visit;
use crate::process::wait;
use crate::spine::kills::{Role, containers, edge, kill, parent, programs};
use crate::spine::node::{LIMIT, Node};

/// How the Ingress calls the application.
const HOST: &str = "web.localhost";

/// The edge's address.
const EDGE: &str = "127.0.0.1";

pub(super) fn each(node: &Node) -> Result<()> {
    let instance = node.instance()?;
    wait(LIMIT, || Ok(visit(EDGE, HOST).ok())).context("the edge does not lead to the application")?;
    an_edge(node, &instance).context("the edge")?;
    a_holder(node, &instance).context("the holder")?;
    a_container(node, &instance).context("a container")?;
    a_pod(node, &instance).context("a pod's process")
}

fn an_edge(node: &Node, instance: &str) -> Result<()> {
    let before = pods(instance)?;
    let was = edge(instance)?.context("no edge runs")?;
    ensure!(kill(was, &[])?, "it has ended before");
    another_edge(instance, was)?;
    ensure!(pods(instance)? == before, "pods were {before:?} and are {:?}", pods(instance)?);
    answers(node)
}

/// The edge that it has started ends with it.
fn a_holder(node: &Node, instance: &str) -> Result<()> {
    let before = pods(instance)?;
    let was = edge(instance)?.context("no edge runs")?;
    let holder = parent(was)?;
    ensure!(kill(holder, &[was])?, "it has ended before");
    let now = another_edge(instance, was)?;
    ensure!(parent(now)? != holder, "the edge is the killed holder's");
    ensure!(pods(instance)? == before, "pods were {before:?} and are {:?}", pods(instance)?);
    answers(node)
}

fn a_container(node: &Node, instance: &str) -> Result<()> {
    let (uid, rest) = struck(node, instance, 0)?;
    let first = *containers(&programs(instance)?, &uid).first().context("it has a process")?;
    ensure!(kill(first, &[])?, "it has ended before");
    again(node, instance, &uid, &rest)
}

/// Its containers end with it.
fn a_pod(node: &Node, instance: &str) -> Result<()> {
    let (uid, rest) = struck(node, instance, 1)?;
    let all = programs(instance)?;
    let own = all.iter().find(|(_, role)| *role == Role::Pod(uid.clone())).context("it has a process")?.0;
    ensure!(kill(own, &containers(&all, &uid))?, "it has ended before");
    again(node, instance, &uid, &rest)
}

/// One of the application's pods, by its UID, and who runs beside it.
fn struck(node: &Node, instance: &str, index: usize) -> Result<(String, Vec<(i32, Role)>)> {
    let path = format!("jsonpath={{.items[{index}].metadata.uid}}");
    let uid = node.kubectl(&["get", "pods", "-l", "app=web", "--sort-by=.metadata.name", "-o", &path])?;
    let rest = others(pods(instance)?, &uid);
    ensure!(rest.len() >= 2, "the other pod has a process, and its container: {rest:?}");
    Ok((uid, rest))
}

/// It has been started again once, and nobody else.
fn again(node: &Node, instance: &str, uid: &str, rest: &[(i32, Role)]) -> Result<()> {
    let state = r#"jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}{"\n"}{end}"#;
    let back = format!("{uid} 1 true");
    node.until(&["get", "pods", "-l", "app=web", "-o", state], |told| told.lines().any(|line| line == back))?;
    let now = others(pods(instance)?, uid);
    ensure!(now == rest, "the others were {rest:?} and are {now:?}");
    answers(node)
}

fn another_edge(instance: &str, was: i32) -> Result<i32> {
    wait(LIMIT, || Ok(edge(instance)?.filter(|now| *now != was))).context("no other one comes")
}

/// Processes of pods, and the first ones of their containers.
fn pods(instance: &str) -> Result<Vec<(i32, Role)>> {
    let lasting = |role: &Role| matches!(role, Role::Pod(_) | Role::Container(_, true));
    Ok(programs(instance)?.into_iter().filter(|(_, role)| lasting(role)).collect())
}

fn others(pods: Vec<(i32, Role)>, uid: &str) -> Vec<(i32, Role)> {
    let is_of = |role: &Role| matches!(role, Role::Pod(of) | Role::Container(of, _) if of == uid);
    pods.into_iter().filter(|(_, role)| !is_of(role)).collect()
}

/// Through the edge, and by the Service's address.
fn answers(node: &Node) -> Result<()> {
    let address = node.field("default", "service/web", "{.spec.clusterIP}")?;
    [EDGE, &address].into_iter().try_for_each(|address| visit(address, HOST))
}
