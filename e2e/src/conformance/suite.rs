//! Upstream's suite: its test program, run in parallel by ginkgo, and what its report says of each test.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// How much of a failure's message is shown.
const MESSAGE_MAX: usize = 600;

pub(super) struct Suite<'a> {
    /// The folder with `e2e.test`, `ginkgo` and `kubectl`.
    pub(super) programs: &'a Path,
    pub(super) kubeconfig: &'a Path,
    pub(super) procs: u8,
    /// After this all that still run are interrupted: some tests of upstream's wait without end for what a server does not do.
    pub(super) limit_minutes: u16,
}

/// How one test ended.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) passed: bool,
    pub(super) seconds: f64,
    /// Of the failure.
    pub(super) message: String,
}

impl Suite<'_> {
    /// Runs the tests of these names, and says how those ended that ran.
    pub(super) fn run(&self, names: &[&str]) -> Result<Vec<Outcome>> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("ginkgo.log");
        let out = File::create(&log)?;
        let mut ginkgo = self.command(names, folder.path());
        ginkgo.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        let status = ginkgo.status().with_context(|| format!("cannot start {:?}", ginkgo.get_program()))?;
        let report = fs::read(folder.path().join("report.json"));
        let report = report.with_context(|| format!("ginkgo: {status}, no report; it said:\n{}", last(&log)))?;
        let outcomes = outcomes(&report, names)?;
        ensure!(!outcomes.is_empty(), "ginkgo: {status}, and no test ran:\n{}", last(&log));
        Ok(outcomes)
    }

    fn command(&self, names: &[&str], folder: &Path) -> Command {
        let mut ginkgo = Command::new(self.programs.join("ginkgo"));
        ginkgo.current_dir(folder).args(["--no-color", "--silence-skips", "--json-report", "report.json"]);
        ginkgo.args([
            "--procs",
            &self.procs.to_string(),
            "--timeout",
            &format!("{}m", self.limit_minutes),
            "--output-dir",
        ]);
        ginkgo.arg(folder);
        ginkgo.args(names.iter().map(|name| format!("--focus={}$", regex_lite::escape(name))));
        ginkgo.arg(self.programs.join("e2e.test")).args(["--", "--provider=skeleton", "--disable-log-dump"]);
        ginkgo.args(["--dump-logs-on-failure=false", "--allowed-not-ready-nodes=-1", "--num-nodes=1"]);
        ginkgo.arg(format!("--kubeconfig={}", self.kubeconfig.display()));
        ginkgo.arg(format!("--kubectl-path={}", self.programs.join("kubectl").display()));
        ginkgo
    }
}

/// The end of a log, for a message.
fn last(log: &Path) -> String {
    match fs::read_to_string(log) {
        Ok(text) => text[text.floor_char_boundary(text.len().saturating_sub(4096))..].to_owned(),
        Err(error) => format!("{}: {error}", log.display()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    spec_reports: Option<Vec<Spec>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_text: String,
    state: String,
    #[serde(default)]
    run_time: u64,
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    message: String,
}

impl Spec {
    fn name(&self) -> String {
        let above = self.container_hierarchy_texts.iter().flatten();
        above.chain([&self.leaf_node_text]).map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// What a report says of these tests, in its order; what has not run is not in it.
fn outcomes(report: &[u8], names: &[&str]) -> Result<Vec<Outcome>> {
    let reports: Vec<Report> = serde_json::from_slice(report).context("ginkgo's report")?;
    let specs = reports.into_iter().flat_map(|report| report.spec_reports.unwrap_or_default());
    let ran = specs.filter(|spec| spec.state != "skipped" && spec.state != "pending");
    let named = ran.map(|spec| (spec.name(), spec)).filter(|(name, _)| names.contains(&name.as_str()));
    Ok(named.map(|(name, spec)| outcome(name, spec)).collect())
}

fn outcome(name: String, spec: Spec) -> Outcome {
    let message = spec.failure.map(|failure| failure.message).unwrap_or_default();
    Outcome { name, passed: spec.state == "passed", seconds: millis(spec.run_time) as f64 / 1e3, message }
}

fn millis(nanos: u64) -> u32 {
    u32::try_from(nanos / 1_000_000).unwrap_or(u32::MAX)
}

impl fmt::Display for Outcome {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed { "passed" } else { "FAILED" };
        write!(to, "{word}  {:6.1} s  {}", self.seconds, self.name)?;
        if self.passed {
            return Ok(());
        }
        let shown = &self.message[..self.message.floor_char_boundary(MESSAGE_MAX)];
        shown.lines().try_for_each(|line| write!(to, "\n        {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"[{"SuitePath": "x", "SpecReports": [
        {"ContainerHierarchyTexts": null, "LeafNodeText": "", "LeafNodeType": "SynchronizedBeforeSuite", "State": "passed", "RunTime": 1},
        {"ContainerHierarchyTexts": ["[sig-a]", "Things"], "LeafNodeText": "are [Conformance]", "State": "passed", "RunTime": 1250000000},
        {"ContainerHierarchyTexts": ["[sig-a]", "Things"], "LeafNodeText": "go", "State": "timedout", "RunTime": 2000000000,
         "Failure": {"Message": "too\nlate"}},
        {"ContainerHierarchyTexts": ["[sig-a]", "Things"], "LeafNodeText": "stay", "State": "skipped", "RunTime": 0}]}]"#;

    #[test]
    fn a_report_says_how_each_test_ended() {
        let names = ["[sig-a] Things are [Conformance]", "[sig-a] Things go", "[sig-a] Things stay"];
        let shown: Vec<String> = outcomes(REPORT.as_bytes(), &names).unwrap().iter().map(Outcome::to_string).collect();
        let expected = [
            "passed     1.2 s  [sig-a] Things are [Conformance]",
            "FAILED     2.0 s  [sig-a] Things go\n        too\n        late",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_test_that_nobody_asked_for_is_not_told() {
        assert_eq!(outcomes(REPORT.as_bytes(), &["Things go"]).unwrap(), []);
    }
}
