//! Rules of whole files: which are read, how long they may be, how they are named, how they open.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::code::numbered;
use super::{File, Problem};

/// Lines of a source file above which it needs an exception.
const LINES_MAX: usize = 1000;

/// Names that say nothing of what is inside.
const BANNED_NAMES: [&str; 6] = ["util", "utils", "helper", "helpers", "common", "manager"];

/// Folders that are not ours or not text.
const SKIPPED: [&str; 4] = [".git", "target", "node_modules", "testdata"];

/// Ends of the names of files that are read.
const TEXT: [&str; 12] = [".rs", ".go", ".py", ".sh", ".toml", ".md", ".tsv", ".txt", ".yaml", ".json", ".mod", "/run"];

/// Every text file below `root`, by path.
pub(crate) fn read(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    walk(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(root: &Path, below: &str, files: &mut Vec<File>) -> Result<()> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            walk(root, &path, files)?;
        } else if kind.is_file() && TEXT.iter().any(|end| path.ends_with(end)) {
            let text = fs::read_to_string(entry.path()).with_context(|| format!("{path} is no UTF-8 text"))?;
            files.push(File { path, text });
        }
    }
    Ok(())
}

pub(crate) fn check(files: &[File]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in files {
        problems.extend(length(file));
        problems.extend(name(file));
        problems.extend(module_docs(file));
        problems.extend(machine_paths(file));
    }
    problems
}

fn length(file: &File) -> Option<Problem> {
    let lines = file.text.lines().count();
    let source = [".rs", ".go", ".py", ".sh"].iter().any(|end| file.path.ends_with(end));
    (source && lines > LINES_MAX).then(|| Problem {
        rule: "long-file",
        path: file.path.clone(),
        line: 0,
        item: lines.to_string(),
        hint: format!("more than {LINES_MAX} lines; one concept a file"),
    })
}

fn name(file: &File) -> Option<Problem> {
    let stem = |part: &str| part.split('.').next().unwrap_or("").to_owned();
    let banned = file.path.split('/').map(stem).find(|part| BANNED_NAMES.contains(&part.as_str()));
    let nested = file.path.ends_with("/mod.rs").then(|| "mod.rs".to_owned());
    let word = banned.or(nested).filter(|_| file.path.ends_with(".rs"))?;
    Some(Problem {
        rule: "name",
        path: file.path.clone(),
        line: 0,
        item: word,
        hint: "name a module by its concept; foo.rs beside foo/".to_owned(),
    })
}

fn module_docs(file: &File) -> Option<Problem> {
    let product = file.path.ends_with(".rs") && file.path.contains("/src/") && !file.path.ends_with("/tests.rs");
    (product && !file.text.starts_with("//!")).then(|| Problem {
        rule: "module-docs",
        path: file.path.clone(),
        line: 1,
        item: "//!".to_owned(),
        hint: "a file opens with what it is and why".to_owned(),
    })
}

/// Absolute paths of somebody's machine. The words are put together here so that this file does not hold them.
fn machine_paths(file: &File) -> Vec<Problem> {
    let places = ["root", "work", "home", "Users"].map(|name| format!("/{name}/"));
    let mut problems = Vec::new();
    for (line, text) in numbered(&file.text) {
        let starts = |place: &String| {
            let before = text.find(place.as_str()).map(|at| text[..at].chars().next_back());
            before.is_some_and(|before| before.is_none_or(|c| !c.is_alphanumeric() && !"._-}~$/".contains(c)))
        };
        if let Some(place) = places.iter().find(|place| starts(place)) {
            problems.push(Problem {
                rule: "machine-path",
                path: file.path.clone(),
                line,
                item: place.clone(),
                hint: "the repository holds no path of one machine".to_owned(),
            });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::tests::{brief, file};
    use super::*;

    #[track_caller]
    fn one(path: &str, text: &str, expected: &[&str]) {
        assert_eq!(brief(&check(&[file(path, text)])), expected);
    }

    #[test]
    fn a_long_file_is_reported() {
        one("dev/a.py", &"x\n".repeat(1000), &[]);
        one("dev/a.py", &"x\n".repeat(1001), &["long-file dev/a.py:0 1001"]);
        one("docs/a.md", &"x\n".repeat(1001), &[]);
    }

    #[test]
    fn names_that_say_nothing_are_reported() {
        one("crates/a/src/util.rs", "//! x", &["name crates/a/src/util.rs:0 util"]);
        one("crates/a/src/helpers/b.rs", "//! x", &["name crates/a/src/helpers/b.rs:0 helpers"]);
        one("crates/a/src/b/mod.rs", "//! x", &["name crates/a/src/b/mod.rs:0 mod.rs"]);
        one("crates/a/src/utility.rs", "//! x", &[]);
    }

    #[test]
    fn a_file_without_module_docs_is_reported() {
        one("crates/a/src/b.rs", "use x;", &["module-docs crates/a/src/b.rs:1 //!"]);
        one("crates/a/tests/it/main.rs", "use x;", &[]);
    }

    #[test]
    fn paths_of_one_machine_are_reported() {
        let path = ["", "root", ".cache"].join("/");
        one("a.sh", &format!("x\ncd {path}\n"), &[&format!("machine-path a.sh:2 {}", &path[..6])]);
        one("a.sh", &format!("cd $HOME{path} tests{path} $D{path}\n"), &[]);
    }
}
