//! Rules of single lines: what is never written, or only in some crates.

use super::code::{Code, numbered};
use super::{File, Problem, crate_of};

/// Crates that talk to the kernel and may hold unsafe code.
const UNSAFE_CRATES: [&str; 3] = ["sys", "pod", "vmm"];

/// Crates that do no IO: time, files, sockets and processes are their callers' business.
pub(super) const CORES: [&str; 4] = ["apimachinery", "api", "podspec", "scheduler"];

/// Standard library modules by which a core would reach outside.
const OUTSIDE: [&str; 7] =
    ["std::fs", "std::env::", "std::process", "std::thread", "std::net::Tcp", "std::net::Udp", "std::os::unix::net"];

pub(crate) fn check(files: &[(&File, Code)]) -> Vec<Problem> {
    files.iter().flat_map(|(file, code)| lines(file, code)).collect()
}

fn lines(file: &File, code: &Code) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut report = |rule, line, item: &str, hint: &str| {
        problems.push(Problem { rule, path: file.path.clone(), line, item: item.into(), hint: hint.into() });
    };
    let owner = crate_of(&file.path);
    for (number, line) in numbered(&code.bare) {
        if line.contains("#[ignore") {
            report("ignored-test", number, "#[ignore]", "a test runs or does not exist");
        }
        if discards(line) {
            report("discarded-result", number, "let _", "handle the error, or name why it cannot matter");
        }
        if line.trim_end().ends_with(".ok();") && !line.contains('=') {
            report("discarded-result", number, ".ok()", "handle the error, or name why it cannot matter");
        }
        if has_word(line, "unsafe") && !UNSAFE_CRATES.contains(&owner) && !line.contains("unsafe_code") {
            report("unsafe", number, "unsafe", "unsafe code lives in sys, pod and vmm alone");
        }
    }
    if CORES.contains(&owner) && !file.path.contains("/tests/") {
        for (number, line) in code.product(&code.bare) {
            if let Some(outside) = OUTSIDE.iter().find(|outside| line.contains(*outside)) {
                report("core-io", number, outside, "a core takes what it needs as an argument");
            }
        }
    }
    problems
}

/// `let _ = call(…)`, also with a type.
fn discards(line: &str) -> bool {
    let Some(rest) = line.trim_start().strip_prefix("let _") else { return false };
    let pattern_ends = rest.starts_with([' ', ':', '=']);
    pattern_ends && rest.split_once('=').is_some_and(|(_, value)| value.contains('('))
}

/// Whether `word` stands alone in `line`.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::super::rust;
    use super::super::tests::{brief, file};
    use super::*;

    #[track_caller]
    fn one(path: &str, text: &str, expected: &[&str]) {
        assert_eq!(brief(&check(&rust(&[file(path, text)]))), expected, "{text}");
    }

    #[test]
    fn an_ignored_test_is_reported() {
        let text = format!("#[{}]\nfn a() {{}}\n", "ignore = \"slow\"");
        one("dev/a.rs", &text, &["ignored-test dev/a.rs:1 #[ignore]"]);
        one("dev/a.rs", "// #[ignore]\n", &[]);
    }

    #[test]
    fn a_discarded_result_is_reported() {
        one("dev/a.rs", "let _ = send(x);\n", &["discarded-result dev/a.rs:1 let _"]);
        one("dev/a.rs", "let _: Result<()> = send(x);\n", &["discarded-result dev/a.rs:1 let _"]);
        one("dev/a.rs", "x.send().ok();\n", &["discarded-result dev/a.rs:1 .ok()"]);
        one("dev/a.rs", "let _guard = lock();\nlet _ = x;\nlet y = z.ok();\n", &[]);
    }

    #[test]
    fn unsafe_outside_its_crates_is_reported() {
        one("crates/store/src/a.rs", "unsafe { x }\n", &["unsafe crates/store/src/a.rs:1 unsafe"]);
        one("crates/sys/src/a.rs", "unsafe { x }\n", &[]);
    }

    #[test]
    fn a_core_that_reaches_outside_is_reported() {
        one("crates/api/src/a.rs", "use std::fs;\n", &["core-io crates/api/src/a.rs:1 std::fs"]);
        one("crates/api/src/a.rs", "use std::net::IpAddr;\n", &[]);
        one("crates/api/src/a.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n", &[]);
        one("crates/store/src/a.rs", "use std::fs;\n", &[]);
    }
}
