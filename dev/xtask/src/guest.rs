//! `cargo xtask guest`: builds the tests that talk to the kernel, and has `corten-e2e` run them where control groups are v2's.

use anyhow::Result;
use serde_json::Value;

use crate::{step, strangers};

/// Crates whose tests run in the guest.
const CRATES: [&str; 2] = ["corten-runtime", "corten-sys"];

/// A program of theirs that tests start.
const STARTED: &str = "pod-load";

/// Boots the guest. It takes its own arguments.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut all = built(&CRATES.map(|name| ["-p", name]).concat())?;
    all.extend_from_slice(arguments);
    strangers::run("guest", &all)
}

/// The same after all tests were built: what was built for them is taken, where a choice of crates would be built once more.
pub(crate) fn run_after_tests() -> Result<()> {
    strangers::run("guest", &built(&["--workspace"])?)
}

/// Builds the test programs. Returns them as arguments for the guest.
fn built(which: &[&str]) -> Result<Vec<String>> {
    let programs = step::built(&[&["test", "--no-run"], which].concat())?;
    Ok(programs.iter().filter_map(argument).collect())
}

/// A program that the guest needs, of what cargo says of it.
fn argument(message: &Value) -> Option<String> {
    let program = message["executable"].as_str()?;
    let (kind, name) = (message["target"]["kind"][0].as_str()?, message["target"]["name"].as_str()?);
    let package = message["package_id"].as_str()?.rsplit(['#', '/']).next()?.split('@').next()?;
    if !CRATES.contains(&package) {
        return None;
    }
    match (kind, message["profile"]["test"].as_bool()?) {
        ("lib" | "test", true) => Some(format!("--suite={package}-{kind}={program}")),
        ("bin", false) if name == STARTED => Some(format!("--with={program}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let check = |package: &str, kind: &str, name: &str, test: bool, expect: Option<&str>| {
            let target = serde_json::json!({"kind": [kind], "name": name});
            let message = serde_json::json!({"package_id": package, "target": target, "profile": {"test": test},
                "executable": "/t/it-1"});
            assert_eq!(argument(&message).as_deref(), expect);
        };
        let package = "path+file:///w/crates/runtime#corten-runtime@0.1.0";
        check(package, "test", "it", true, Some("--suite=corten-runtime-test=/t/it-1"));
        check(package, "bin", "pod-load", false, Some("--with=/t/it-1"));
        check(package, "bin", "pod-load", true, None);
        check(package, "bin", "start-bench", false, None);
        check("path+file:///w/crates/store#corten-store@0.1.0", "test", "it", true, None);
        assert_eq!(argument(&serde_json::json!({"reason": "build-finished", "success": true})), None);
    }
}
