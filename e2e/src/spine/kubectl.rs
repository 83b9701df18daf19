//! What a user of kubectl does all day and what it has to print then, each part with pods of its own and all parts at once.

mod columns;
mod describe;
mod following;
mod logs;
mod revisions;
mod sessions;
mod terminal;
mod watch;

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use corten_stdx::clock::Stopwatch;
use serde_json::{Value, json};

use super::node::Node;

/// Where the objects of these parts are.
const NAMESPACE: &str = "daily";

/// A small image with a shell and the usual tools.
const IMAGE: &str = "localhost/test/busybox:1";

/// A kubectl, and the protocol that its streams take.
#[derive(Clone, Copy)]
struct Kubectl {
    program: &'static str,
    web_socket: bool,
}

const OLD: &str = "kubectl-1.32";

const NEW: &str = "kubectl";

type Part = (&'static str, fn(&Node) -> Result<()>);

const PARTS: [Part; 8] = [
    ("logs", logs::all),
    ("watch", watch::pods),
    ("columns and describe", shown),
    ("rollouts", revisions::all),
    ("sessions by WebSocket", |node| sessions::all(node, Kubectl { program: NEW, web_socket: true })),
    ("sessions by SPDY", |node| sessions::all(node, Kubectl { program: NEW, web_socket: false })),
    ("sessions of 1.32 by WebSocket", |node| sessions::all(node, Kubectl { program: OLD, web_socket: true })),
    ("sessions of 1.32 by SPDY", |node| sessions::all(node, Kubectl { program: OLD, web_socket: false })),
];

/// All parts, at once. Every one that fails is named.
pub(super) fn daily(node: &mut Node) -> Result<()> {
    node.kubectl(&["create", "namespace", NAMESPACE])?;
    node.until(&["-n", NAMESPACE, "get", "serviceaccount", "default", "-o", "name"], |name| !name.is_empty())?;
    let node = &*node;
    let failures: Vec<String> = std::thread::scope(|scope| {
        let running = PARTS.map(|(name, part)| {
            scope.spawn(move || {
                let watch = Stopwatch::start();
                let outcome = part(node);
                println!("        {name}: {:.1} s", watch.elapsed().as_secs_f64());
                outcome.err().map(|error| format!("{name}: {error:#}"))
            })
        });
        running
            .into_iter()
            .filter_map(|part| part.join().unwrap_or_else(|_| Some("a part has panicked".to_owned())))
            .collect()
    });
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    node.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"])?;
    Ok(())
}

impl Kubectl {
    /// A command in the namespace of these parts.
    fn command(self, node: &Node, arguments: &[&str]) -> Command {
        let mut command = node.command_of(self.program, &["-n", NAMESPACE]);
        command.args(arguments);
        for variable in ["KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS"] {
            command.env(variable, self.web_socket.to_string());
        }
        command
    }
}

/// A container of the small image that runs a script.
fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]})
}

/// What a container does that is there to be looked at: nothing, until it is told to end.
const IDLE: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

/// Makes an object in the namespace of these parts.
fn make(node: &Node, object: &Value) -> Result<()> {
    let name = object["metadata"]["name"].as_str().context("objects have names")?;
    let file = node.folder().join(format!("{}-{name}.json", object["kind"].as_str().context("objects have kinds")?));
    fs::write(&file, object.to_string())?;
    node.kubectl(&["-n", NAMESPACE, "apply", "-f", &file.display().to_string()])?;
    Ok(())
}

/// Makes a pod and waits until it is ready.
fn run(node: &Node, name: &str, spec: &Value) -> Result<()> {
    let mut spec = spec.clone();
    spec["terminationGracePeriodSeconds"] = json!(1);
    spec["automountServiceAccountToken"] = json!(false);
    let labels = json!({"app": name});
    make(
        node,
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}),
    )?;
    node.kubectl(&["-n", NAMESPACE, "wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=120s"])?;
    Ok(())
}

/// Kinds that the shop has none of, then what is listed and described of all.
fn shown(node: &Node) -> Result<()> {
    let file = node.folder().join("shown.yaml");
    fs::write(&file, include_str!("kubectl/shown.yaml"))?;
    node.kubectl(&["-n", NAMESPACE, "apply", "-f", &file.display().to_string()])?;
    node.kubectl(&["-n", NAMESPACE, "wait", "--for=condition=Complete", "job/shown", "--timeout=120s"])?;
    columns::all(node)?;
    describe::all(node)
}
