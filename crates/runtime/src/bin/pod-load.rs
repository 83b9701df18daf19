//! Load for the kill test, a control that knows one thing: start a pod in a folder, then start containers, run programs in
//! them and kill them, until somebody kills it.
//!
//! `pod-load ROOT SOCKET LOG [GROUP]…`: the groups are folders of cgroup hierarchies that everything joins.

use std::env;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use corten_podspec::{Acknowledge, Credentials, Exec, Mount, MountKind, Output, Root, Setup, Signal, Start};
use corten_runtime::{Connection, Error, Program, spawn};

const KILL: i32 = 9;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let [root, socket, log, groups @ ..] = arguments.as_slice() else {
        eprintln!("usage: pod-load ROOT SOCKET LOG [GROUP]...");
        return ExitCode::FAILURE;
    };
    let joins = groups.iter().map(|group| bytes(&Path::new(group).join("cgroup.procs").into_os_string())).collect();
    match run(&bytes(root), Path::new(socket), &bytes(log), joins) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pod-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bytes(text: &OsString) -> CString {
    CString::new(text.clone().into_vec()).expect("an argument holds no zero byte")
}

fn run(root: &CString, socket: &Path, log: &CString, joins: Vec<CString>) -> Result<(), Error> {
    let program = Program::load()?;
    let (_child, mut pod) = spawn(&program, socket)?;
    pod.hello()?;
    pod.call(Setup { cgroup_joins: joins, hostname: c"load".to_owned(), shm_bytes: 1 << 20, ..Setup::default() })?;
    for key in (1..).step_by(2) {
        turn(&mut pod, key, root, log)?;
    }
    Ok(())
}

/// One container, with a program run in it that ends by itself.
fn turn(pod: &mut Connection, key: u64, root: &CString, log: &CString) -> Result<(), Error> {
    let proc = Mount { kind: MountKind::Proc, target: c"/proc".to_owned(), ..Mount::default() };
    pod.call(Start {
        key,
        root: Root { lowers: vec![root.clone()], ..Root::default() },
        mounts: vec![proc],
        output: Output { log_path: log.clone() },
        credentials: shell(c"echo begun; sleep 1000 & sleep 1000"),
        ..Start::default()
    })?;
    let credentials = shell(c"exit 3");
    pod.call(Exec { key: key + 1, container: key, credentials, ..Exec::default() })?;
    end(pod, key + 1)?;
    pod.call(Signal { key, signal: KILL, kill_after_ms: 0 })?;
    end(pod, key)
}

fn end(pod: &mut Connection, key: u64) -> Result<(), Error> {
    while pod.next_exit(Duration::from_secs(10))?.is_none_or(|exited| exited.key != key) {}
    pod.call(Acknowledge { key }).map(drop)
}

fn shell(script: &std::ffi::CStr) -> Credentials {
    let args = vec![c"/bin/sh".to_owned(), c"-c".to_owned(), script.to_owned()];
    Credentials { args, no_new_privs: true, ..Credentials::default() }
}
