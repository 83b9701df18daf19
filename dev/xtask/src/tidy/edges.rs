//! Which crate may use which. The table stands in `ARCHITECTURE.md`, in the fenced block marked `edges`, so that the
//! page cannot be wrong: `name -> crates it may use`, lower ones first. Dependencies of tests are free.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use super::statements::CORES;
use super::{File, Problem, crate_of};

/// Crates that would bring a runtime, sockets or system calls into a core.
const NOT_IN_CORES: [&str; 8] =
    ["tokio", "tokio-rustls", "hyper", "hyper-util", "rustix", "libc", "rustls", "tracing-subscriber"];

/// One crate's manifest, as far as the rules look.
pub(crate) struct Manifest {
    name: String,
    /// Without those of tests.
    dependencies: Vec<String>,
    inherits_lints: bool,
}

pub(crate) fn manifests(files: &[File]) -> Result<Vec<Manifest>> {
    let of_crates = files.iter().filter(|file| file.path.ends_with("/Cargo.toml") && !crate_of(&file.path).is_empty());
    of_crates.map(manifest).collect()
}

fn manifest(file: &File) -> Result<Manifest> {
    let name = crate_of(&file.path).to_owned();
    let mut manifest = Manifest { name, dependencies: Vec::new(), inherits_lints: false };
    let mut section = "";
    for line in file.text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
            continue;
        }
        let key = line.split(['=', '.', ' ']).next().unwrap_or("");
        if section.ends_with("dependencies") && !section.contains("dev-") {
            manifest.dependencies.push(key.to_owned());
        }
        manifest.inherits_lints |= section == "lints" && line.replace(' ', "") == "workspace=true";
    }
    if section.is_empty() {
        bail!("{} has no section", file.path);
    }
    Ok(manifest)
}

pub(crate) fn check(architecture: &str, manifests: &[Manifest]) -> Result<Vec<Problem>> {
    let table = table(architecture)?;
    let mut problems = Vec::new();
    for manifest in manifests {
        problems.extend(edges(manifest, &table));
        problems.extend(core(manifest));
        if !manifest.inherits_lints && !["sys", "pod", "vmm"].contains(&manifest.name.as_str()) {
            problems.push(problem("lints", manifest, "[lints]", "inherit the workspace's: workspace = true"));
        }
    }
    let known: BTreeSet<&str> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
    for name in table.keys().filter(|name| !known.contains(*name)) {
        problems.push(Problem {
            rule: "edge",
            path: "ARCHITECTURE.md".to_owned(),
            line: 0,
            item: (*name).to_owned(),
            hint: "the table of edges names a crate that is not there".to_owned(),
        });
    }
    Ok(problems)
}

/// Rows of the fenced block. A row may use only crates that stand above it: so there is no cycle.
fn table(architecture: &str) -> Result<BTreeMap<&str, Vec<&str>>> {
    let block = architecture.split("```edges\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.context("ARCHITECTURE.md has no fenced block `edges`")?;
    let mut table = BTreeMap::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let (name, uses) = line.split_once("->").with_context(|| format!("no arrow in {line:?}"))?;
        let uses: Vec<&str> = uses.split_whitespace().collect();
        if let Some(unknown) = uses.iter().find(|used| !table.contains_key(*used)) {
            bail!("{} may use {unknown}, which does not stand above it", name.trim());
        }
        table.insert(name.trim(), uses);
    }
    Ok(table)
}

fn edges(manifest: &Manifest, table: &BTreeMap<&str, Vec<&str>>) -> Vec<Problem> {
    let Some(allowed) = table.get(manifest.name.as_str()) else {
        return vec![problem("edge", manifest, &manifest.name, "no row in ARCHITECTURE.md's table of edges")];
    };
    let ours = manifest.dependencies.iter().filter_map(|name| name.strip_prefix("corten-"));
    let excess = ours.filter(|name| !allowed.contains(name));
    excess
        .map(|name| problem("edge", manifest, name, "not an edge in ARCHITECTURE.md; arrows point down only"))
        .collect()
}

fn core(manifest: &Manifest) -> Vec<Problem> {
    let banned = |name: &&String| CORES.contains(&manifest.name.as_str()) && NOT_IN_CORES.contains(&name.as_str());
    let found = manifest.dependencies.iter().filter(banned);
    found.map(|name| problem("core-dependency", manifest, name, "a core does no IO and has no runtime")).collect()
}

fn problem(rule: &'static str, manifest: &Manifest, item: &str, hint: &str) -> Problem {
    let path = format!("crates/{}/Cargo.toml", manifest.name);
    Problem { rule, path, line: 0, item: item.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{brief, file};
    use super::*;

    const TABLE: &str = "text\n```edges\nstdx ->\napi ->\nstore -> stdx\n```\n";

    fn samples(api: &str, store: &str) -> Vec<Manifest> {
        let text = |dependencies: &str| format!("[dependencies]\n{dependencies}\n[lints]\nworkspace = true\n");
        let files = [
            file("crates/stdx/Cargo.toml", &text("")),
            file("crates/api/Cargo.toml", &text(api)),
            file("crates/store/Cargo.toml", &text(store)),
        ];
        manifests(&files).unwrap()
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_reported() {
        let upward = samples("corten-store.workspace = true", "corten-stdx = { workspace = true }");
        assert_eq!(brief(&check(TABLE, &upward).unwrap()), ["edge crates/api/Cargo.toml:0 store"]);
        let fine = samples("[dev-dependencies]\ncorten-store.workspace = true", "corten-stdx.workspace = true");
        assert!(check(TABLE, &fine).unwrap().is_empty());
    }

    #[test]
    fn a_core_with_a_runtime_is_reported() {
        let problems = check(TABLE, &samples("tokio.workspace = true", "tokio.workspace = true")).unwrap();
        assert_eq!(brief(&problems), ["core-dependency crates/api/Cargo.toml:0 tokio"]);
    }

    #[test]
    fn rows_and_crates_match() {
        let missing = manifests(&[file("crates/new/Cargo.toml", "[lints]\nworkspace = true\n")]).unwrap();
        let problems = check("```edges\nold ->\n```", &missing).unwrap();
        assert_eq!(brief(&problems), ["edge crates/new/Cargo.toml:0 new", "edge ARCHITECTURE.md:0 old"]);
    }

    #[test]
    fn a_row_may_only_use_rows_above() {
        assert!(check("```edges\na -> b\nb ->\n```", &[]).is_err());
        assert!(check("no table", &[]).is_err());
    }

    #[test]
    fn a_crate_without_the_lints_is_reported() {
        let bare = manifests(&[file("crates/stdx/Cargo.toml", "[dependencies]\n")]).unwrap();
        assert_eq!(brief(&check("```edges\nstdx ->\n```", &bare).unwrap()), ["lints crates/stdx/Cargo.toml:0 [lints]"]);
    }
}
