//! The edge outlives control, and its sockets outlive the edge.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use corten_runtime::Holder;

use crate::process::{Server, refused_with};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port()
}

fn status(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("nobody is refused");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

/// Ends the edge of a data directory, whatever becomes of the test.
pub(crate) struct Ends<'a>(pub(crate) &'a Path);

impl Ends<'_> {
    fn instance(&self) -> String {
        std::fs::read_to_string(self.0.join("instance")).expect("an instance").trim().to_owned()
    }

    fn holder(&self) -> Holder {
        let socket = Path::new("/run/corten").join(self.instance()).join("holder.sock");
        Holder::adopt(&socket).expect("a holder")
    }
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let instance = self.instance();
        let ended = corten::edge::end::end(&Path::new("/run/corten").join(&instance), &instance, Duration::ZERO);
        if !std::thread::panicking() {
            ended.expect("the edge ends");
        }
    }
}

#[test]
fn the_edge_outlives_control_and_is_found_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let ports = ["--http-port", &port.to_string(), "--https-port", "0"].map(str::to_owned);
    let server = Server::start_with(dir.path(), &ports);
    let ends = Ends(dir.path());
    assert!(server.lines.iter().any(|line| line.starts_with("edge ")), "{:?}", server.lines);
    let missing = "HTTP/1.1 404 Not Found";
    assert_eq!(status(port), missing);
    server.kill();
    assert_eq!(status(port), missing, "without control");
    let first = ends.holder().hello().expect("known").pid;
    let pid = rustix::process::Pid::from_raw(i32::try_from(first).expect("a pid")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is there");
    assert_eq!(status(port), missing, "a killed edge");
    let second = ends.holder().hello().expect("known").pid;
    assert_ne!(first, second);
    let server = Server::start_with(dir.path(), &ports);
    assert_eq!(ends.holder().hello().expect("known").pid, second, "control has adopted it");
    assert_eq!(status(port), missing);
    // One line each; those of the killed edge that were not written yet are gone with it.
    let log = dir.path().join("edge/logs/access.log");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default().matches("\"status\":404").count();
    let (mut looks, limit) = (0, 400);
    while lines() < 2 {
        looks += 1;
        assert!(looks < limit, "the access log has {} lines", lines());
        std::thread::sleep(Duration::from_millis(50));
    }
    server.kill();
}

/// Who has started a process.
fn parent(pid: u32) -> rustix::process::Pid {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
    let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)).expect("it has one");
    rustix::process::Pid::from_raw(parent.parse().expect("a number")).expect("not 0")
}

#[test]
fn a_killed_holder_is_replaced_and_nobody_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let ports = ["--http-port", &port.to_string(), "--https-port", "0"].map(str::to_owned);
    let mut server = Server::start_with(dir.path(), &ports);
    let ends = Ends(dir.path());
    // A holder of this control, then one that another has left: both times control has its sockets too.
    for _ in 0..2 {
        for _ in 0..2 {
            let edge = ends.holder().hello().expect("known").pid;
            rustix::process::kill_process(parent(edge), rustix::process::Signal::KILL).expect("it is there");
            // Its edge ends with it; one that has ended has no memory, and so no words.
            let words = format!("/proc/{edge}/cmdline");
            while std::fs::read(&words).is_ok_and(|words| !words.is_empty()) {
                std::thread::yield_now();
            }
            assert_eq!(status(port), "HTTP/1.1 404 Not Found", "a killed holder");
            assert_ne!(ends.holder().hello().expect("known").pid, edge);
        }
        server.kill();
        server = Server::start_with(dir.path(), &ports);
    }
    server.kill();
}

#[test]
fn a_busy_port_names_its_holder_and_the_flag() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let ports = ["--http-port", &port.to_string(), "--https-port", "0"].map(str::to_owned);
    let text = refused_with(dir.path(), "127.0.0.1:0", &ports);
    assert!(text.contains(&format!("port {port} is in use by ")) && text.contains("--http-port PORT"), "{text}");
}
