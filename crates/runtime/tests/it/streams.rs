//! Terminals, standard input, and those who attach to them.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use corten_podspec::{Attach, Exec, MountKind, Start, Step};
use corten_runtime::{Answer, Connection, Error, adopt};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::container::{Pod, mount, shell, wait_until};

/// A container that has terminals, with a terminal of its own if asked for.
fn with_terminals(pod: &Pod, script: &str, terminal: bool) -> Start {
    let mut plan = pod.plan(1, script);
    plan.mounts.push(mount(MountKind::Devpts, c"/dev/pts"));
    Start { terminal, ..plan }
}

/// What was attached to: the answer, and the reading ends of both copies.
fn attach(connection: &mut Connection, stdin: bool) -> (Answer, File, File) {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
    let ((out, out_writer), (err, err_writer)) = (pipe(), pipe());
    let writers = [out_writer.as_fd(), err_writer.as_fd()];
    let answer = connection.call_with(Attach { key: 1, stdin }, &writers).unwrap();
    (answer, out.into(), err.into())
}

/// Reads until the text has come.
fn expect(from: &mut File, wanted: &str) {
    let mut text = String::new();
    while !text.contains(wanted) {
        let mut bytes = [0; 256];
        let length = from.read(&mut bytes).unwrap();
        assert!(length > 0, "ended after {text:?}, without {wanted:?}");
        text.push_str(str::from_utf8(&bytes[..length]).unwrap());
    }
}

fn rest(mut from: File) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_terminal_goes_into_the_log_and_to_whoever_attaches() {
    let Some(mut pod) = Pod::new() else { return };
    let plan = with_terminals(&pod, "busybox tty; while read line; do echo got $line; done", true);
    pod.connection.call(plan).unwrap();
    assert!(wait_until(|| pod.log() == ["stdout F /dev/pts/0"]), "{:?}", pod.log());
    let (answer, mut out, err) = attach(&mut pod.connection, true);
    assert!(answer.done.terminal && answer.done.descriptor);
    assert_eq!(rest(err), "");
    let mut terminal = File::from(answer.descriptor.unwrap());
    terminal.write_all(b"one\n").unwrap();
    expect(&mut out, "got one\r\n");
    // The terminal stays when control and the attached go, and can be attached to again.
    drop((terminal, out));
    pod.connection = adopt(&pod.socket()).unwrap();
    let (answer, mut out, _) = attach(&mut pod.connection, true);
    let mut terminal = File::from(answer.descriptor.unwrap());
    terminal.write_all(b"two\n\x04").unwrap();
    expect(&mut out, "got two\r\n");
    assert_eq!(pod.exit().code, 0);
    assert_eq!(pod.log(), ["/dev/pts/0", "one", "got one", "two", "got two"].map(|line| format!("stdout F {line}")));
    // Output ends for those attached when the container has ended.
    assert_eq!(rest(out), "");
}

#[test]
fn input_stays_open_unless_it_is_for_one() {
    let Some(mut pod) = Pod::new() else { return };
    let script = "while read line; do echo got $line; done; echo end >&2";
    pod.connection.call(Start { stdin: true, ..pod.plan(1, script) }).unwrap();
    for word in ["one", "two"] {
        let (answer, mut out, _) = attach(&mut pod.connection, true);
        assert!(!answer.done.terminal);
        File::from(answer.descriptor.unwrap()).write_all(format!("{word}\n").as_bytes()).unwrap();
        expect(&mut out, &format!("got {word}\n"));
    }
    let plan = pod.plan(2, script);
    let plan = Start { stdin: true, stdin_once: true, root: corten_podspec::Root { ..plan.root }, ..plan };
    // Who is attached may hear of a line before it is in the log.
    assert!(wait_until(|| pod.log() == ["stdout F got one", "stdout F got two"]), "{:?}", pod.log());
    let mut other = Pod::new().unwrap();
    other.connection.call(Start { key: 1, ..plan }).unwrap();
    // Who only looks takes no input away.
    let (looker, ..) = attach(&mut other.connection, false);
    assert!(looker.descriptor.is_none());
    let (answer, out, err) = attach(&mut other.connection, true);
    assert!(attach(&mut other.connection, true).0.descriptor.is_none(), "it is given once");
    File::from(answer.descriptor.unwrap()).write_all(b"three\n").unwrap();
    assert_eq!((rest(out).as_str(), rest(err).as_str()), ("got three\n", "end\n"));
    assert_eq!(other.exit().code, 0);
}

#[test]
fn a_program_in_a_container_gets_a_terminal() {
    let Some(mut pod) = Pod::new() else { return };
    pod.connection.call(with_terminals(&pod, "sleep 100", false)).unwrap();
    let mut credentials = shell("busybox tty; read size; busybox stty size; busybox stat -c %u /dev/pts/0; exit 5");
    credentials.uid = 1000;
    let exec = Exec { key: 2, container: 1, credentials, terminal: true, ..Exec::default() };
    let answer = pod.connection.call(exec).unwrap();
    let terminal = answer.descriptor.expect("the terminal comes with the answer");
    fcntl_setfl(&terminal, OFlags::RDWR).unwrap();
    let mut terminal = File::from(terminal);
    expect(&mut terminal, "/dev/pts/0\r\n");
    let size = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).unwrap();
    terminal.write_all(b"\n").unwrap();
    expect(&mut terminal, "33 101\r\n1000\r\n");
    let exited = pod.exit();
    assert_eq!((exited.key, exited.code), (2, 5));
}

#[test]
fn what_is_no_terminal_of_the_container_is_refused() {
    let Some(mut pod) = Pod::new() else { return };
    pod.connection.call(pod.plan(1, "echo > /dev/pts; sleep 100")).unwrap();
    let exec = Exec { key: 2, container: 1, credentials: shell("true"), terminal: true, ..Exec::default() };
    match pod.connection.call(exec) {
        Err(Error::Failed(failed)) => assert_eq!(failed.step, Step::Terminal),
        other => panic!("{other:?}"),
    }
    assert!(wait_until(|| pod.connection.hello().unwrap().processes.len() == 1));
    let none: [OwnedFd; 0] = [];
    let attached = pod.connection.call_with(Attach { key: 1, stdin: false }, &none.each_ref().map(AsFd::as_fd));
    assert!(matches!(attached, Err(Error::Failed(failed)) if failed.step == Step::State));
}

#[test]
fn who_does_not_read_stops_nobody_and_is_let_go() {
    let Some(mut pod) = Pod::new() else { return };
    let plan = Start { stdin: true, ..pod.plan(1, "read go; yes 0123456789 | head -n 100000") };
    pod.connection.call(plan).unwrap();
    let (answer, out, _) = attach(&mut pod.connection, true);
    File::from(answer.descriptor.unwrap()).write_all(b"\n").unwrap();
    assert_eq!(pod.exit().code, 0);
    assert_eq!(pod.log().len(), 100_000);
    let seen = rest(out);
    assert!(!seen.is_empty() && seen.len() < 1_100_000);
    assert!("0123456789\n".repeat(100_000).starts_with(&seen), "no hole before the end");
}
