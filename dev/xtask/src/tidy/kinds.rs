//! The generic path names no kind: kinds are data. The words come from the facts, `crates/api/facts/kinds.txt`.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::{File, Problem, crate_of, rust};

const KINDS: &str = "crates/api/facts/kinds.txt";

/// Crates through which every kind goes alike.
const GENERIC: [&str; 4] = ["apimachinery", "apiserver", "store", "client"];

/// Words of the API's own protocol that are also kinds' names: every kind's answers use them.
const PROTOCOL: &[(&str, &str)] = &[
    ("Status", "the answer that is no object; also each object's status"),
    ("List", "the answer to a list of any kind"),
    ("Table", "server-side printing of any kind"),
    ("Event", "a watch event"),
    ("Scale", "the scale subresource of any kind that has one"),
    ("DeleteOptions", "the body of every delete"),
    ("APIResourceList", "discovery"),
    ("APIGroupList", "discovery"),
    ("\"namespaces\"", "the segment of a path that names a namespace"),
];

/// Names of types that kinds have too. As words in a literal they are kinds.
const TYPES: &[(&str, &str)] = &[
    ("Node", "a position in a schema"),
    ("Role", "the side of a WebSocket"),
    ("Service", "hyper's trait of what answers requests"),
];

pub(crate) fn check(files: &[File]) -> Result<Vec<Problem>> {
    let has_api = files.iter().any(|file| crate_of(&file.path) == "api");
    let facts = files.iter().find(|file| file.path == KINDS);
    ensure!(facts.is_some() || !has_api, "{KINDS} is missing: it names the kinds");
    let words = facts.map(|file| words(&file.text)).unwrap_or_default();
    Ok(named(files, &words))
}

/// Kinds' names, and as literals the names of their resources: the second and third word of a line of the facts.
fn words(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with(['#', '=', ' '])) {
        let mut parts = line.split(' ').skip(1);
        words.extend(parts.next().map(str::to_owned));
        words.extend(parts.next().filter(|plural| plural.len() > 1).map(|plural| format!("\"{plural}\"")));
    }
    words
}

fn named(files: &[File], words: &BTreeSet<String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (file, code) in rust(files) {
        if !GENERIC.contains(&crate_of(&file.path)) || !product(&file.path) {
            continue;
        }
        let lines = code.product(&code.with_literals).zip(code.product(&code.bare));
        for ((line, text), (_, bare)) in lines {
            for word in kinds_in(text, bare, words) {
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

fn product(path: &str) -> bool {
    path.contains("/src/") && !path.ends_with("/tests.rs")
}

/// Words of a line that name kinds; `bare` is the line without its literals.
fn kinds_in<'a>(text: &'a str, bare: &str, words: &BTreeSet<String>) -> Vec<&'a str> {
    let excepted = |list: &[(&str, &str)], word: &str| list.iter().any(|(known, _)| *known == word);
    let is_type = |word: &str| excepted(TYPES, word) && parts(bare).any(|part| part == word);
    let named = parts(text).flat_map(forms).filter(|word| words.contains(*word));
    named.filter(|word| !excepted(PROTOCOL, word) && !is_type(word)).collect()
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && !"_\"".contains(c))
}

/// A word, and what is inside if it is a literal.
fn forms(word: &str) -> impl Iterator<Item = &str> {
    let inside = word.trim_matches('"');
    [Some(word), (inside != word).then_some(inside)].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{brief, file};
    use super::*;

    const FACTS: &str = "# ABOUT Kind\n=v1 core/v1\nv1 Pod pods pod ns on get\n log v1 Pod on get\n\
                         apps/v1 Deployment deployments deployment ns on get\nv1 Status - -\nv1 Node nodes node cluster on get\n";

    #[test]
    fn a_kind_in_the_generic_path_is_reported() {
        let source = "/// Pod\nfn a() { let x = \"pods\"; Deployment::new(); Status::x(); pods(\"Pod\"); }\n\
                      #[cfg(test)]\nmod tests { Pod }\n";
        let files = [file(KINDS, FACTS), file("crates/store/src/a.rs", source)];
        assert_eq!(
            brief(&check(&files).unwrap()),
            [
                "kind-name crates/store/src/a.rs:2 \"pods\"",
                "kind-name crates/store/src/a.rs:2 Deployment",
                "kind-name crates/store/src/a.rs:2 Pod",
            ]
        );
    }

    #[test]
    fn a_type_may_be_called_like_a_kind() {
        let files = [file(KINDS, FACTS), file("crates/store/src/a.rs", "fn a(n: Node) {}")];
        assert!(check(&files).unwrap().is_empty());
        let files = [file(KINDS, FACTS), file("crates/store/src/a.rs", "b(\"Node\")")];
        assert_eq!(brief(&check(&files).unwrap()), ["kind-name crates/store/src/a.rs:1 Node"]);
    }

    #[test]
    fn kinds_elsewhere_are_free() {
        let files = [file(KINDS, FACTS), file("crates/api/src/a.rs", "Pod"), file("dev/a.rs", "Pod")];
        assert!(check(&files).unwrap().is_empty());
    }

    #[test]
    fn the_list_of_kinds_must_be_there() {
        assert!(check(&[file("crates/api/src/a.rs", "")]).is_err());
    }
}
