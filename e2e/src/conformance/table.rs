//! The two tables, separated by tabs: which tests there are (class, SIG, file, name), and how each ended when it was last
//! recorded (class, SIG, result, seconds, name), in the same order.
//!
//! A result is `passed`, `failed`, `not run`, or `flaky`, which is written by hand for a test that does not always pass:
//! it counts as failing until somebody has found the cause and takes the word out again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// A test of upstream's.
#[derive(Debug, PartialEq)]
pub(super) struct Test {
    /// What it needs: see `e2e/conformance/README.md`.
    pub(super) class: char,
    pub(super) sig: String,
    pub(super) name: String,
}

/// How a test ended when it was last recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Standing {
    Passed,
    Failed,
    Flaky,
    NotRun,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Last {
    pub(super) standing: Standing,
    pub(super) seconds: f64,
}

const NEVER: Last = Last { standing: Standing::NotRun, seconds: 0.0 };

/// By name.
#[derive(Debug)]
pub(super) struct Status(BTreeMap<String, Last>);

const WORDS: [(Standing, &str); 4] = [
    (Standing::Passed, "passed"),
    (Standing::Failed, "failed"),
    (Standing::Flaky, "flaky"),
    (Standing::NotRun, "not run"),
];

pub(super) fn tests(path: &Path) -> Result<Vec<Test>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines().map(test).collect()
}

fn test(line: &str) -> Result<Test> {
    let [class, sig, _file, name] = line.split('\t').collect::<Vec<_>>()[..] else {
        bail!("want class, SIG, file and name, found {line:?}")
    };
    let class = class.chars().next().context("no class")?;
    Ok(Test { class, sig: sig.to_owned(), name: name.to_owned() })
}

impl Status {
    /// A row that names no test is an error; a test without a row has not run.
    pub(super) fn read(path: &Path, tests: &[Test]) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text, tests).with_context(|| path.display().to_string())
    }

    fn parse(text: &str, tests: &[Test]) -> Result<Self> {
        let rows: BTreeMap<String, Last> = text.lines().map(row).collect::<Result<_>>()?;
        for name in rows.keys() {
            ensure!(tests.iter().any(|test| test.name == *name), "no test is called {name:?}");
        }
        Ok(Self(rows))
    }

    pub(super) fn of(&self, name: &str) -> Last {
        self.0.get(name).copied().unwrap_or(NEVER)
    }

    /// A flaky test stays one when it passes once more.
    pub(super) fn record(&mut self, name: &str, passed: bool, seconds: f64) {
        let standing = match (self.of(name).standing, passed) {
            (Standing::Flaky, _) => Standing::Flaky,
            (_, true) => Standing::Passed,
            (_, false) => Standing::Failed,
        };
        self.0.insert(name.to_owned(), Last { standing, seconds });
    }

    pub(super) fn write(&self, path: &Path, tests: &[Test]) -> Result<()> {
        corten_stdx::file::replace(path, self.print(tests).as_bytes()).with_context(|| path.display().to_string())
    }

    fn print(&self, tests: &[Test]) -> String {
        let mut text = String::new();
        for Test { class, sig, name } in tests {
            let Last { standing, seconds } = self.of(name);
            let word = WORDS.iter().find(|(other, _)| *other == standing).map_or("", |(_, word)| word);
            writeln!(text, "{class}\t{sig}\t{word}\t{seconds:.0}\t{name}").expect("a string takes everything");
        }
        text
    }
}

fn row(line: &str) -> Result<(String, Last)> {
    let [_class, _sig, word, seconds, name] = line.split('\t').collect::<Vec<_>>()[..] else {
        bail!("want class, SIG, result, seconds and name, found {line:?}")
    };
    let standing = WORDS.iter().find(|(_, other)| *other == word).with_context(|| format!("no result is {word:?}"))?.0;
    let seconds = seconds.parse().with_context(|| format!("seconds of {name:?}"))?;
    Ok((name.to_owned(), Last { standing, seconds }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Test> {
        ["A\tsig-a\ta.go\tone", "B\tsig-b\tb.go\ttwo", "C\tsig-b\tb.go\tthree"].map(|line| test(line).unwrap()).into()
    }

    #[test]
    fn what_did_not_run_keeps_its_result() {
        let tests = known();
        let mut status = Status::parse("A\tsig-a\tpassed\t3\tone\nB\tsig-b\tflaky\t4\ttwo\n", &tests).unwrap();
        status.record("two", true, 5.0);
        status.record("three", false, 61.4);
        let expected = "A\tsig-a\tpassed\t3\tone\nB\tsig-b\tflaky\t5\ttwo\nC\tsig-b\tfailed\t61\tthree\n";
        assert_eq!(status.print(&tests), expected);
        assert_eq!(Status::parse("", &tests).unwrap().of("one"), NEVER);
    }

    #[test]
    fn a_row_that_means_nothing_is_an_error() {
        let refused = |text: &str| format!("{:#}", Status::parse(text, &known()).unwrap_err());
        assert_eq!(refused("A\tsig-a\tpassed\t3\tother"), "no test is called \"other\"");
        assert_eq!(refused("A\tsig-a\tgood\t3\tone"), "no result is \"good\"");
        assert!(refused("A\tone").starts_with("want class"));
    }

    #[test]
    fn the_committed_tables_fit_each_other() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
        let tests = tests(&folder.join("tests.tsv")).unwrap();
        assert_eq!(tests.len(), 446);
        let status = Status::read(&folder.join("status.tsv"), &tests).unwrap();
        let text = fs::read_to_string(folder.join("status.tsv")).unwrap();
        assert_eq!(status.print(&tests), text, "a row for each test, in their order");
    }
}
