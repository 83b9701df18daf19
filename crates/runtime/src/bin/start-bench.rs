//! How long a container takes from the request to the news of its end, by our runtime and by runc, alternately: `/bin/true`
//! with the same limits and the same filter of system calls, which is ours of every container, given to both as a file in the
//! field's JSON. Prints a row a kind; ratios are taken round by round.
//!
//! `start-bench [ROUNDS]`; needs root, runc and a busybox that is linked statically. What it makes lies in a folder of the
//! system's temporary directory and in control groups of its own.

use std::env;
use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use corten_runtime::engine::{ContainerId, Engine, Event};
use corten_runtime::own::{Own, Settings};
use corten_runtime::spec::{ContainerSpec, Limits, PodSpec, Seccomp};
use corten_stdx::clock::{Clock, Stopwatch};
use corten_stdx::task::Tasks;
use corten_sys::cgroup::Hierarchies;
use serde_json::{Value, json};
use tokio::sync::mpsc;

type Failure = Box<dyn Error>;

const ROUNDS: usize = 50;

/// What nothing should reach.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let rounds = match arguments.as_slice() {
        [] => Ok(ROUNDS),
        [rounds] => rounds.parse(),
        _ => {
            eprintln!("usage: start-bench [ROUNDS]");
            return ExitCode::FAILURE;
        }
    };
    let done = rounds.map_err(Failure::from).and_then(|rounds| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(measure(rounds))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("start-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(rounds: usize) -> Result<(), Failure> {
    let instance = format!("bench{}", std::process::id());
    let folder = env::temp_dir().join(format!("corten-{instance}"));
    fs::create_dir(&folder)?;
    let measured = match files(&folder) {
        Ok(()) => rows(rounds, &instance, &folder).await,
        Err(error) => Err(error),
    };
    fs::remove_dir_all(&folder)?;
    Hierarchies::detect()?.group(format!("corten-{instance}")).remove_all()?;
    let measured = measured?;
    let [.., (_, runc)] = &measured;
    println!(
        "| `/bin/true`, created to its end known, ms | p50 | p99 | of runc's, p50 [p10–p90] | n |\n|---|---|---|---|---|"
    );
    for (name, times) in &measured {
        let took = Sorted::of(times.iter().map(|time| time.as_secs_f64() * 1e3));
        let ratio = Sorted::of(times.iter().zip(runc).map(|(own, other)| own.as_secs_f64() / other.as_secs_f64()));
        let [p10, p50, p90] = [10, 50, 90].map(|percent| ratio.at(percent));
        let n = times.len();
        println!("| {name} | {:.2} | {:.2} | {p50:.2} [{p10:.2}–{p90:.2}] | {n} |", took.at(50), took.at(99));
    }
    Ok(())
}

struct Sorted(Vec<f64>);

impl Sorted {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value that so many per cent do not exceed; not a number where there is none.
    fn at(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1) - 1;
        self.0.get(rank).copied().unwrap_or(f64::NAN)
    }
}

/// The container's files and the profile.
fn files(folder: &Path) -> Result<(), Failure> {
    let root = folder.join("root");
    for name in ["bin", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(name))?;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|place| place.join("busybox")).find(|file| file.is_file());
    let busybox = found.ok_or("busybox is missing; apt-get install -y busybox-static")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    symlink("busybox", root.join("bin/true"))?;
    Ok(fs::write(folder.join("profile.json"), profile().to_string())?)
}

/// The filter of a container without special capabilities, as a file.
fn profile() -> Value {
    let table = include_str!("../seccomp/default.txt");
    let rows = table.lines().filter_map(|row| row.strip_prefix("- "));
    let names: Vec<&str> = rows.flat_map(|row| row.split(' ')).collect();
    let argument = |name: &str, op: &str, value: u64, other: u64| {
        json!({"names": [name], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "op": op, "value": value, "valueTwo": other}]})
    };
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": names, "action": "SCMP_ACT_ALLOW"},
            argument("socket", "SCMP_CMP_NE", 40, 0),
            argument("personality", "SCMP_CMP_EQ", 0, 0),
            argument("clone", "SCMP_CMP_MASKED_EQ", 0x7e02_0000, 0),
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ],
    })
}

type Rows = [(&'static str, Vec<Duration>); 3];

async fn rows(rounds: usize, instance: &str, folder: &Path) -> Result<Rows, Failure> {
    let bench = Bench::open(instance, folder).await?;
    let mut events = bench.own.events();
    bench.own.create_pod(&bench.pod("standing")).await?;
    let mut rows: Rows = [
        ("a container in a standing pod", Vec::new()),
        ("a container with a pod of its own", Vec::new()),
        ("runc", Vec::new()),
    ];
    for round in 0..rounds {
        let watch = Stopwatch::start();
        bench.container("standing", &mut events).await?;
        rows[0].1.push(watch.elapsed());
        let pod = format!("pod{round}");
        let watch = Stopwatch::start();
        bench.own.create_pod(&bench.pod(&pod)).await?;
        bench.container(&pod, &mut events).await?;
        rows[1].1.push(watch.elapsed());
        bench.own.remove_pod(&pod).await?;
        let watch = Stopwatch::start();
        bench.runc(&pod)?;
        rows[2].1.push(watch.elapsed());
    }
    bench.own.remove_pod("standing").await?;
    Ok(rows)
}

struct Bench {
    own: Own,
    spec: ContainerSpec,
    folder: PathBuf,
}

impl Bench {
    async fn open(instance: &str, folder: &Path) -> Result<Self, Failure> {
        let root = folder.join("root");
        let settings = Settings {
            instance: instance.to_owned(),
            pods: folder.join("pods"),
            sockets: folder.join("run"),
            hierarchies: Hierarchies::detect()?,
            tasks: Tasks::new(),
            clock: Clock::system(),
        };
        let mut spec = ContainerSpec {
            name: "main".to_owned(),
            layers: vec![root.clone()],
            args: vec!["/bin/true".to_owned()],
            log_path: folder.join("log"),
            limits: Limits {
                cpu_shares: Some(512),
                cpu_milli: Some(500),
                memory_bytes: Some(64 << 20),
                pids: Some(64),
                ..Limits::default()
            },
            ..ContainerSpec::default()
        };
        spec.security.no_new_privileges = true;
        spec.security.seccomp = Seccomp::File(folder.join("profile.json"));
        let group = format!("/corten-{instance}-runc");
        fs::write(folder.join("config.json"), config(&root, &group, &profile()).to_string())?;
        Ok(Self { own: Own::open(settings).await?, spec, folder: folder.to_owned() })
    }

    fn pod(&self, id: &str) -> PodSpec {
        let cgroup = PathBuf::from(format!("pods/{id}"));
        PodSpec { id: id.to_owned(), hostname: "bench".to_owned(), cgroup, ..PodSpec::default() }
    }

    /// Until its end is known; then it is forgotten.
    async fn container(&self, pod: &str, events: &mut mpsc::Receiver<Event>) -> Result<(), Failure> {
        self.own.start(pod, &self.spec).await?;
        match tokio::time::timeout(LIMIT, events.recv()).await? {
            Some(Event::Exited(_, exit)) if exit.code == 0 => {}
            other => return Err(format!("{other:?} instead of a good end").into()),
        }
        let id = ContainerId { pod: pod.to_owned(), name: "main".to_owned(), attempt: 0 };
        Ok(self.own.remove(&id).await?)
    }

    fn runc(&self, id: &str) -> Result<(), Failure> {
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(self.folder.join("runc")).arg("run").arg("--bundle").arg(&self.folder).arg(id);
        let status = runc.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(format!("runc: {status}").into()) }
    }
}

/// The same container for runc: the files are read-only, as it makes no writable layer.
fn config(root: &Path, group: &str, profile: &Value) -> Value {
    let mount = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
    let capabilities =
        ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE"];
    let namespaces = ["pid", "ipc", "uts", "mount", "network", "cgroup"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "hostname": "bench",
        "root": {"path": root, "readonly": true},
        "process": {
            "terminal": false, "cwd": "/", "args": ["/bin/true"], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": true,
        },
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "cgroupsPath": group,
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": 64 << 20}, "pids": {"limit": 64},
                "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
            },
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": profile,
        },
    })
}
