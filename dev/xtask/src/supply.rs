//! Licences, bans and sources of all crates that are built, by the lists of `deny.toml`, from what cargo itself says. cargo-deny
//! checks the same and more, but takes many minutes to build; this takes a second and runs with every test.

use anyhow::{Context, Result, bail, ensure};

use crate::step;

/// A crate, as `cargo tree` shows it.
#[derive(Debug, PartialEq)]
struct Built {
    name: String,
    /// Where it is from, unless that is the registry or this workspace.
    elsewhere: Option<String>,
    licence: String,
}

/// What `deny.toml` says.
#[derive(Debug, PartialEq)]
struct Lists {
    licences: Vec<String>,
    banned: Vec<String>,
}

/// An error that names every crate of the workspace at `manifest` that is not allowed.
pub(crate) fn check(manifest: &str, deny: &str) -> Result<()> {
    let lists = Lists::read(deny)?;
    let mut command = step::cargo(&["tree", "--workspace", "--locked", "--target", "all", "--manifest-path", manifest]);
    command.args(["--prefix", "none", "--format", "{p}\t{l}"]);
    let output = command.output().context("cannot start cargo tree")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut problems = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        problems.extend(lists.refuse(&Built::read(line)?));
    }
    problems.sort();
    problems.dedup();
    ensure!(problems.is_empty(), "{manifest}: {}", problems.join("\n"));
    Ok(())
}

impl Built {
    /// `name v1.2.3 (/path or URL)`, a tab, the licence; `(*)` where it was shown before.
    fn read(line: &str) -> Result<Self> {
        let (package, licence) = line.split_once('\t').with_context(|| format!("cargo tree says {line:?}"))?;
        let licence = licence.trim_end_matches(" (*)").to_owned();
        let name = package.split(' ').next().unwrap_or_default().to_owned();
        let place = package.split_once(" (").map(|(_, place)| place.trim_end_matches(')'));
        let elsewhere = place.filter(|place| !place.starts_with('/') && *place != "proc-macro").map(str::to_owned);
        Ok(Self { name, elsewhere, licence })
    }

    fn is_ours(&self) -> bool {
        self.name.starts_with("corten") || self.name == "xtask"
    }
}

impl Lists {
    fn read(deny: &str) -> Result<Self> {
        let list = |start: &str| {
            let text = deny.split_once(start).and_then(|(_, rest)| rest.split_once("\n]"));
            text.map(|(text, _)| text).with_context(|| format!("deny.toml has no {start:?}"))
        };
        let quoted = |text: &str| text.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let licences = quoted(list("\nallow = [")?);
        let entries = list("\ndeny = [")?.lines().filter_map(|line| line.split_once("crate = "));
        let banned: Vec<String> = entries.filter_map(|(_, rest)| quoted(rest).into_iter().next()).collect();
        if licences.is_empty() || banned.is_empty() {
            bail!("deny.toml allows no licence, or bans no crate");
        }
        Ok(Self { licences, banned })
    }

    fn refuse(&self, built: &Built) -> Option<String> {
        let Built { name, elsewhere, licence } = built;
        if self.banned.contains(name) {
            return Some(format!("{name} is banned; deny.toml says why"));
        }
        if let Some(place) = elsewhere {
            return Some(format!("{name} comes from {place}; crates come from the registry"));
        }
        let allowed = |licence: &str| self.licences.iter().any(|known| known == licence);
        (!built.is_ours() && !satisfies(licence, &allowed))
            .then(|| format!("{name} has the licence {licence:?}; deny.toml does not allow it"))
    }
}

/// Whether an SPDX expression can be met with allowed licences. `A/B` is the old way to write `A OR B`.
fn satisfies(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = either(&words, allowed);
    met && rest.is_empty()
}

fn either<'a>(words: &'a [&'a str], allowed: &dyn Fn(&str) -> bool) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = both(words, allowed);
    while let ["OR", more @ ..] = rest {
        let (other, after) = both(more, allowed);
        (met, rest) = (met | other, after);
    }
    (met, rest)
}

fn both<'a>(words: &'a [&'a str], allowed: &dyn Fn(&str) -> bool) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = one(words, allowed);
    while let ["AND", more @ ..] = rest {
        let (other, after) = one(more, allowed);
        (met, rest) = (met & other, after);
    }
    (met, rest)
}

fn one<'a>(words: &'a [&'a str], allowed: &dyn Fn(&str) -> bool) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => match either(inner, allowed) {
            (met, [")", rest @ ..]) => (met, rest),
            (_, rest) => (false, rest),
        },
        [licence, "WITH", exception, rest @ ..] => (allowed(&format!("{licence} WITH {exception}")), rest),
        // `MPL-2.0+` is that version or a later one.
        [licence, rest @ ..] => (allowed(licence.trim_end_matches('+')), rest),
        [] => (false, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_that_is_built_is_allowed() {
        let root = crate::root();
        let deny = std::fs::read_to_string(root.join("deny.toml")).unwrap();
        for manifest in [root.join("Cargo.toml"), root.join(crate::check::POD)] {
            let manifest = manifest.to_str().unwrap();
            check(manifest, &deny).unwrap();
        }
    }

    #[test]
    fn expressions() {
        let allowed = |licence: &str| ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].contains(&licence);
        for good in [
            "MIT",
            "MIT+",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "(ISC OR MIT) AND Apache-2.0",
        ] {
            assert!(satisfies(good, &allowed), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR GPL-3.0) AND ISC", "MIT WITH x", "(MIT", "MIT MIT"] {
            assert!(!satisfies(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        let deny = "[licenses]\nallow = [\n    \"MIT\",\n]\n[bans]\ndeny = [\n    { crate = \"evil\", reason = \"it is\" },\n]\n";
        let lists = Lists::read(deny).unwrap();
        let refuse = |line: &str| lists.refuse(&Built::read(line).unwrap()).unwrap_or_default();
        assert_eq!(refuse("a v1.0.0\tMIT (*)"), "");
        assert_eq!(refuse("corten v1.0.0 (/somewhere)\tApache-2.0"), "");
        assert_eq!(refuse("derive v1.0.0 (proc-macro)\tMIT"), "");
        assert!(refuse("evil v1.0.0\tMIT").contains("banned"));
        assert!(refuse("b v1.0.0 (https://example.com/b#1)\tMIT").contains("example.com"));
        assert!(refuse("c v1.0.0\tGPL-3.0").contains("GPL-3.0"));
        assert!(Lists::read("[licenses]").is_err());
    }
}
