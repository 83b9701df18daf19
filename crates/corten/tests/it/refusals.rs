//! What cannot work is refused at once, in one sentence, with the next step.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Server, refusal, refused};

const ANY: &str = "127.0.0.1:0";

#[test]
fn a_busy_port() {
    let dir = tempfile::tempdir().expect("a directory");
    let held = TcpListener::bind(ANY).expect("a free port");
    let address = held.local_addr().expect("bound");
    let data = dir.path().join("data");
    let text = refused(&data, &address.to_string());
    let expected =
        format!("(process {}); stop that, or choose another address with --listen ADDR:PORT", std::process::id());
    assert!(text.contains(&expected), "{text}");
    assert!(text.starts_with("error: port ") && !data.exists(), "nothing was started before: {text}");
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
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1, "nothing was touched, no lock is left");
}

#[test]
fn overlapping_cidrs() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut command = crate::process::command_in_any_range(&data, ANY);
    let output = refusal(command.args(["--pod-cidr", "10.96.0.0/17"]));
    let text = String::from_utf8(output.stderr).expect("text");
    let expected = "the pod range 10.96.0.0/17 overlaps the Service range 10.96.0.0/16";
    assert!(!output.status.success() && text.contains(expected), "{text}");
    assert!(!data.exists(), "nothing was made");
}

/// This program where everybody may run it.
fn for_everybody(dir: &Path) -> PathBuf {
    let program = dir.join("corten");
    std::fs::copy(env!("CARGO_BIN_EXE_corten"), &program).expect("copied");
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir, everybody.clone()).expect("set");
    std::fs::set_permissions(&program, everybody).expect("set");
    program
}

#[test]
fn not_root() {
    const NOBODY: u32 = 65534;
    let dir = tempfile::tempdir().expect("a directory");
    let open = dir.path().join("open");
    std::fs::create_dir(&open).expect("made");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).expect("set");
    let mut command = Command::new(for_everybody(dir.path()));
    command.args(["up", "--listen", ANY, "--http-port", "0", "--https-port", "0", "--data-dir"]).arg(open.join("data"));
    let output = refusal(command.uid(NOBODY).gid(NOBODY));
    let text = String::from_utf8(output.stderr).expect("text");
    let expected = "error: running pods needs root; run as root, or leave pods and Services to others with --controllers none \
                    --network none\n";
    assert_eq!((output.status.code(), text.as_str()), (Some(1), expected));
    assert_eq!(std::fs::read_dir(&open).expect("listed").count(), 0, "nothing was made");
}

#[test]
fn no_cgroup_controller() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let without = "umount --recursive --lazy /sys/fs/cgroup && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", without, env!("CARGO_BIN_EXE_corten")]);
    command.args(["up", "--listen", ANY, "--http-port", "0", "--https-port", "0", "--data-dir"]).arg(&data);
    let output = refusal(&mut command);
    let text = String::from_utf8(output.stderr).expect("text");
    let expected = "error: pods cannot be limited: no control group of this server has cpu, memory, pids; mount them (";
    assert!(output.status.code() == Some(1) && text.starts_with(expected), "{text}");
    assert!(text.ends_with("then start again\n") && text.lines().count() == 1, "{text}");
    assert!(!data.exists(), "nothing was made");
}

#[test]
fn a_demo_that_lacks_a_part_or_its_sources() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let refused = |command: &mut std::process::Command| {
        let output = refusal(command.arg("--demo"));
        assert!(!output.status.success());
        String::from_utf8(output.stderr).expect("text")
    };
    let text = refused(&mut crate::process::command(&data, ANY));
    assert!(text.contains("the demo needs every part of a server; leave out --controllers none"), "{text}");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let program = elsewhere.path().join("corten");
    std::fs::copy(env!("CARGO_BIN_EXE_corten"), &program).expect("copied");
    let mut command = std::process::Command::new(&program);
    command.current_dir(&elsewhere).env_remove("CARGO_MANIFEST_DIR").args(["up", "--data-dir"]).arg(&data);
    let text = refused(&mut command);
    assert!(text.contains("run it in a checkout: cargo run --release -- up --demo"), "{text}");
    assert!(!data.exists(), "nothing was made");
}

#[test]
fn an_eviction_threshold_that_says_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    for (list, why) in [
        ("memory<1Gi", "\"memory\" is no signal; there are memory.available, nodefs.available"),
        ("nodefs.available<101%", "\"101%\" of nodefs.available is no quantity above 0"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corten"));
        command.args(["up", "--eviction-hard", list, "--data-dir"]).arg(&data);
        let output = refusal(&mut command);
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(!output.status.success() && text.contains(why), "{text}");
    }
    assert!(!data.exists(), "nothing was made");
}

#[test]
fn a_clock_offset_that_is_no_number() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = crate::process::command(dir.path(), ANY);
    let output = refusal(command.env("CORTEN_CLOCK_OFFSET", "soon"));
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
