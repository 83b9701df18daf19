//! Start, output, signals, exec, exit, and control that comes and goes.

use std::fs::{self, File};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use corten_podspec::{
    Acknowledge, Connect, Credentials, Exec, Failed, MountKind, Output, ReopenLog, Root, Setup, Shutdown, Signal,
    Start, Step,
};
use corten_runtime::{Error, adopt, spawn};

use crate::container::{LIMIT, Pod, mount, shell, wait_until};

#[track_caller]
fn fails(result: Result<corten_runtime::Answer, Error>, step: Step, errno: i32) -> String {
    match result {
        Err(Error::Failed(Failed { step: is, errno: code, about })) => {
            assert_eq!((is, code), (step, errno), "{about}");
            about
        }
        other => panic!("{other:?} instead of {step:?}"),
    }
}

#[test]
fn a_container_runs_and_its_exit_is_kept_until_acknowledged() {
    let Some(mut pod) = Pod::new() else { return };
    let plan = pod.plan(1, "echo out; echo err >&2; echo -n rest; exit 7");
    let exited = pod.run(plan.clone());
    assert_eq!((exited.key, exited.code, exited.signal, exited.log_bytes_dropped), (1, 7, 0, 0));
    let mut log = pod.log();
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out", "stdout F rest"]);
    let known = pod.connection.hello().unwrap().processes;
    assert_eq!(known[0].exited.as_ref(), Some(&exited));
    fails(pod.connection.call(plan), Step::State, 17);
    pod.connection.call(Acknowledge { key: 1 }).unwrap();
    assert!(pod.connection.hello().unwrap().processes.is_empty());
    fails(pod.connection.call(Acknowledge { key: 1 }), Step::State, 3);
}

#[test]
fn a_failed_start_names_step_and_cause_and_leaves_nothing() {
    let Some(mut pod) = Pod::new() else { return };
    let mut plan = pod.plan(1, "");
    plan.credentials.args = vec![c"/bin/none".to_owned()];
    assert_eq!(fails(pod.connection.call(plan.clone()), Step::Exec, 2), "/bin/none");
    plan.credentials.cwd = c"/bin/sh".to_owned();
    fails(pod.connection.call(plan.clone()), Step::WorkingDirectory, 20);
    plan.root.lowers.push(c"/none".to_owned());
    assert_eq!(fails(pod.connection.call(plan.clone()), Step::Root, 2), "/none");
    plan.cgroup_joins = vec![c"/none/cgroup.procs".to_owned()];
    fails(pod.connection.call(plan.clone()), Step::Cgroup, 2);
    plan.output.log_path = c"/none/log".to_owned();
    fails(pod.connection.call(plan.clone()), Step::Log, 2);
    assert!(wait_until(|| pod.connection.hello().unwrap().processes.is_empty()));
    assert_eq!(pod.connection.next_exit(Duration::from_millis(50)).unwrap(), None);
    let plan = pod.plan(1, "exit 0");
    assert_eq!(pod.run(plan).code, 0);
}

#[test]
fn nothing_starts_before_the_pod_is_set_up_and_then_it_ends_with_control() {
    let Some(mut pod) = Pod::bare() else { return };
    let plan = pod.plan(1, "");
    fails(pod.connection.call(plan), Step::State, 22);
    drop(adopt(&pod.socket()).unwrap());
    assert!(pod.ends());
    assert!(matches!(pod.connection.hello(), Err(Error::Closed)));
}

#[test]
fn set_up_happens_once() {
    let Some(mut pod) = Pod::new() else { return };
    fails(pod.connection.call(Setup::default()), Step::State, 114);
}

#[test]
fn a_stop_that_is_ignored_becomes_a_kill_even_without_control() {
    let Some(mut pod) = Pod::new() else { return };
    let plan = pod.plan(1, "trap '' TERM; echo ready; while :; do sleep 1; done");
    pod.connection.call(plan).unwrap();
    assert!(wait_until(|| pod.log() == ["stdout F ready"]));
    pod.connection.call(Signal { key: 1, signal: 15, kill_after_ms: 150 }).unwrap();
    pod.connection = adopt(&pod.socket()).unwrap();
    let exited = pod.exit();
    assert_eq!((exited.code, exited.signal), (137, 9));
}

#[test]
fn a_signal_reaches_the_program() {
    let Some(mut pod) = Pod::new() else { return };
    let plan = pod.plan(1, "trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done");
    pod.connection.call(plan).unwrap();
    assert!(wait_until(|| pod.log() == ["stdout F ready"]));
    pod.connection.call(Signal { key: 1, signal: 15, kill_after_ms: 0 }).unwrap();
    assert_eq!(pod.exit().code, 4);
    fails(pod.connection.call(Signal { key: 1, signal: 15, kill_after_ms: 0 }), Step::State, 3);
}

#[test]
fn a_program_runs_inside_a_running_container() {
    let Some(mut pod) = Pod::new() else { return };
    let plan = pod.plan(1, "echo mark > /tmp/mark; echo ready; sleep 100; exit 1");
    pod.connection.call(plan).unwrap();
    assert!(wait_until(|| pod.log() == ["stdout F ready"]));
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let null: OwnedFd = File::options().read(true).open("/dev/null").unwrap().into();
    let credentials = shell("cat /tmp/mark /proc/1/comm; hostname; exit 5");
    let exec = Exec { key: 2, container: 1, credentials: credentials.clone(), descriptors: true, ..Exec::default() };
    fails(pod.connection.call(exec.clone()), Step::State, 22);
    pod.connection.call_with(exec, &[null.as_fd(), writer.as_fd(), writer.as_fd()]).unwrap();
    drop(writer);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(text, "mark\nsh\npod-test\n");
    let exited = pod.exit();
    assert_eq!((exited.key, exited.code), (2, 5));
    let nowhere = Exec { key: 3, container: 9, credentials, ..Exec::default() };
    fails(pod.connection.call(nowhere), Step::State, 3);
}

#[test]
fn streams_belong_to_the_user() {
    let Some(mut pod) = Pod::new() else { return };
    let own = |script| Credentials { uid: 1000, gid: 1000, ..shell(script) };
    let mut plan = pod.plan(1, "");
    plan.credentials = own("echo one > /proc/self/fd/1; echo two > /proc/self/fd/2; sleep 100");
    pod.connection.call(plan).unwrap();
    assert!(wait_until(|| pod.log().len() == 2), "{:?}", pod.log());
    let credentials = own("echo three > /proc/1/fd/1 && echo four > /proc/self/fd/1");
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let null: OwnedFd = File::options().read(true).open("/dev/null").unwrap().into();
    let exec = Exec { key: 2, container: 1, credentials, descriptors: true, ..Exec::default() };
    pod.connection.call_with(exec, &[null.as_fd(), writer.as_fd(), writer.as_fd()]).unwrap();
    drop(writer);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!((pod.exit().code, text.as_str()), (0, "four\n"));
    assert!(wait_until(|| pod.log().len() == 3), "{:?}", pod.log());
    let mut log = pod.log();
    log.sort();
    assert_eq!(log, ["stderr F two", "stdout F one", "stdout F three"]);
    assert_eq!(fs::metadata("/dev/null").unwrap().uid(), 0, "what belongs to the machine stays its");
}

#[test]
fn control_comes_back_and_finds_what_happened() {
    let Some(mut pod) = Pod::new() else { return };
    for (key, script) in [(1, "echo one; exit 9"), (2, "sleep 100")] {
        let mut plan = pod.plan(key, script);
        plan.root = Root { lowers: plan.root.lowers, ..Root::default() };
        pod.connection.call(plan).unwrap();
    }
    let before = pod.connection.hello().unwrap().processes;
    pod.connection = adopt(&pod.socket()).unwrap();
    assert!(wait_until(|| pod.connection.hello().unwrap().processes[0].exited.is_some()));
    let welcome = pod.connection.hello().unwrap();
    assert!(welcome.set_up);
    assert_eq!(welcome.processes[0].exited.as_ref().map(|exited| exited.code), Some(9));
    assert_eq!(welcome.processes[1], before[1]);
    assert_eq!(pod.log(), ["stdout F one"]);
}

#[test]
fn the_newest_connection_wins() {
    let Some(mut pod) = Pod::new() else { return };
    let mut newer = adopt(&pod.socket()).unwrap();
    assert!(newer.hello().unwrap().set_up);
    assert!(matches!(pod.connection.hello(), Err(Error::Closed)));
    let program = corten_runtime::Program::load().unwrap();
    let busy = spawn(&program, &pod.socket()).unwrap_err();
    assert_eq!(busy.kind(), std::io::ErrorKind::AddrInUse);
    pod.connection = adopt(&pod.socket()).unwrap();
}

#[test]
fn a_full_disk_drops_output_and_stops_nobody() {
    let Some(mut pod) = Pod::new() else { return };
    let mut plan = pod.plan(1, "yes | head -c 1000000");
    plan.output = Output { log_path: c"/dev/full".to_owned() };
    let exited = pod.run(plan);
    assert_eq!(exited.code, 0);
    assert!(exited.log_bytes_dropped > 1_000_000, "{}", exited.log_bytes_dropped);
}

#[test]
fn every_byte_of_a_flood_is_logged() {
    let Some(mut pod) = Pod::new() else { return };
    let plan = pod.plan(1, "yes 0123456789 | head -n 200000; head -c 40000 /dev/zero; echo");
    let mut plan = Start { devices: Vec::new(), ..plan };
    plan.devices = vec![corten_podspec::Device { path: c"/dev/zero".to_owned(), mode: 0o20666, major: 1, minor: 5 }];
    assert_eq!(pod.run(plan).code, 0);
    let log = pod.log();
    assert_eq!(log.len(), 200_003);
    assert!(log[..200_000].iter().all(|line| line == "stdout F 0123456789"));
    let ends: Vec<_> = log[200_000..].iter().map(|line| (&line[..8], line.len() - 9)).collect();
    assert_eq!(ends, [("stdout P", 16384), ("stdout P", 16384), ("stdout F", 40000 - 2 * 16384)]);
}

#[test]
fn a_renamed_log_is_opened_anew() {
    let Some(mut pod) = Pod::new() else { return };
    let plan = pod.plan(1, "echo a; while ! [ -e /tmp/go ]; do sleep 0.02; done; echo b");
    pod.connection.call(plan).unwrap();
    assert!(wait_until(|| pod.log() == ["stdout F a"]));
    fs::rename(pod.path("log"), pod.path("log.1")).unwrap();
    pod.connection.call(ReopenLog { key: 1 }).unwrap();
    let credentials = shell("touch /tmp/go");
    pod.connection.call(Exec { key: 2, container: 1, credentials, ..Exec::default() }).unwrap();
    pod.exit();
    pod.exit();
    assert_eq!(pod.log(), ["stdout F b"]);
}

/// The host's listener is out of reach: the connection is made in the pod's network.
#[test]
fn connections_are_made_from_inside_the_pod() {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let Some(mut pod) = Pod::new() else { return };
    match pod.connection.call(Connect { address: [127, 0, 0, 1].into(), port }) {
        Ok(answer) => {
            let stream = TcpStream::from(answer.descriptor.expect("it comes with the answer"));
            assert!(stream.take_error().unwrap().is_some() || stream.peer_addr().is_err());
        }
        Err(Error::Failed(failed)) => assert_eq!((failed.step, failed.errno), (Step::Connect, 111)),
        Err(other) => panic!("{other}"),
    }
    fails(pod.connection.call(Connect { address: [1].into(), port }), Step::Connect, 97);
}

#[test]
fn shutdown_refuses_to_forget_unless_told() {
    let Some(mut pod) = Pod::new() else { return };
    let mut plan = pod.plan(1, "sleep 100");
    plan.mounts.push(mount(MountKind::Mqueue, c"/dev/mqueue"));
    pod.connection.call(plan).unwrap();
    fails(pod.connection.call(Shutdown::default()), Step::State, 16);
    pod.connection.call(Shutdown { forget_exits: true }).unwrap();
    assert!(pod.ends());
    assert!(pod.connection.next_exit(LIMIT).unwrap().is_some(), "the exit was told before the end");
}
