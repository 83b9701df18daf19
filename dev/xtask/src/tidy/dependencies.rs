//! Every third-party crate of the workspace has a row in `docs/dependencies.md` that says why, and no row is stale.

use std::collections::BTreeSet;

use super::Problem;

pub(crate) fn check(manifest: &str, page: &str) -> Vec<Problem> {
    let (pinned, explained) = (pinned(manifest), explained(page));
    let unexplained = pinned.difference(&explained).map(|name| (name, "Cargo.toml", "say why in docs/dependencies.md"));
    let stale = explained.difference(&pinned).map(|name| (name, "docs/dependencies.md", "not a dependency any more"));
    let problem = |(name, path, hint): (&&str, &str, &str)| Problem {
        rule: "dependency",
        path: path.to_owned(),
        line: 0,
        item: (*name).to_owned(),
        hint: hint.to_owned(),
    };
    unexplained.chain(stale).map(problem).collect()
}

fn pinned(manifest: &str) -> BTreeSet<&str> {
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap_or("");
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim());
    names.filter(|name| !name.starts_with('#') && !name.starts_with("corten-")).collect()
}

/// The first cell of each row: `| name | why |`.
fn explained(page: &str) -> BTreeSet<&str> {
    let cells = page.lines().filter_map(|line| line.strip_prefix('|')?.split_once('|'));
    let rows = cells.filter(|(_, why)| !why.trim_matches(['|', ' ', '-']).is_empty());
    rows.map(|(name, _)| name.trim().trim_matches('`')).filter(|name| *name != "crate").collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::brief;
    use super::*;

    #[test]
    fn crates_and_rows_match() {
        let manifest =
            "[workspace.dependencies]\ncorten-a = { path = \"a\" }\n\nb = \"1\"\nc = \"2\"\n\n[profile.dev]\nd = 1\n";
        let page = "| crate | why |\n|---|---|\n| b | needed |\n| e | gone |\n| c | |\n";
        assert_eq!(brief(&check(manifest, page)), ["dependency Cargo.toml:0 c", "dependency docs/dependencies.md:0 e"]);
    }
}
