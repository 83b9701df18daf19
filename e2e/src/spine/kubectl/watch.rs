//! `get -w`: a row for each change, in the words that a pod's life has for a user.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::following::Following;
use super::{IDLE, NAMESPACE, NEW, container, make};
use crate::spine::node::Node;

const POD: &str = "watched";

/// What the pod waits for.
const MISSING: &str = "watched-later";

/// Rows of a pod from its creation to its end. It waits for a ConfigMap, so that each of its states lasts.
pub(super) fn pods(node: &Node) -> Result<()> {
    let only = format!("--field-selector=metadata.name={POD}");
    let watch = ["-n", NAMESPACE, "get", "pods", &only, "-w", "-o", "wide"];
    let mut rows = Following::start(&mut node.command_of(NEW, &[&watch[..], &["--output-watch-events"]].concat()))?;
    let mut main = container("main", IDLE);
    main["volumeMounts"] = json!([{"name": "later", "mountPath": "/later"}]);
    let volumes = json!([{"name": "later", "configMap": {"name": MISSING}}]);
    let spec = json!({"containers": [main], "volumes": volumes, "terminationGracePeriodSeconds": 1});
    make(node, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD}, "spec": spec}))?;
    let reached = |rows: &mut Following, status: &str| {
        rows.until(|rows| column(rows, "STATUS").is_ok_and(|seen| seen.iter().any(|seen| seen == status)))
            .with_context(|| format!("no row says {status}"))
    };
    reached(&mut rows, "ContainerCreating")?;
    let events = ["-n", NAMESPACE, "describe", "pod", POD];
    let missing = format!("configmap \"{MISSING}\" not found");
    node.until(&events, |text| text.contains("FailedMount") && text.contains(&missing))?;
    make(node, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": MISSING}, "data": {"a": "b"}}))?;
    reached(&mut rows, "Running")?;
    node.kubectl(&["-n", NAMESPACE, "delete", "pod", POD])?;
    rows.until(|rows| rows.iter().any(|row| row.starts_with("DELETED")))?;
    rows.stop()?;
    judge(&rows.seen)
}

/// Every state in its order, with what is known by then of node and address.
fn judge(rows: &[String]) -> Result<()> {
    let [event, status, ready, place, address] =
        ["EVENT", "STATUS", "READY", "NODE", "IP"].map(|name| column(rows, name).with_context(|| rows.join("\n")));
    let (mut states, ready, place, address) = (status?, ready?, place?, address?);
    let running = states.iter().position(|state| state == "Running").context("it ran")?;
    ensure!((&*ready[0], &*place[0], &*address[0]) == ("0/1", "<none>", "<none>"), "the first row: {rows:#?}");
    let (node, address) = (&*place[running], &*address[running]);
    ensure!((&*ready[running], node) == ("1/1", crate::spine::node::NAME) && address != "<none>", "running: {rows:#?}");
    let events = event?;
    ensure!(events.first().is_some_and(|event| event == "ADDED"), "the first event: {rows:#?}");
    states.dedup();
    let order = ["Pending", "ContainerCreating", "Running", "Terminating", "Completed"];
    ensure!(states == order, "its states are {states:?}");
    Ok(())
}

/// The cells of a column, by the columns' places in the first row.
fn column(rows: &[String], name: &str) -> Result<Vec<String>> {
    super::columns::Table::read(&rows.join("\n"))?.column(name)
}
