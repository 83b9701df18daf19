//! A second instance on the same network: what happens to the first must not touch it. And one that would be in its way, which is
//! refused.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::node::{LIMIT, Node};
use crate::process::wait;

/// Ports and ranges that nothing else in these tests has.
pub(super) const PLACE: [&str; 14] = [
    "--listen",
    "127.0.0.1:7443",
    "--node-listen",
    "127.0.0.1:11250",
    "--http-port",
    "8081",
    "--https-port",
    "8444",
    "--service-cidr",
    "10.97.0.0/16",
    "--pod-cidr",
    "10.245.0.0/16",
    "--name",
    "neighbour",
];

/// Starts it with a Service of two pods.
pub(super) fn settle(neighbour: &mut Node) -> Result<()> {
    neighbour.images(&["busybox"])?;
    neighbour.up()?;
    let create = ["create", "deployment", "web", "--image=localhost/test/busybox:1", "--replicas=2", "--"];
    neighbour.kubectl(&[&create[..], &["httpd", "-f", "-p", "8080", "-h", "/etc"]].concat())?;
    neighbour.kubectl(&["expose", "deployment", "web", "--port=80", "--target-port=8080"])?;
    let limit = format!("--timeout={}s", LIMIT.as_secs());
    neighbour.kubectl(&["rollout", "status", "deployment/web", &limit])?;
    // The address leads to the pods a moment after they are ready.
    wait(LIMIT, || Ok(answers(neighbour).ok()))
}

/// Its pods are reached, by the Service's address.
pub(super) fn answers(neighbour: &Node) -> Result<()> {
    let address = neighbour.field("default", "service/web", "{.spec.clusterIP}:{.spec.ports[0].port}")?;
    for _ in 0..10 {
        let mut stream = TcpStream::connect(&address).with_context(|| format!("the neighbour's {address}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /passwd HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.lines().next().is_some_and(|line| line.contains(" 200 ")), "the neighbour answers {answer:?}");
    }
    Ok(())
}

/// `up` beside it with a range that overlaps one of its own is refused, with a sentence that says which, whose, and what to do.
pub(super) fn refuses(neighbour: &Node) -> Result<()> {
    let ranges =
        [("--service-cidr", "10.97.128.0/17", "10.97.0.0/16"), ("--pod-cidr", "10.245.16.0/20", "10.245.0.0/16")];
    for (flag, range, theirs) in ranges {
        let folder = tempfile::tempdir()?;
        let mut up = Command::new(neighbour.program());
        up.args(["up", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data")).args([flag, range]);
        let output = up.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let (what, whose) = (format!("{range} overlaps {theirs}"), neighbour.data().display().to_string());
        ensure!(!output.status.success(), "{flag} {range} is not refused beside {theirs}");
        ensure!(
            [&what, &whose, flag].iter().all(|word| said.contains(*word)),
            "{flag} {range} is refused with: {said}"
        );
    }
    Ok(())
}
