//! Control, pod process or container are killed at random moments: nothing is left that nobody knows of.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::PoisonError;
use std::time::Duration;

use corten_podspec::Shutdown;
use corten_runtime::{Error, adopt};
use rustix::process::{Pid, Signal, kill_process};

use crate::container::{ALONE, folder, wait_until};

const ROUNDS: u64 = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Control,
    Pod,
    Container,
}

/// How far the load had come when the blow fell.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Nothing,
    NotSetUp,
    Adopted,
    Running,
}

/// Delays in no order, the same in every run.
struct Delays(u64);

impl Delays {
    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(self.0 % 60_000)
    }
}

/// Where the hierarchy is mounted that counts processes: v1's `pids`, or the v2 tree.
fn hierarchy() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let find = |wanted: &dyn Fn(&str, &str) -> bool| {
        mounts.lines().find_map(|line| {
            let (place, file_system) = line.split_once(" - ")?;
            let (kind, options) = file_system.split_once(' ')?;
            wanted(kind, options).then(|| PathBuf::from(place.split(' ').nth(4).unwrap()))
        })
    };
    let v1 = find(&|kind, options| kind == "cgroup" && options.split([' ', ',']).any(|option| option == "pids"));
    v1.or_else(|| find(&|kind, _| kind == "cgroup2")).expect("a hierarchy of control groups is mounted")
}

fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Name, state and parent of a process that is there.
fn process(pid: i32) -> Option<(String, char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let mut rest = tail.split_whitespace();
    Some((head.split_once('(')?.1.to_owned(), rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

fn children(parent: u32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| process(*pid).is_some_and(|(_, _, of)| i64::from(of) == i64::from(parent))).collect()
}

fn kill(pid: i32) {
    match kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("cannot kill {pid}: {error}"),
    }
}

struct Round<'a> {
    folder: &'a Path,
    socket: PathBuf,
    group: PathBuf,
    load: Child,
}

impl Round<'_> {
    fn strike(&mut self, victim: Victim) -> Found {
        let pod = children(self.load.id());
        let running = members(&self.group);
        match victim {
            Victim::Control => {}
            Victim::Pod => pod.iter().for_each(|pid| kill(*pid)),
            Victim::Container => {
                running.iter().filter(|pid| !pod.contains(pid)).for_each(|pid| kill(*pid));
                // The pod goes on; it is ended as the next control would.
            }
        }
        if victim == Victim::Container {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.load.kill().unwrap();
        self.load.wait().unwrap();
        let found = match victim {
            Victim::Pod if pod.is_empty() => self.adopt(),
            Victim::Pod => Found::Running,
            Victim::Control | Victim::Container => self.adopt(),
        };
        for pid in pod {
            assert!(wait_until(|| process(pid).is_none_or(|(_, state, _)| state == 'Z')), "pod process {pid} is left");
        }
        found
    }

    /// What a new control does: connect, look, and here: end it.
    fn adopt(&self) -> Found {
        let mut connection = match adopt(&self.socket) {
            Ok(connection) => connection,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Found::Nothing;
            }
            Err(error) => panic!("{error}"),
        };
        match connection.hello() {
            Ok(welcome) if welcome.set_up => {
                connection.call(Shutdown { forget_exits: true }).unwrap();
                Found::Adopted
            }
            Ok(_) | Err(Error::Closed) => Found::NotSetUp,
            Err(error) => panic!("{error}"),
        }
    }

    fn leaves_nothing(&self) {
        let gone = wait_until(|| members(&self.group).is_empty());
        let left: Vec<_> = members(&self.group).into_iter().map(|pid| (pid, process(pid))).collect();
        assert!(gone, "processes are left: {left:?}");
        assert!(wait_until(|| fs::remove_dir(&self.group).is_ok()), "the group cannot be removed");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.folder.to_str().unwrap()), "a mount is left");
    }
}

#[test]
fn nothing_is_left_whoever_is_killed() {
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    let Some(folder) = folder() else { return };
    let hierarchy = hierarchy();
    let mut delays = Delays(0x9e37_79b9_7f4a_7c15);
    let mut seen = BTreeSet::new();
    for round in 0..ROUNDS {
        let victim = [Victim::Control, Victim::Pod, Victim::Container][round as usize % 3];
        let group = hierarchy.join(format!("corten-test-{}-{round}", std::process::id()));
        fs::create_dir(&group).unwrap();
        let socket = folder.path().join(format!("{round}.sock"));
        let load = Command::new(env!("CARGO_BIN_EXE_pod-load"))
            .arg(folder.path().join("root"))
            .arg(&socket)
            .arg(folder.path().join("log"))
            .arg(&group)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut round = Round { folder: folder.path(), socket, group, load };
        std::thread::sleep(delays.next());
        seen.insert((victim, round.strike(victim)));
        round.leaves_nothing();
    }
    assert!(seen.contains(&(Victim::Control, Found::Adopted)), "{seen:?}");
    assert!(seen.contains(&(Victim::Pod, Found::Running)), "{seen:?}");
    assert!(seen.contains(&(Victim::Container, Found::Adopted)), "{seen:?}");
}
