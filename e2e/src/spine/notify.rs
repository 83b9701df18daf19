//! Somebody is told, and in time: a container that keeps dying is one message to a webhook and one e-mail, and so is its recovery; a
//! rollout that is undone, and a certificate that will expire, are told too.
//!
//! The notifiers stand in the namespace of what they are told of, so that what other steps break is none of theirs.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};

use super::node::{LIMIT, Node};
use crate::process::wait;
use crate::told::{News, Target, Webhook, now_ms};

const NAMESPACE: &str = "told";

/// The mail server of the notifier's own tests.
const MAILBOX: &str = include_str!("../../../crates/notify/tests/it/mailbox.py");

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: told}
---
apiVersion: corten.dev/v1alpha1
kind: Notifier
metadata: {name: email, namespace: told}
spec:
  facts: [CrashLoop]
  email: {host: 127.0.0.1, port: EMAIL, security: None, from: corten@example.org, to: [ops@example.org]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: dies, namespace: told}
spec:
  minReadySeconds: 1
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

/// A certificate that is near its end so long from now, and has this much left then: a quarter of its life.
const NEAR_S: i64 = 5;
const LEFT_S: i64 = 1000;

pub(super) fn tells(node: &Node) -> Result<()> {
    let [webhook, certificates] = ["webhook", "certificates"].map(|name| Webhook::start(node.folder(), name));
    let (mut webhook, mut certificates) = (webhook?, certificates?);
    let mut email = Target::start(node.folder(), "mailbox", MAILBOX)?;
    let objects = OBJECTS.replace("EMAIL", &email.port()?)
        + &webhook.notifier(NAMESPACE, "webhook", "CrashLoop, RolloutFailed, RolloutUndone")?
        + &certificates.notifier(NAMESPACE, "certificates", "Certificate")?;
    apply(node, &objects)?;
    let near_s = now_ms() / 1000 + NEAR_S;
    secret(node, near_s - 3 * LEFT_S, near_s + LEFT_S)?;

    dies(node, &mut webhook, &email)?;
    let news = |state| News { state, fact: "Certificate", name: "page" };
    certificates.hears_in_time(news("wrong"), near_s * 1000)?;
    secret(node, near_s - 3 * LEFT_S, near_s + 100 * LEFT_S)?;
    let renewed_ms = now_ms();
    undone(node, &mut webhook)?;
    certificates.hears_in_time(news("well"), renewed_ms)?;

    certificates.hears_no_more()?;
    webhook.hears_no_more()?;
    let shown = node.kubectl(&["-n", NAMESPACE, "get", "notifiers", "--no-headers"])?;
    let rows: Vec<Vec<&str>> = shown.lines().map(|row| row.split_whitespace().take(4).collect()).collect();
    let all = ["certificates", "email", "webhook"].map(|name| vec![name, "True", "0", "0"]);
    ensure!(rows == all, "{shown}");
    node.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]).map(drop)
}

fn apply(node: &Node, objects: &str) -> Result<()> {
    let file = node.folder().join("notify.yaml");
    fs::write(&file, objects)?;
    node.kubectl(&["apply", "-f", &file.display().to_string()]).map(drop)
}

/// A container keeps dying, until it is mended.
fn dies(node: &Node, webhook: &mut Webhook, email: &Target) -> Result<()> {
    let news = |state| News { state, fact: "CrashLoop", name: "dies" };
    let reason = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}";
    node.until(&["-n", NAMESPACE, "get", "pods", "-o", reason], |text| text.contains("CrashLoopBackOff"))?;
    webhook.hears_in_time(news("wrong"), now_ms())?;
    mailed(email, 1)?;
    node.kubectl(&["-n", NAMESPACE, "patch", "deployment", "dies", "-p", MENDED])?;
    rolled_out(node)?;
    webhook.hears_in_time(news("well"), now_ms())?;
    mailed(email, 2)
}

/// A form of before is wanted again.
fn undone(node: &Node, webhook: &mut Webhook) -> Result<()> {
    let news = |state| News { state, fact: "RolloutUndone", name: "dies" };
    node.kubectl(&["-n", NAMESPACE, "set", "env", "deployment/dies", "RELEASE=two"])?;
    rolled_out(node)?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "undo", "deployment/dies"])?;
    webhook.hears_in_time(news("wrong"), now_ms())?;
    rolled_out(node)?;
    webhook.hears_in_time(news("well"), now_ms())
}

fn rolled_out(node: &Node) -> Result<()> {
    let limit = format!("--timeout={}s", LIMIT.as_secs());
    node.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/dies", &limit]).map(drop)
}

/// Waits until the mailbox has so many e-mails, the last of which is about the container.
fn mailed(email: &Target, count: usize) -> Result<()> {
    wait(LIMIT, || Ok((email.taken()?.len() >= count).then_some(()))).context("no e-mail comes")?;
    let taken = email.taken()?;
    ensure!(taken.len() == count, "too much is mailed: {taken:#?}");
    let mail: Value = serde_json::from_str(&taken[count - 1])?;
    // Quoted-printable breaks long lines.
    let text = mail["data"].as_str().unwrap_or_default().replace("=\r\n", "");
    let words = ["deployment/dies in told", "its container app keeps dying: exit code 3"];
    ensure!(words.iter().all(|word| text.contains(word)), "the e-mail says {text}");
    Ok(())
}

/// A Secret with a certificate of this life, in Unix seconds.
fn secret(node: &Node, begins_s: i64, ends_s: i64) -> Result<()> {
    let at = |unix_s: i64| anyhow::Ok(date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(unix_s)?));
    let (key, mut params) = (KeyPair::generate()?, CertificateParams::new(vec!["page.localhost".to_owned()])?);
    (params.not_before, params.not_after) = (at(begins_s)?, at(ends_s)?);
    let data = json!({
        "tls.crt": STANDARD.encode(params.self_signed(&key)?.pem()),
        "tls.key": STANDARD.encode(key.serialize_pem()),
    });
    let metadata = json!({"name": "page", "namespace": NAMESPACE});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data});
    apply(node, &secret.to_string())
}
