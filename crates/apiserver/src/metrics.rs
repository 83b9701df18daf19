//! Counters, gauges and histograms of the API server, printed in the Prometheus text format.
//!
//! Small on purpose: label sets are limited in number, values are atomics, names are upstream's where upstream has the
//! same metric, so that existing dashboards work.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Label sets of one metric; what comes beyond is counted together under [`OVERFLOW`].
const LABEL_SETS_MAX: usize = 4_000;

/// The label set that takes what exceeds [`LABEL_SETS_MAX`].
const OVERFLOW: &str = r#"overflow="true""#;

/// Upper bounds of request durations, in seconds.
const DURATION_BOUNDS_S: [f64; 14] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// What the API server counts of itself.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Family<AtomicU64>,
    durations: Family<Histogram>,
    webhooks: Webhooks,
    pub reads_in_flight: AtomicI64,
    pub writes_in_flight: AtomicI64,
    pub long_running: AtomicI64,
    pub panics: AtomicU64,
    /// Requests refused because too many were in flight.
    pub rejected: AtomicU64,
    pub watch_events: AtomicU64,
}

/// One request, as it is counted. Texts come from the kinds that are served, never from the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestLabels<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// `cluster`, `namespace`, `resource`, or empty.
    pub scope: &'a str,
}

impl RequestLabels<'_> {
    fn text(&self) -> String {
        let Self { verb, group, version, resource, subresource, scope } = self;
        format!(
            r#"component="apiserver",group="{group}",resource="{resource}",scope="{scope}",subresource="{subresource}",verb="{verb}",version="{version}""#
        )
    }
}

/// A call of an admission webhook, as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct HookLabels<'a> {
    pub name: &'a str,
    /// Upstream's `type`: `admit` or `validating`.
    pub half: &'a str,
    pub operation: &'a str,
}

/// What a call of an admission webhook came to for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Allowed,
    /// It failed, and was passed over.
    Open,
    /// With upstream's `error_type`.
    Rejected(&'static str),
}

#[derive(Debug, Default)]
struct Webhooks {
    durations: Family<Histogram>,
    requests: Family<AtomicU64>,
    rejections: Family<AtomicU64>,
    open: Family<AtomicU64>,
}

impl Webhooks {
    fn print(&self, out: &mut String) {
        let name = "apiserver_admission_webhook_admission_duration_seconds";
        head(out, name, "histogram", "Time of one call of an admission webhook, in seconds.");
        for (labels, histogram) in self.durations.all() {
            histogram.print(out, name, &labels);
        }
        let counters = [
            ("apiserver_admission_webhook_request_total", "Calls of admission webhooks by their end.", &self.requests),
            ("apiserver_admission_webhook_rejection_count", "Requests that webhooks ended.", &self.rejections),
            ("apiserver_admission_webhook_fail_open_count", "Failed calls that were passed over.", &self.open),
        ];
        for (name, help, family) in counters {
            head(out, name, "counter", help);
            for (labels, counter) in family.all() {
                line(out, name, &labels, counter.load(Ordering::Relaxed));
            }
        }
    }
}

impl Metrics {
    /// Counts a call of an admission webhook; `code` is that of its answer, 0 where the fault is this server's.
    pub fn webhook(&self, labels: HookLabels<'_>, code: u16, took: Duration, ending: Ending) {
        let HookLabels { name, half, operation } = labels;
        let rejected = matches!(ending, Ending::Rejected(_));
        let own = format!(r#"name="{name}",operation="{operation}",rejected="{rejected}",type="{half}""#);
        self.webhooks.durations.get(&own).observe(took.as_secs_f64());
        self.webhooks.requests.get(&format!(r#"code="{code}",{own}"#)).fetch_add(1, Ordering::Relaxed);
        let counted = match ending {
            Ending::Allowed => return,
            Ending::Open => self.webhooks.open.get(&format!(r#"name="{name}",type="{half}""#)),
            Ending::Rejected(error) => self.webhooks.rejections.get(&format!(
                r#"error_type="{error}",name="{name}",operation="{operation}",rejection_code="{code}",type="{half}""#
            )),
        };
        counted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answered request; watches have no duration.
    pub fn request(&self, labels: RequestLabels<'_>, code: u16, took: Option<Duration>) {
        let text = labels.text();
        self.requests.get(&format!(r#"code="{code}",{text}"#)).fetch_add(1, Ordering::Relaxed);
        if let Some(took) = took {
            self.durations.get(&text).observe(took.as_secs_f64());
        }
    }

    /// Everything in the text exposition format.
    pub fn print(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        let name = "apiserver_request_total";
        head(&mut out, name, "counter", "Requests by verb, resource and response code.");
        for (labels, counter) in self.requests.all() {
            line(&mut out, name, &labels, counter.load(Ordering::Relaxed));
        }
        let name = "apiserver_request_duration_seconds";
        head(&mut out, name, "histogram", "Time from the request's header to the answer's, in seconds.");
        for (labels, histogram) in self.durations.all() {
            histogram.print(&mut out, name, &labels);
        }
        self.webhooks.print(&mut out);
        let name = "apiserver_current_inflight_requests";
        head(&mut out, name, "gauge", "Requests being answered, long-running ones excepted.");
        line(&mut out, name, r#"request_kind="readOnly""#, self.reads_in_flight.load(Ordering::Relaxed));
        line(&mut out, name, r#"request_kind="mutating""#, self.writes_in_flight.load(Ordering::Relaxed));
        let plain = [
            (
                "apiserver_longrunning_requests",
                "gauge",
                "Watches and streams open.",
                self.long_running.load(Ordering::Relaxed),
            ),
            ("apiserver_request_panics_total", "counter", "Requests that ended in a panic.", signed(&self.panics)),
            ("apiserver_rejected_requests_total", "counter", "Requests refused with 429.", signed(&self.rejected)),
            ("apiserver_watch_events_total", "counter", "Events sent to watchers.", signed(&self.watch_events)),
        ];
        for (name, kind, help, value) in plain {
            head(&mut out, name, kind, help);
            line(&mut out, name, "", value);
        }
        out
    }
}

fn signed(counter: &AtomicU64) -> i64 {
    i64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n").expect("writing to a string cannot fail");
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let written = match labels {
        "" => writeln!(out, "{name} {value}"),
        labels => writeln!(out, "{name}{{{labels}}} {value}"),
    };
    written.expect("writing to a string cannot fail");
}

/// One metric's values by label set.
#[derive(Debug, Default)]
struct Family<T>(Mutex<BTreeMap<String, Arc<T>>>);

impl<T: Default> Family<T> {
    fn get(&self, labels: &str) -> Arc<T> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = values.get(labels) {
            return value.clone();
        }
        let key = if values.len() < LABEL_SETS_MAX { labels } else { OVERFLOW };
        values.entry(key.to_owned()).or_default().clone()
    }

    fn all(&self) -> Vec<(String, Arc<T>)> {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.iter().map(|(labels, value)| (labels.clone(), value.clone())).collect()
    }
}

#[derive(Debug, Default)]
struct Histogram {
    /// By bound, not cumulated; the last one takes what is above all bounds.
    buckets: [AtomicU64; DURATION_BOUNDS_S.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    fn observe(&self, seconds: f64) {
        let bucket = DURATION_BOUNDS_S.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(Duration::from_secs_f64(seconds).as_micros().try_into().unwrap_or(0), Ordering::Relaxed);
    }

    fn print(&self, out: &mut String, name: &str, labels: &str) {
        let mut count = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = DURATION_BOUNDS_S.get(index).map_or("+Inf".to_owned(), f64::to_string);
            line(out, &format!("{name}_bucket"), &format!(r#"{labels},le="{bound}""#), count);
        }
        let sum = Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        line(out, &format!("{name}_sum"), labels, sum);
        line(out, &format!("{name}_count"), labels, count);
    }
}

/// Counts one long-running request for as long as it lives.
pub(crate) struct LongRunning(Arc<Metrics>);

impl LongRunning {
    pub(crate) fn hold(metrics: &Arc<Metrics>) -> Self {
        metrics.long_running.fetch_add(1, Ordering::Relaxed);
        Self(metrics.clone())
    }
}

impl Drop for LongRunning {
    fn drop(&mut self) {
        self.0.long_running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts something up for as long as it lives.
pub struct Gauge<'a>(&'a AtomicI64);

impl<'a> Gauge<'a> {
    pub fn hold(value: &'a AtomicI64) -> Self {
        value.fetch_add(1, Ordering::Relaxed);
        Self(value)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_was_counted() {
        let metrics = Metrics::default();
        let labels =
            RequestLabels { verb: "GET", version: "v1", resource: "things", scope: "resource", ..Default::default() };
        metrics.request(labels, 200, Some(Duration::from_millis(30)));
        metrics.request(labels, 200, Some(Duration::from_secs(90)));
        metrics.request(labels, 404, None);
        let metrics = Arc::new(metrics);
        let held = LongRunning::hold(&metrics);
        let text = metrics.print();
        for expect in [
            r#"apiserver_request_total{code="200",component="apiserver",group="",resource="things",scope="resource",subresource="",verb="GET",version="v1"} 2"#,
            r#"verb="GET",version="v1",le="0.025"} 0"#,
            r#"verb="GET",version="v1",le="0.05"} 1"#,
            r#"verb="GET",version="v1",le="+Inf"} 2"#,
            "apiserver_longrunning_requests 1\n",
        ] {
            assert!(text.contains(expect), "{expect}\n{text}");
        }
        drop(held);
        assert!(metrics.print().contains("apiserver_longrunning_requests 0\n"));
    }

    #[test]
    fn label_sets_are_limited() {
        let family = Family::<AtomicU64>::default();
        for index in 0..LABEL_SETS_MAX + 10 {
            family.get(&format!("n=\"{index}\"")).fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(family.all().len(), LABEL_SETS_MAX + 1);
        assert_eq!(family.get(OVERFLOW).load(Ordering::Relaxed), 10);
    }
}
