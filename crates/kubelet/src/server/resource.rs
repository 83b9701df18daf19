//! `/metrics/resource`: what the node, its pods and their containers use, in the form that upstream's metrics server reads; and
//! besides, the requests that the node's edge has given to addresses.

use std::fmt::Write as _;
use std::net::IpAddr;

use corten_runtime::engine::Usage;

use super::Server;
use super::answer::{Answer, text};

/// Figures of one pod or container.
struct Row {
    /// As they stand in braces.
    labels: String,
    usage: Usage,
    at_ms: i64,
    /// When the container started.
    started_s: Option<f64>,
}

/// A family of figures: its name, type and help, and the figure of a row.
type Family = (&'static str, &'static str, &'static str, fn(&Row) -> Option<f64>);

const CONTAINERS: [Family; 3] = [
    ("container_cpu_usage_seconds_total", "counter", "Processor time of a container.", |row| Some(seconds(row.usage))),
    ("container_memory_working_set_bytes", "gauge", "Memory of a container.", |row| Some(memory(row.usage))),
    ("container_start_time_seconds", "gauge", "When a container started.", |row| row.started_s),
];
const NODE: [Family; 2] = [
    ("node_cpu_usage_seconds_total", "counter", "Processor time of the node.", |row| Some(seconds(row.usage))),
    ("node_memory_working_set_bytes", "gauge", "Memory of the node.", |row| Some(memory(row.usage))),
];
const PODS: [Family; 2] = [
    ("pod_cpu_usage_seconds_total", "counter", "Processor time of a pod.", |row| Some(seconds(row.usage))),
    ("pod_memory_working_set_bytes", "gauge", "Memory of a pod.", |row| Some(memory(row.usage))),
];

#[expect(clippy::cast_precision_loss, reason = "a figure for graphs: 104 days of nanoseconds are exact")]
fn seconds(usage: Usage) -> f64 {
    usage.cpu_ns as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "8 PiB are exact")]
fn memory(usage: Usage) -> f64 {
    usage.working_set_bytes as f64
}

pub(super) async fn metrics(server: &Server) -> Answer {
    let (mut pods, mut containers, mut failed) = (Vec::new(), Vec::new(), false);
    let started = server.started().await;
    for pod in server.host.pods() {
        let place = format!("namespace=\"{}\",pod=\"{}\"", pod.namespace, pod.name);
        // A pod that has just ended has no groups any more.
        let Some(usage) = server.usage(&pod, "").await else { continue };
        pods.push(Row { labels: place.clone(), usage, at_ms: server.clock.now_ms(), started_s: None });
        for container in pod.containers.iter().filter(|container| container.running.is_some()) {
            let Some(usage) = server.usage(&pod, &container.name).await else { continue };
            #[expect(clippy::cast_precision_loss, reason = "a time to the microsecond")]
            let started_s = started.get(&(pod.uid.clone(), container.name.clone())).map(|ns| *ns as f64 / 1e9);
            let labels = format!("container=\"{}\",{place}", container.name);
            containers.push(Row { labels, usage, at_ms: server.clock.now_ms(), started_s });
        }
    }
    let mut node = Vec::new();
    match server.machine() {
        Some(machine) => {
            let usage =
                Usage { cpu_ns: machine.cpu_ns, working_set_bytes: machine.working_set_bytes, ..Usage::default() };
            node.push(Row { labels: String::new(), usage, at_ms: server.clock.now_ms(), started_s: None });
        }
        None => failed = true,
    }
    let mut out = print(&node, &pods, &containers, failed);
    print_requests(&mut out, &server.edge.requests().await, server.clock.now_ms());
    text(out)
}

fn print_requests(out: &mut String, requests: &[(IpAddr, u64)], at_ms: i64) {
    let name = "corten_edge_endpoint_requests_total";
    head(out, name, "counter", "Requests that the edge of this node has given to an address.");
    for (address, count) in requests {
        writeln!(out, "{name}{{address=\"{address}\"}} {count} {at_ms}").expect("a string takes all");
    }
}

fn print(node: &[Row], pods: &[Row], containers: &[Row], failed: bool) -> String {
    let mut out = String::new();
    let mut write = |families: &[Family], rows: &[Row]| {
        for (name, kind, help, figure) in families {
            head(&mut out, name, kind, help);
            for row in rows {
                let Some(value) = figure(row) else { continue };
                let labels = if row.labels.is_empty() { String::new() } else { format!("{{{}}}", row.labels) };
                writeln!(out, "{name}{labels} {value} {}", row.at_ms).expect("a string takes all");
            }
        }
    };
    write(&CONTAINERS, containers);
    write(&NODE, node);
    write(&PODS, pods);
    let name = "resource_scrape_error";
    head(&mut out, name, "gauge", "1 where something could not be read, else 0.");
    writeln!(out, "{name} {}", u8::from(failed)).expect("a string takes all");
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_their_rows() {
        let usage = Usage { cpu_ns: 1_500_000_000, working_set_bytes: 4096, ..Usage::default() };
        let row = |labels: &str, started_s| Row { labels: labels.to_owned(), usage, at_ms: 12_345, started_s };
        let containers = [row(r#"container="c",namespace="n",pod="p""#, Some(7.25))];
        let out = print(&[row("", None)], &[row(r#"namespace="n",pod="p""#, None)], &containers, false);
        let figures: Vec<&str> = out.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            figures,
            [
                r#"container_cpu_usage_seconds_total{container="c",namespace="n",pod="p"} 1.5 12345"#,
                r#"container_memory_working_set_bytes{container="c",namespace="n",pod="p"} 4096 12345"#,
                r#"container_start_time_seconds{container="c",namespace="n",pod="p"} 7.25 12345"#,
                "node_cpu_usage_seconds_total 1.5 12345",
                "node_memory_working_set_bytes 4096 12345",
                r#"pod_cpu_usage_seconds_total{namespace="n",pod="p"} 1.5 12345"#,
                r#"pod_memory_working_set_bytes{namespace="n",pod="p"} 4096 12345"#,
                "resource_scrape_error 0",
            ]
        );
    }
}
