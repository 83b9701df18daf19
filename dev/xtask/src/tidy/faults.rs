//! `docs/faults.md` names a test for each fault, and each test that it names is there: a function of that name, marked as a
//! test, in a file of the crate and the modules that the name gives. Steps of the end-to-end tests are plain functions.

use super::{File, Problem};

const PAGE: &str = "docs/faults.md";

/// Faults that no table without them is whole.
const FAULTS: [&str; 26] = [
    "malformed YAML",
    "malformed JSON",
    "malformed protobuf",
    "unknown fields",
    "duplicate fields",
    "wrong types",
    "over-long names",
    "bodies over 3 MiB",
    "unknown image",
    "other architecture",
    "corrupt layer",
    "hostile layer paths",
    "disk full while pulling",
    "disk full while writing the store",
    "port in use",
    "not root",
    "no cgroup controller",
    "data directory of a newer version",
    "two `up` on one data directory",
    "overlapping CIDRs",
    "clock set back",
    "SIGKILL at any moment",
    "a container that forks without end",
    "a container that fills its log",
    "a container that ignores SIGTERM",
    "damaged store",
];

pub(crate) fn check(page: &str, files: &[File]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut problem = |line, item: &str, hint: &str| {
        let (path, item, hint) = (PAGE.to_owned(), item.to_owned(), hint.to_owned());
        problems.push(Problem { rule: "fault", path, line, item, hint });
    };
    let mut seen = Vec::new();
    for (line, fault, tests) in rows(page) {
        seen.push(fault);
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            problem(line, fault, "name the test that fails without the guard");
        }
        for name in names.into_iter().filter(|name| !is_there(name, files)) {
            problem(line, name, "there is no such test: write it as `crate::module::function`");
        }
    }
    for fault in FAULTS.into_iter().filter(|fault| !seen.contains(fault)) {
        problem(0, fault, "this fault has no row");
    }
    problems
}

/// `| fault | what the user sees | tests |`, with the number of its line.
fn rows(page: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    page.lines().enumerate().filter_map(|(index, line)| {
        let mut cells = line.strip_prefix('|')?.trim_end().strip_suffix('|')?.split(" | ").map(str::trim);
        let (fault, tests) = (cells.next()?, cells.nth(1)?);
        (fault != "fault").then_some((index + 1, fault, tests))
    })
}

fn is_there(name: &str, files: &[File]) -> bool {
    let parts: Vec<&str> = name.split("::").collect();
    let [krate, modules @ .., function] = parts.as_slice() else { return false };
    let folder = if *krate == "e2e" { "e2e/src/".to_owned() } else { format!("crates/{krate}/") };
    let ends = [format!("/{}.rs", modules.join("/")), format!("/{}/tests.rs", modules.join("/"))];
    let of_module = |file: &&File| file.path.starts_with(&folder) && ends.iter().any(|end| file.path.ends_with(end));
    files.iter().filter(of_module).any(|file| has(&file.text, function, *krate != "e2e"))
}

/// Whether a text has a function of this name, below an attribute `test` where it has to be one.
fn has(text: &str, function: &str, is_test: bool) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let named = |line: &str| line.split_once("fn ").is_some_and(|(_, rest)| rest.starts_with(&format!("{function}(")));
    lines.iter().enumerate().filter(|(_, line)| named(line)).any(|(at, _)| {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        !is_test || above.into_iter().any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{brief, file};
    use super::*;

    #[test]
    fn every_row_names_tests_that_are_there() {
        let files = [
            file("crates/a/tests/it/b.rs", "#[test]\nfn yes() {}\n\nfn no() {}\n"),
            file("crates/a/src/c/tests.rs", "#[tokio::test(flavor = \"multi_thread\")]\nasync fn also() {}\n"),
            file("e2e/src/spine/d.rs", "pub(super) fn step(node: &Node) {}\n"),
        ];
        let page = "| fault | what | tests |\n|---|---|---|\n| one | x | `a::b::yes`, `a::c::also`, `e2e::spine::d::step` |\n\
                    | two | x | `a::b::no`, `a::e::yes`, `yes` |\n| three | x | none |\n";
        let found: Vec<String> = brief(&check(page, &files)).into_iter().filter(|row| !row.contains(":0 ")).collect();
        let expected = ["a::b::no", "a::e::yes", "yes"].map(|name| format!("fault {PAGE}:4 {name}"));
        assert_eq!(found[..3], expected);
        assert_eq!(found[3..], [format!("fault {PAGE}:5 three")]);
    }

    #[test]
    fn no_fault_is_left_out() {
        assert_eq!(check("", &[]).len(), FAULTS.len());
    }
}
