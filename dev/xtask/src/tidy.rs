//! Rules of the house that no compiler checks, as a test: which crate may use which, where a kind's name may stand,
//! how long a file may be, what is never written. `cargo test -p xtask` runs them over the workspace; each rule also
//! has a test that it fires on a bad sample.
//!
//! An exception is a row with a reason in `dev/xtask/tidy/allow.tsv`. A row that nothing needs is itself a problem,
//! so the list only shrinks.

mod allow;
mod code;
mod dependencies;
mod edges;
mod faults;
mod files;
mod kinds;
mod statements;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use allow::Allowed;
use code::Code;

/// One file of the workspace, by its path from the root with `/` between the parts.
pub(crate) struct File {
    path: String,
    text: String,
}

/// A rule that does not hold.
#[derive(Debug, PartialEq)]
pub(crate) struct Problem {
    rule: &'static str,
    path: String,
    /// 1-based; 0 where the whole file is meant.
    line: usize,
    /// What an exception names: a word, a crate, a number of lines.
    item: String,
    /// What to do about it.
    hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, path, line, item, hint } = self;
        write!(f, "{path}:{line}: [{rule}] {item}: {hint}")
    }
}

/// Checks the workspace below `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<Problem>> {
    let files = files::read(root)?;
    let allowed = Allowed::parse(&read(root, "dev/xtask/tidy/allow.tsv")?)?;
    let mut problems = files::check(&files);
    problems.extend(statements::check(&rust(&files)));
    problems.extend(kinds::check(&files)?);
    let architecture = read(root, "ARCHITECTURE.md")?;
    problems.extend(edges::check(&architecture, &edges::manifests(&files)?)?);
    problems.extend(faults::check(&read(root, "docs/faults.md")?, &files));
    problems.extend(dependencies::check(&read(root, "Cargo.toml")?, &read(root, "docs/dependencies.md")?));
    Ok(allowed.filter(problems))
}

fn read(root: &Path, path: &str) -> Result<String> {
    fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
}

/// The Rust files, with comments, literals and tests told apart.
fn rust(files: &[File]) -> Vec<(&File, Code)> {
    let rust = files.iter().filter(|file| file.path.ends_with(".rs"));
    rust.map(|file| (file, Code::read(&file.text))).collect()
}

/// `crates/store/src/lib.rs` is part of `store`.
fn crate_of(path: &str) -> &str {
    path.strip_prefix("crates/").and_then(|rest| rest.split('/').next()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let root = crate::root();
        let problems = check(&root).unwrap();
        let list: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "{} problems:\n{}", list.len(), list.join("\n"));
    }

    pub(super) fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    /// Rules and items of problems, to compare with.
    pub(super) fn brief(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(|p| format!("{} {}:{} {}", p.rule, p.path, p.line, p.item)).collect()
    }
}
