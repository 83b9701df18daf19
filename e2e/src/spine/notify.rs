//! Somebody is told: a container that keeps dying is one message to a webhook and one e-mail, and so is its recovery.
//!
//! The notifiers stand in the namespace of what they are told of, so that what other steps break is none of theirs.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use corten_stdx::clock::Stopwatch;
use serde_json::Value;

use super::node::{LIMIT, Node};
use crate::process::{Process, wait};

pub(super) const WEBHOOK: &str = include_str!("webhook.py");
/// The mail server of the notifier's own tests.
const MAILBOX: &str = include_str!("../../../crates/notify/tests/it/mailbox.py");

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: told}
---
apiVersion: corten.dev/v1alpha1
kind: Notifier
metadata: {name: webhook, namespace: told}
spec:
  webhook: {url: "http://127.0.0.1:WEBHOOK/"}
---
apiVersion: corten.dev/v1alpha1
kind: Notifier
metadata: {name: email, namespace: told}
spec:
  email: {host: 127.0.0.1, port: EMAIL, security: None, from: corten@example.org, to: [ops@example.org]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: dies, namespace: told}
spec:
  selector: {matchLabels: {app: dies}}
  template:
    metadata: {labels: {app: dies}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      containers:
      - name: app
        image: localhost/test/busybox:1
        imagePullPolicy: IfNotPresent
        command: [sh, -c, exit 3]
"#;

/// Dies no more.
const MENDED: &str =
    r#"{"spec":{"template":{"spec":{"containers":[{"name":"app","command":["sh","-c","sleep 100000"]}]}}}}"#;

/// A target that prints what it takes, behind its port.
pub(super) struct Target(Process);

impl Target {
    pub(super) fn start(node: &Node, name: &'static str, script: &str) -> Result<Self> {
        let file = node.folder().join(format!("{name}.py"));
        fs::write(&file, script)?;
        // Debian's own Python: another one does not know its packages.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(file);
        Ok(Self(Process::start(name, &command, node.folder())?))
    }

    pub(super) fn port(&mut self) -> Result<String> {
        wait(LIMIT, || {
            self.0.check()?;
            Ok(self.0.output()?.split_once('\n').map(|(port, _)| port.to_owned()))
        })
    }

    /// What it has taken, each a whole line.
    pub(super) fn taken(&self) -> Result<Vec<String>> {
        let output = self.0.output()?;
        let whole = output.rfind('\n').map_or("", |end| &output[..end]);
        Ok(whole.lines().skip(1).map(str::to_owned).collect())
    }
}

pub(super) fn tells(node: &Node) -> Result<()> {
    let mut webhook = Target::start(node, "webhook", WEBHOOK)?;
    let mut email = Target::start(node, "mailbox", MAILBOX)?;
    let objects = OBJECTS.replace("WEBHOOK", &webhook.port()?).replace("EMAIL", &email.port()?);
    let file = node.folder().join("notify.yaml");
    fs::write(&file, objects)?;
    node.kubectl(&["apply", "-f", &file.display().to_string()])?;
    let reason = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}";
    node.until(&["-n", "told", "get", "pods", "-o", reason], |text| text.contains("CrashLoopBackOff"))?;
    both(&webhook, &email, 1, "wrong")?;
    node.kubectl(&["-n", "told", "patch", "deployment", "dies", "-p", MENDED])?;
    node.kubectl(&["-n", "told", "rollout", "status", "deployment/dies", "--timeout=60s"])?;
    both(&webhook, &email, 2, "well")?;
    let shown = node.kubectl(&["-n", "told", "get", "notifiers", "--no-headers"])?;
    let rows: Vec<Vec<&str>> = shown.lines().map(|row| row.split_whitespace().take(4).collect()).collect();
    ensure!(rows == [["email", "True", "0", "0"], ["webhook", "True", "0", "0"]], "{shown}");
    node.kubectl(&["delete", "namespace", "told", "--wait=false"])?;
    Ok(())
}

/// Waits until each target has so many messages, the last of which says what it is to say, and nothing else.
fn both(webhook: &Target, email: &Target, count: usize, state: &str) -> Result<()> {
    let watch = Stopwatch::start();
    for target in [webhook, email] {
        wait(LIMIT, || Ok((target.taken()?.len() >= count).then_some(())))
            .with_context(|| format!("nobody was told that it is {state}"))?;
    }
    println!("        {state}: told after {:.1} s", watch.elapsed().as_secs_f64());
    let (posted, mailed) = (webhook.taken()?, email.taken()?);
    ensure!((posted.len(), mailed.len()) == (count, count), "too much is told: {posted:?} {mailed:?}");
    let message: Value = serde_json::from_str(&posted[count - 1])?;
    let news = &message["news"];
    let one = news.as_array().is_some_and(|news| news.len() == 1);
    let right = news[0]["state"] == state && news[0]["object"]["name"] == "dies" && news[0]["fact"] == "CrashLoop";
    ensure!(one && right, "the webhook is told {message}");
    let mail: Value = serde_json::from_str(&mailed[count - 1])?;
    // Quoted-printable breaks long lines.
    let text = mail["data"].as_str().unwrap_or_default().replace("=\r\n", "");
    let words = ["deployment/dies in told", "its container app keeps dying: exit code 3"];
    ensure!(words.iter().all(|word| text.contains(word)), "the e-mail says {text}");
    Ok(())
}
