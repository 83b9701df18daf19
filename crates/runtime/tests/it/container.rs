//! A pod for a test: a folder with busybox in it, a socket, logs; and plans to start from.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use corten_podspec::{Credentials, Exited, Mount, MountKind, Output, Root, Setup, Shutdown, Start};
use corten_runtime::{Connection, Error, Program, spawn};
use tempfile::TempDir;

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 12] =
    ["sh", "cat", "echo", "sleep", "true", "id", "ls", "yes", "head", "hostname", "touch", "trap"];

/// What nothing in a test should reach.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The kill test counts what is left on the machine, so it runs alone.
pub(crate) static ALONE: RwLock<()> = RwLock::new(());

pub(crate) struct Pod {
    pub(crate) folder: TempDir,
    pub(crate) connection: Connection,
    child: Child,
    _shared: RwLockReadGuard<'static, ()>,
}

/// Namespaces and mounts need root. Without it the tests fail, unless the variable says that this is known.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CORTEN_TESTS_WITHOUT_ROOT").is_some(), "the tests of the pod process need root");
        eprintln!("SKIPPED: namespaces need root");
    }
    root
}

/// A folder with a root file system in it; none without root.
pub(crate) fn folder() -> Option<TempDir> {
    if !is_root() {
        return None;
    }
    assert!(Path::new(BUSYBOX).is_file(), "no {BUSYBOX}: apt-get install -y busybox-static");
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for below in ["bin", "proc", "dev", "tmp", "etc"] {
        fs::create_dir_all(root.join(below)).unwrap();
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    for below in ["upper", "work"] {
        fs::create_dir(folder.path().join(below)).unwrap();
    }
    Some(folder)
}

impl Pod {
    /// A pod process that has its namespaces.
    pub(crate) fn new() -> Option<Self> {
        let mut pod = Self::bare()?;
        let setup = Setup { hostname: c"pod-test".to_owned(), shm_bytes: 1 << 20, ..Setup::default() };
        pod.connection.call(setup).unwrap();
        Some(pod)
    }

    /// One that is not set up yet.
    pub(crate) fn bare() -> Option<Self> {
        let shared = ALONE.read().unwrap_or_else(PoisonError::into_inner);
        let folder = folder()?;
        let program = Program::load().unwrap();
        let (child, mut connection) = spawn(&program, &folder.path().join("pod.sock")).unwrap();
        let welcome = connection.hello().unwrap();
        assert!(!welcome.set_up && welcome.processes.is_empty());
        Some(Self { folder, connection, child, _shared: shared })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("pod.sock")
    }

    /// A container that runs a shell script over a writable overlay, with output in `log`.
    pub(crate) fn plan(&self, key: u64, script: &str) -> Start {
        Start {
            key,
            root: Root {
                lowers: vec![c_path(&self.path("root"))],
                upper: c_path(&self.path("upper")),
                work: c_path(&self.path("work")),
                as_list: !layers_one_by_one(),
                ..Root::default()
            },
            mounts: vec![
                mount(MountKind::Proc, c"/proc"),
                mount(MountKind::Tmpfs, c"/dev"),
                mount(MountKind::Shm, c"/dev/shm"),
            ],
            output: Output { log_path: c_path(&self.path("log")) },
            credentials: shell(script),
            ..Start::default()
        }
    }

    /// Starts a container and waits for its end.
    pub(crate) fn run(&mut self, plan: Start) -> Exited {
        self.connection.call(plan).unwrap();
        self.exit()
    }

    pub(crate) fn exit(&mut self) -> Exited {
        self.connection.next_exit(LIMIT).unwrap().expect("it ends within the limit")
    }

    /// Content of the log's lines, without times.
    pub(crate) fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("log")).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    /// What a script prints when it is run in a container of its own.
    pub(crate) fn output(&mut self, plan: Start) -> String {
        let exited = self.run(plan);
        let lines: Vec<_> = self.log().iter().map(|line| line[9..].to_owned()).collect();
        assert_eq!(exited.code, 0, "{lines:?}");
        lines.join("\n")
    }

    /// Waits for the pod process to end by itself.
    pub(crate) fn ends(&mut self) -> bool {
        wait_until(|| self.child.try_wait().unwrap().is_some())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        match self.connection.call(Shutdown { forget_exits: true }) {
            Ok(_) | Err(Error::Closed) => {}
            Err(_) => drop(self.child.kill()),
        }
        drop(self.child.wait());
    }
}

/// Looks again and again, up to the limit.
pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) -> bool {
    let pause = Duration::from_millis(5);
    let looks = LIMIT.as_millis() / pause.as_millis();
    (0..looks).any(|_| {
        let is = holds();
        if !is {
            std::thread::sleep(pause);
        }
        is
    })
}

/// overlayfs takes one layer after the other since 6.7.
fn layers_one_by_one() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap());
    (numbers.next(), numbers.next()) >= (Some(6), Some(7))
}

pub(crate) fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

pub(crate) fn mount(kind: MountKind, target: &CStr) -> Mount {
    Mount { kind, target: target.to_owned(), ..Mount::default() }
}

pub(crate) fn shell(script: &str) -> Credentials {
    let args = vec![c"/bin/sh".to_owned(), c"-c".to_owned(), CString::new(script).unwrap()];
    let env = vec![c"PATH=/bin".to_owned()];
    Credentials { args, env, no_new_privs: true, ..Credentials::default() }
}
