//! `corten image …` as a user calls it.

use std::path::Path;
use std::process::{Command, Output};

fn image(dir: &Path, arguments: &[&str]) -> Output {
    let (verb, rest) = arguments.split_first().expect("a verb");
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
    command.args(["image", verb, "--data-dir"]).arg(dir).args(rest).env_remove("SOURCE_DATE_EPOCH");
    command.output().expect("it runs")
}

#[track_caller]
fn said(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn refused(output: Output) -> String {
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn an_image_comes_and_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("bin")).expect("made");
    std::fs::write(root.join("bin/tool"), "#!/bin/sh\n").expect("written");
    let data = dir.path().join("data");
    let root = root.to_str().expect("UTF-8");
    let made = ["from-root", root, "--tag", "localhost/tool:1", "--cmd", "/bin/tool -v 'a b'", "--port", "8080"];
    let text = said(image(&data, &made));
    assert!(text.starts_with("localhost/tool:1 sha256:"), "{text}");

    let list: serde_json::Value = serde_json::from_str(&said(image(&data, &["ls", "-o", "json"]))).expect("JSON");
    assert_eq!(list[0]["tags"], serde_json::json!(["localhost/tool:1"]));
    let layer = Path::new(list[0]["layers"][0].as_str().expect("a path"));
    assert!(layer.starts_with(data.join("content")) && layer.join("bin/tool").is_file());
    let table = said(image(&data, &["ls"]));
    assert!(table.starts_with("IMAGE ") && table.contains("\nlocalhost/tool:1   "), "{table}");

    let gone = said(image(&data, &["rm", "localhost/tool:1"]));
    assert!(gone.starts_with("localhost/tool:1\n") && !layer.exists(), "{gone}");
    assert_eq!(said(image(&data, &["ls", "-o", "json"])), "[]\n");
}

#[test]
fn what_cannot_be_done_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let check = |arguments: &[&str], expected: &str| {
        let text = refused(image(&data, arguments));
        assert!(text.contains(expected), "{text}");
    };
    check(&["rm", "none"], "error: none is not found: it is not in this node's store; `corten image ls` shows");
    check(&["import", "/nowhere", "--tag", "A"], "repository name must be lowercase; write it as NAME:TAG");
    check(&["import", "/nowhere"], "/nowhere: No such file or directory");
    check(&["from-root", "/proc/self/fdinfo", "--tag", "a", "--cmd", "'a"], "is not closed; close it");
    check(&["from-root", "/proc/self/fdinfo", "--tag", "a", "--port", "x"], "write it as 8080 or 53/udp");
    std::fs::write(data.join("VERSION"), "99\n").expect("written");
    check(&["ls"], "newer corten (layout 99");
}
