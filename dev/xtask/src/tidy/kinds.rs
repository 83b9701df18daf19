//! The generic path names no kind: kinds are data. The words come from the facts, `crates/api/facts/kinds.txt`.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::{File, Problem, crate_of, rust};

const KINDS: &str = "crates/api/facts/kinds.txt";

/// Crates through which every kind goes alike.
const GENERIC: [&str; 4] = ["apimachinery", "apiserver", "store", "client"];

/// Words of the API's own protocol that are also kinds' names: every kind's answers use them.
const PROTOCOL: [(&str, &str); 10] = [
    ("Status", "the answer that is no object; also each object's status"),
    ("List", "the answer to a list of any kind"),
    ("Table", "server-side printing of any kind"),
    ("Event", "a watch event"),
    ("Scale", "the scale subresource of any kind that has one"),
    ("DeleteOptions", "the body of every delete"),
    ("APIResourceList", "discovery"),
    ("APIGroupList", "discovery"),
    ("Node", "a position in a schema"),
    ("Service", "hyper's trait of what answers requests"),
];

pub(crate) fn check(files: &[File]) -> Result<Vec<Problem>> {
    let has_api = files.iter().any(|file| crate_of(&file.path) == "api");
    let facts = files.iter().find(|file| file.path == KINDS);
    ensure!(facts.is_some() || !has_api, "{KINDS} is missing: it names the kinds");
    let words = facts.map(|file| words(&file.text)).unwrap_or_default();
    Ok(named(files, &words))
}

/// The kinds' names: first word a line, or what follows the last slash or dot in it.
fn words(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let names = lines.flat_map(|line| line.split(|c: char| !c.is_alphanumeric()));
    names.filter(|word| word.starts_with(char::is_uppercase)).collect()
}

fn named(files: &[File], words: &BTreeSet<&str>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (file, code) in rust(files) {
        if !GENERIC.contains(&crate_of(&file.path)) || !file.path.contains("/src/") {
            continue;
        }
        for (line, text) in code.product(&code.with_literals) {
            let named = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| words.contains(word));
            for word in named.filter(|word| !PROTOCOL.iter().any(|(known, _)| known == word)) {
                problems.push(Problem {
                    rule: "kind-name",
                    path: file.path.clone(),
                    line,
                    item: word.to_owned(),
                    hint: "the generic path names no kind; make it a fact of the kind's record".to_owned(),
                });
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::tests::{brief, file};
    use super::*;

    #[test]
    fn a_kind_in_the_generic_path_is_reported() {
        let source = "/// Pod\nfn a() { let x = \"Pod\"; Deployment::new(); Status::x(); pod(); }\n\
                      #[cfg(test)]\nmod tests { Pod }\n";
        let files = [file(KINDS, "v1 Pod\napps/v1 Deployment\nv1 Status\n"), file("crates/store/src/a.rs", source)];
        assert_eq!(
            brief(&check(&files).unwrap()),
            ["kind-name crates/store/src/a.rs:2 Pod", "kind-name crates/store/src/a.rs:2 Deployment"]
        );
    }

    #[test]
    fn kinds_elsewhere_are_free() {
        let files = [file(KINDS, "v1 Pod\n"), file("crates/api/src/a.rs", "Pod"), file("dev/a.rs", "Pod")];
        assert!(check(&files).unwrap().is_empty());
    }

    #[test]
    fn the_list_of_kinds_must_be_there() {
        assert!(check(&[file("crates/api/src/a.rs", "")]).is_err());
    }
}
