//! What a core counts. One core alone writes its counters, so counting is a plain addition; whoever wants to know adds up.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one core.
#[derive(Debug, Default)]
pub struct Stats {
    pub connections: Counter,
    pub connections_open: Counter,
    pub connections_refused: Counter,
    pub requests: Counter,
    /// By the first digit of the status, from 1.
    pub answers: [Counter; 5],
    pub malformed: Counter,
    pub upstream_connects: Counter,
    pub upstream_reused: Counter,
    pub upstream_failures: Counter,
    pub retries: Counter,
    pub tunnels: Counter,
    pub tls_handshakes: Counter,
    pub tls_failures: Counter,
    pub log_lines_dropped: Counter,
    pub client_bytes_in: Counter,
    pub client_bytes_out: Counter,
    /// Sum of the times of all requests.
    pub request_us: Counter,
}

/// A number that one thread changes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    pub fn subtract(&self, count: u64) {
        self.0.store(self.get().wrapping_sub(count), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Stats {
    fn rows(&self) -> [(&'static str, &'static str, &Counter); 21] {
        let answers = &self.answers;
        [
            ("corten_edge_connections_total", "", &self.connections),
            ("corten_edge_connections_open", "", &self.connections_open),
            ("corten_edge_connections_refused_total", "", &self.connections_refused),
            ("corten_edge_requests_total", "", &self.requests),
            ("corten_edge_answers_total", "{class=\"1xx\"}", &answers[0]),
            ("corten_edge_answers_total", "{class=\"2xx\"}", &answers[1]),
            ("corten_edge_answers_total", "{class=\"3xx\"}", &answers[2]),
            ("corten_edge_answers_total", "{class=\"4xx\"}", &answers[3]),
            ("corten_edge_answers_total", "{class=\"5xx\"}", &answers[4]),
            ("corten_edge_malformed_total", "", &self.malformed),
            ("corten_edge_upstream_connects_total", "", &self.upstream_connects),
            ("corten_edge_upstream_reused_total", "", &self.upstream_reused),
            ("corten_edge_upstream_failures_total", "", &self.upstream_failures),
            ("corten_edge_retries_total", "", &self.retries),
            ("corten_edge_tunnels_total", "", &self.tunnels),
            ("corten_edge_tls_handshakes_total", "", &self.tls_handshakes),
            ("corten_edge_tls_failures_total", "", &self.tls_failures),
            ("corten_edge_log_lines_dropped_total", "", &self.log_lines_dropped),
            ("corten_edge_client_bytes_total", "{direction=\"in\"}", &self.client_bytes_in),
            ("corten_edge_client_bytes_total", "{direction=\"out\"}", &self.client_bytes_out),
            ("corten_edge_request_microseconds_total", "", &self.request_us),
        ]
    }
}

/// The sums over all cores in the text format of Prometheus.
pub fn text<'a>(cores: impl Iterator<Item = &'a Stats> + Clone) -> String {
    let mut out = String::new();
    let mut last = "";
    for (at, (name, labels, _)) in Stats::default().rows().iter().enumerate() {
        let sum = cores.clone().map(|core| core.rows()[at].2.get()).fold(0, u64::wrapping_add);
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        if *name != last {
            writeln!(out, "# TYPE {name} {kind}").expect("a string takes everything");
        }
        writeln!(out, "{name}{labels} {sum}").expect("a string takes everything");
        last = name;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_added_up() {
        let cores = [Stats::default(), Stats::default()];
        cores[0].requests.add(2);
        cores[1].requests.add(3);
        cores[1].answers[1].add(4);
        let text = text(cores.iter());
        assert!(text.contains("# TYPE corten_edge_requests_total counter\ncorten_edge_requests_total 5\n"), "{text}");
        assert!(text.contains("corten_edge_answers_total{class=\"2xx\"} 4\n"), "{text}");
        assert_eq!(text.matches("# TYPE corten_edge_answers_total").count(), 1);
    }
}
