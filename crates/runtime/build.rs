//! Builds the pod process, a static program of its own workspace, so that the library can embed it. The static target is
//! added by rustup where it is missing; where that fails, the host's target with a static C library is used, and said.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    for path in ["../pod/src", "../pod/Cargo.toml", "../pod/Cargo.lock", "../podspec/src", "../podspec/Cargo.toml"] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    let architecture = variable("CARGO_CFG_TARGET_ARCH");
    let musl = format!("{architecture}-unknown-linux-musl");
    let (target, flags) = if has_target(&musl) || add_target(&musl) {
        (musl, "")
    } else {
        println!(
            "cargo:warning=no target {musl} and rustup cannot add it: the pod process is built with the GNU library"
        );
        (format!("{architecture}-unknown-linux-gnu"), "-Ctarget-feature=+crt-static")
    };
    build(&manifest_dir.join("../pod/Cargo.toml"), &out.join("pod"), &target, flags);
    let program = out.join("pod").join(&target).join("release/corten-pod");
    assert!(program.is_file(), "cargo has built no {}", program.display());
    println!("cargo:rustc-env=CORTEN_POD_PROGRAM={}", program.display());
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("cargo sets {name}: {error}"))
}

fn has_target(target: &str) -> bool {
    let output = Command::new(variable("RUSTC")).args(["--print", "target-libdir", "--target", target]).output();
    let path = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    path.is_some_and(|path| Path::new(path.trim()).is_dir())
}

fn add_target(target: &str) -> bool {
    let status = Command::new("rustup").args(["target", "add", target]).status();
    status.is_ok_and(|status| status.success()) && has_target(target)
}

/// The outer cargo's flags and wrappers are for the outer program: they would build this one for the wrong target.
fn build(manifest: &Path, target_dir: &Path, target: &str, flags: &str) {
    let mut cargo = Command::new(variable("CARGO"));
    cargo.args(["build", "--release", "--locked", "--quiet", "--target", target]);
    cargo.arg("--manifest-path").arg(manifest).arg("--target-dir").arg(target_dir);
    for name in ["CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(name);
    }
    let status = cargo.env("RUSTFLAGS", flags).status().expect("cargo that runs this can be run");
    assert!(status.success(), "the pod process does not build");
}
