//! What cannot work is refused at once, in one sentence, with the next step.

use std::net::TcpListener;

use crate::process::{Server, refused};

const ANY: &str = "127.0.0.1:0";

#[test]
fn a_busy_port() {
    let dir = tempfile::tempdir().expect("a directory");
    let held = TcpListener::bind(ANY).expect("a free port");
    let address = held.local_addr().expect("bound");
    let text = refused(dir.path(), &address.to_string());
    let expected =
        format!("(process {}); stop that, or choose another address with --listen ADDR:PORT", std::process::id());
    assert!(text.contains(&expected), "{text}");
    assert!(text.starts_with("error: port "), "nothing was started before: {text}");
}

#[test]
fn a_second_start_in_one_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    let text = refused(dir.path(), ANY);
    assert!(text.contains("is in use by another corten (process ") && text.contains("--data-dir"), "{text}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_directory_of_a_newer_version() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("VERSION"), "99\n").expect("written");
    let text = refused(dir.path(), ANY);
    assert!(text.contains("newer corten (layout 99") && text.contains("--data-dir"), "{text}");
    assert!(!dir.path().join("store").exists(), "nothing was touched");
}

#[test]
fn overlapping_cidrs() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = crate::process::command_in_any_range(dir.path(), ANY);
    let output = command.args(["--pod-cidr", "10.96.0.0/17"]).output().expect("it runs");
    let text = String::from_utf8(output.stderr).expect("text");
    let expected = "the pod range 10.96.0.0/17 overlaps the Service range 10.96.0.0/16";
    assert!(!output.status.success() && text.contains(expected), "{text}");
    assert_eq!(std::fs::read_dir(dir.path().join("store")).expect("listed").count(), 0, "nothing was started");
}

#[test]
fn a_demo_that_lacks_a_part_or_its_sources() {
    let dir = tempfile::tempdir().expect("a directory");
    let refused = |command: &mut std::process::Command| {
        let output = command.arg("--demo").output().expect("it runs");
        assert!(!output.status.success());
        String::from_utf8(output.stderr).expect("text")
    };
    let text = refused(&mut crate::process::command(dir.path(), ANY));
    assert!(text.contains("the demo needs every part of a server; leave out --controllers none"), "{text}");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let program = elsewhere.path().join("corten");
    std::fs::copy(env!("CARGO_BIN_EXE_corten"), &program).expect("copied");
    let mut command = std::process::Command::new(&program);
    command.current_dir(&elsewhere).env_remove("CARGO_MANIFEST_DIR").args(["up", "--data-dir"]).arg(dir.path());
    let text = refused(&mut command);
    assert!(text.contains("run it in a checkout: cargo run --release -- up --demo"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path().join("store")).expect("listed").count(), 0, "nothing was started");
}

#[test]
fn a_clock_offset_that_is_no_number() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = crate::process::command(dir.path(), ANY);
    let output = command.env("CORTEN_CLOCK_OFFSET", "soon").output().expect("it runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success() && text.contains("CORTEN_CLOCK_OFFSET"), "{text}");
}

#[test]
fn a_damaged_store() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(Server::start(dir.path()).stop(), Some(0));
    let store = dir.path().join("store");
    for file in std::fs::read_dir(&store).expect("listed").flatten() {
        let mut bytes = std::fs::read(file.path()).expect("read");
        if bytes.len() > 2_000 {
            bytes[1_000] ^= 1;
            std::fs::write(file.path(), bytes).expect("written");
        }
    }
    let text = refused(dir.path(), ANY);
    assert!(text.contains("cannot be opened; restore a backup") && text.contains("damaged"), "{text}");
}
