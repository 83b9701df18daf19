//! What a node says at `/metrics/resource`, in Prometheus' text format: `name{label="value",…} figure milliseconds`. Rows of
//! other names, and rows that cannot be read, are passed over: newer nodes say more.

use std::collections::BTreeMap;

use corten_apimachinery::value::Str;

/// The counters of one node at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// When it was asked for, in Unix milliseconds.
    pub(super) taken_ms: i64,
    pub(super) node: Reading,
    /// By namespace and name.
    pub(super) pods: BTreeMap<(Str, Str), BTreeMap<Str, Reading>>,
    /// Requests that the node's edge has given to addresses.
    pub(super) requests: BTreeMap<Str, u64>,
}

/// The counters of one container, or of a whole node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// When the processor time was read, in Unix milliseconds; 0: not at all.
    pub(super) at_ms: i64,
    pub(super) cpu_s: f64,
    pub(super) memory_bytes: u64,
    /// Unix milliseconds; 0 where the node does not say.
    pub(super) started_ms: i64,
}

impl Sample {
    /// `now_ms` is the time at which it was asked for, and of rows that carry none.
    pub(super) fn parse(text: &str, now_ms: i64) -> Self {
        let mut sample = Self { taken_ms: now_ms, ..Self::default() };
        for row in text.lines().filter(|line| !line.starts_with('#')).filter_map(Row::parse) {
            sample.take(&row, now_ms);
        }
        sample
    }

    fn take(&mut self, row: &Row<'_>, now_ms: i64) {
        let reading = match row.name.split_once('_') {
            Some(("node", _)) => &mut self.node,
            Some(("container", _)) => {
                let (Some(namespace), Some(pod), Some(container)) =
                    (row.label("namespace"), row.label("pod"), row.label("container"))
                else {
                    return;
                };
                self.pods.entry((namespace.into(), pod.into())).or_default().entry(container.into()).or_default()
            }
            Some(("corten", "edge_endpoint_requests_total")) => {
                self.requests.extend(row.label("address").map(|address| (address.into(), whole(row.value))));
                return;
            }
            _ => return,
        };
        match row.name.split_once('_').map(|(_, figure)| figure) {
            Some("cpu_usage_seconds_total") => {
                reading.cpu_s = row.value;
                reading.at_ms = row.at_ms.unwrap_or(now_ms);
            }
            Some("memory_working_set_bytes") => reading.memory_bytes = whole(row.value),
            Some("start_time_seconds") => reading.started_ms = whole(row.value * 1000.0).cast_signed(),
            _ => {}
        }
    }
}

/// A figure that counts something.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of floats saturates")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

struct Row<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    value: f64,
    at_ms: Option<i64>,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, labels, rest) = match line.split_once('{') {
            Some((name, rest)) => {
                // No value of ours contains a quote or a brace: they are names of objects.
                let (labels, rest) = rest.split_once('}')?;
                (name, labels, rest)
            }
            None => {
                let (name, rest) = line.split_once(' ')?;
                (name, "", rest)
            }
        };
        let labels = labels.split(',').filter_map(|label| {
            let (name, value) = label.split_once('=')?;
            Some((name.trim(), value.strip_prefix('"')?.strip_suffix('"')?))
        });
        let mut figures = rest.split_whitespace();
        let value = figures.next()?.parse().ok().filter(|value: &f64| value.is_finite())?;
        let at_ms = figures.next().map(str::parse).transpose().ok()?;
        Some(Self { name, labels: labels.collect(), value, at_ms })
    }

    fn label(&self, name: &str) -> Option<&'a str> {
        self.labels.iter().find(|(own, _)| *own == name).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_others_passed_over() {
        let text = "\
# HELP container_cpu_usage_seconds_total …
container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1.5 12345
container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 4.096e+03 12346
container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 7.25
container_swap_usage_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 9 9
container_cpu_usage_seconds_total{container=\"c\"} 1 1
node_cpu_usage_seconds_total 20
node_memory_working_set_bytes 8192 12345
pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 9 9
corten_edge_endpoint_requests_total{address=\"10.244.0.2\"} 12 12345
corten_edge_endpoint_requests_total 13
node_cpu_usage_seconds_total NaN
node_cpu_usage_seconds_total{
scrape_error 0
";
        let sample = Sample::parse(text, 99);
        assert_eq!(sample.node, Reading { at_ms: 99, cpu_s: 20.0, memory_bytes: 8192, started_ms: 0 });
        assert_eq!(sample.requests, BTreeMap::from([("10.244.0.2".into(), 12)]));
        let pods: Vec<_> = sample.pods.into_iter().collect();
        let container = Reading { at_ms: 12_345, cpu_s: 1.5, memory_bytes: 4096, started_ms: 7250 };
        assert_eq!(pods, [(("n".into(), "p".into()), BTreeMap::from([("c".into(), container)]))]);
    }
}
