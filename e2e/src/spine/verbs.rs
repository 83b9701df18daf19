//! kubectl's everyday verbs against the running shop.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::node::{LIMIT, Node};
use super::shop::NAMESPACE;
use crate::process::wait;

/// Names of pods that are not being deleted.
const STAYING: &str =
    "go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}{{\"\\n\"}}{{end}}{{end}}";

/// Changes when what is wanted changes, and not with a status.
const REVISIONS: &str =
    "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.generation} {.data}{\"\\n\"}{end}";

/// A pod of the shop to look at: one that is to stay.
pub(super) fn pod(node: &Node, app: &str) -> Result<String> {
    let label = format!("app.kubernetes.io/name={app}");
    let names = node.kubectl(&["-n", NAMESPACE, "get", "pods", "-l", &label, "-o", STAYING])?;
    let first = names.lines().next().with_context(|| format!("{app} has no pod"))?;
    Ok(first.to_owned())
}

/// get, describe, diff, apply, scale, rollout status and undo, wait, delete.
pub(super) fn everyday(node: &mut Node) -> Result<()> {
    let wide = node.kubectl(&["-n", NAMESPACE, "get", "pods", "-o", "wide"])?;
    for column in ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"] {
        ensure!(wide.lines().next().is_some_and(|head| head.contains(column)), "no column {column}: {wide}");
    }
    let name = pod(node, "www")?;
    let described = node.kubectl(&["-n", NAMESPACE, "describe", "pod", &name])?;
    for word in ["Container ID:", "corten://", "Ready:          True", "Events:", "Started"] {
        ensure!(described.contains(word), "describe lacks {word:?}:\n{described}");
    }
    let diff = node.command(&["diff", "-f", &Node::example("shop")]).output()?;
    ensure!(diff.status.success(), "what was applied differs: {}", String::from_utf8_lossy(&diff.stdout));
    let revisions = ["-n", NAMESPACE, "get", "deployments,services,ingresses,secrets,configmaps", "-o", REVISIONS];
    let before = node.kubectl(&revisions)?;
    node.kubectl(&["apply", "-f", &Node::example("shop")])?;
    let after = node.kubectl(&revisions)?;
    ensure!(before == after, "applied twice, it changes:\n{before}\n{after}");

    node.kubectl(&["-n", NAMESPACE, "scale", "deployment/www", "--replicas=5"])?;
    let five = ["-n", NAMESPACE, "get", "deployment/www", "-o", "jsonpath={.status.readyReplicas}"];
    node.until(&five, |ready| ready == "5")?;
    node.kubectl(&["-n", NAMESPACE, "scale", "deployment/www", "--replicas=3"])?;
    node.until(&five, |ready| ready == "3")?;

    node.kubectl(&["-n", NAMESPACE, "set", "env", "deployment/www", "ONCE=yes"])?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/www", "--timeout=120s"])?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "undo", "deployment/www"])?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/www", "--timeout=120s"])?;
    let env = node.field(NAMESPACE, "deployment/www", "{.spec.template.spec.containers[0].env[*].name}")?;
    ensure!(!env.contains("ONCE"), "the undo left {env}");

    let name = pod(node, "www")?;
    node.kubectl(&["-n", NAMESPACE, "delete", "pod", &name])?;
    node.until(&five, |ready| ready == "3")?;
    Ok(())
}

/// logs, logs -f, exec with its code, exec with a terminal, port-forward.
pub(super) fn streams(node: &mut Node) -> Result<()> {
    let name = pod(node, "admin")?;
    let run = ["-n", NAMESPACE, "exec", &name, "--"];
    let with = |rest: &[&'static str]| [&run[..], rest].concat().iter().map(ToString::to_string).collect::<Vec<_>>();
    let exec = |rest: &[&'static str]| {
        let arguments = with(rest);
        node.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).output()
    };
    let said = exec(&["sh", "-c", "echo to-out; echo to-err >&2; exit 7"])?;
    ensure!(said.stdout == b"to-out\n", "exec prints {:?}", String::from_utf8_lossy(&said.stdout));
    ensure!(String::from_utf8_lossy(&said.stderr).contains("to-err"), "standard error is lost");
    ensure!(said.status.code() == Some(7), "exec ends with {}", said.status);
    input(node, &name)?;
    logs(node, &name)?;
    forward(node, &name)
}

/// What goes in comes out.
fn input(node: &Node, name: &str) -> Result<()> {
    let mut child = node
        .command(&["-n", NAMESPACE, "exec", "-i", name, "--", "sh", "-c", "read line; echo got $line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("piped")?.write_all(b"some words\n")?;
    let output = child.wait_with_output()?;
    ensure!(output.stdout == b"got some words\n", "exec -i prints {:?}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// A line that is printed while the log is followed comes at once.
fn logs(node: &Node, name: &str) -> Result<()> {
    let mut following =
        Ended(node.command(&["-n", NAMESPACE, "logs", "-f", "--tail=1", name]).stdout(Stdio::piped()).spawn()?);
    let stdout = following.0.stdout.take().context("piped")?;
    let (sender, lines) = std::sync::mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mark = "a-line-that-is-followed";
    let print = format!("echo {mark} > /proc/1/fd/1");
    node.kubectl(&["-n", NAMESPACE, "exec", name, "--", "sh", "-c", &print])?;
    wait(LIMIT, || Ok(lines.try_iter().any(|line| line.contains(mark)).then_some(())))
        .context("logs -f does not show what was printed")?;
    let all = node.kubectl(&["-n", NAMESPACE, "logs", name])?;
    ensure!(all.contains(mark), "logs lacks the line: {all}");
    Ok(())
}

/// A port of the pod answers on loopback.
fn forward(node: &Node, name: &str) -> Result<()> {
    let target = node.field(NAMESPACE, &format!("pod/{name}"), "{.spec.containers[0].ports[0].containerPort}")?;
    let ports = format!("18080:{target}");
    let _forwarding = Ended(
        node.command(&["-n", NAMESPACE, "port-forward", &format!("pod/{name}"), &ports])
            .stdout(Stdio::null())
            .spawn()?,
    );
    let mut last = String::new();
    let answered = wait(LIMIT, || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", 18080)) else { return Ok(None) };
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: admin.localhost\r\nConnection: close\r\n\r\n")?;
        last.clear();
        if let Err(error) = stream.read_to_string(&mut last) {
            last = error.to_string();
        }
        Ok(last.starts_with("HTTP/1.1 200").then_some(()))
    });
    answered.with_context(|| format!("port-forward says last {last:?}"))
}

/// A process that ends with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("cannot end kubectl: {error}");
        }
    }
}
