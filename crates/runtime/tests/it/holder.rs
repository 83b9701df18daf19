//! The holder on the real kernel, with a shell as the edge.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use corten_podspec::{Credentials, Run};
use corten_runtime::{Error, Holder, Program};

use crate::container::{folder, wait_until};

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn shell(script: &str) -> Run {
    let credentials = Credentials {
        args: ["sh", "-c", script].map(c).to_vec(),
        uid: 64_123,
        gid: 64_123,
        no_new_privs: true,
        ..Credentials::default()
    };
    Run { credentials, cgroup_joins: Vec::new(), drain_ms: 200 }
}

fn run(holder: &mut Holder, script: &str, output: &Path) {
    let out = File::options().append(true).create(true).open(output).unwrap();
    let program = File::open("/bin/busybox").unwrap();
    holder.run(shell(script), [program.as_fd(), out.as_fd(), out.as_fd()]).unwrap();
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

#[track_caller]
fn eventually(what: &str, holds: impl FnMut() -> bool) {
    assert!(wait_until(holds), "not in time: {what}");
}

fn start(at: &Path) -> (std::process::Child, Holder) {
    Holder::spawn(&Program::load().unwrap(), &at.join("holder.sock")).unwrap()
}

#[test]
fn an_edge_is_started_again_and_has_no_privileges() {
    let Some(folder) = folder() else { return };
    let (mut child, mut holder) = start(folder.path());
    let output = folder.path().join("output");
    run(&mut holder, "echo $(id -u) $(grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status); sleep 1000", &output);
    eventually("the edge runs", || lines(&output) == 1);
    let first = holder.hello().unwrap();
    assert!(first.pid > 0 && first.failed.is_none(), "{first:?}");
    let expected = "64123 CapEff: 0000000000000000 CapBnd: 0000000000000000 NoNewPrivs: 1\n";
    assert_eq!(std::fs::read_to_string(&output).unwrap(), expected);
    let pid = rustix::process::Pid::from_raw(i32::try_from(first.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("another one runs", || lines(&output) == 2);
    let second = holder.hello().unwrap();
    assert!(second.pid != first.pid && second.starts == 2, "{second:?}");
    // Control comes back and finds the same one.
    drop(holder);
    let mut holder = Holder::adopt(&folder.path().join("holder.sock")).unwrap();
    assert_eq!(holder.hello().unwrap().pid, second.pid);
    holder.end(Duration::from_millis(50)).unwrap();
    assert!(child.wait().unwrap().success());
    let gone = rustix::process::Pid::from_raw(i32::try_from(second.pid).unwrap()).unwrap();
    assert!(rustix::process::test_kill_process(gone).is_err());
}

#[test]
fn what_is_kept_is_known_again() {
    let Some(folder) = folder() else { return };
    let (mut child, mut holder) = start(folder.path());
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    holder.keep("http", &[], Some(socket.as_fd())).unwrap();
    holder.keep("key", b"secret", None).unwrap();
    holder.keep("http", &[], Some(socket.as_fd())).unwrap();
    assert_eq!(holder.hello().unwrap().names, ["http", "key"]);
    holder.forget("http").unwrap();
    assert_eq!(holder.hello().unwrap().names, ["key"]);
    holder.end(Duration::ZERO).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_socket_is_lent_and_outlives_its_holder() {
    let Some(folder) = folder() else { return };
    let (mut child, mut holder) = start(folder.path());
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    holder.keep("http", &[], Some(socket.as_fd())).unwrap();
    holder.keep("key", b"secret", None).unwrap();
    drop(socket);
    let lent = std::net::TcpListener::from(holder.lend("http").unwrap());
    for name in ["key", "nothing"] {
        let refused = holder.lend(name);
        assert!(matches!(&refused, Err(Error::Failed(failed)) if failed.errno == 2), "{name}: {refused:?}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    std::net::TcpStream::connect(address).expect("it waits to be accepted");
    assert_eq!(lent.local_addr().unwrap(), address);
}

#[test]
fn a_holder_without_anything_to_run_ends_with_control() {
    let Some(folder) = folder() else { return };
    let (mut child, holder) = start(folder.path());
    drop(holder);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_program_that_cannot_run_is_said() {
    let Some(folder) = folder() else { return };
    let (mut child, mut holder) = start(folder.path());
    let text = File::open("/etc/passwd").unwrap();
    let null = File::options().write(true).open("/dev/null").unwrap();
    holder.run(shell("true"), [text.as_fd(), null.as_fd(), null.as_fd()]).unwrap();
    eventually("it is said", || holder.hello().unwrap().failed.is_some());
    let failed = holder.hello().unwrap().failed.unwrap();
    assert_eq!((failed.errno, failed.about.as_str()), (13, "the edge"));
    holder.end(Duration::ZERO).unwrap();
    assert!(child.wait().unwrap().success());
}
