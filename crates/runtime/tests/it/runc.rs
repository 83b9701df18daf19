//! The same container by our runtime and by Debian's runc: what it sees of itself is the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use corten_runtime::spec::{ContainerSpec, Limits, Mount, Propagation, Seccomp, User};
use serde_json::{Value, json};

use crate::node::Node;

const RUNC: &str = "runc";

/// One section a question; each line is a fact.
const SCRIPT: &str = r#"
b=/bin/busybox
section() { echo "== $1"; }
section status; $b grep -E '^(Uid|Gid|Groups|NoNewPrivs|Seccomp|Cap|SigBlk|Umask)' /proc/self/status
section mounts; $b cat /proc/self/mountinfo
section dev; $b stat -c '%n %A %u %g %t:%T' /dev/*; for f in fd stdin stdout stderr ptmx; do $b readlink /dev/$f; done
section groups; for f in memory/memory.limit_in_bytes pids/pids.max cpu/cpu.shares cpu/cpu.cfs_quota_us devices/devices.list \
    memory.max pids.max cpu.max cpu.weight; do echo "$f"; $b cat /sys/fs/cgroup/$f 2>/dev/null; done
section limits; ulimit -n; ulimit -Hn; ulimit -c; ulimit -u; ulimit -s; ulimit -l
section env; $b env | $b sort
section place; pwd; $b cat /proc/self/oom_score_adj; $b hostname; $b id; $b ls -ld /job /given
section namespaces; $b cat /proc/self/cgroup; echo /proc/[0-9]*
section refused; for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/x /given/x /job/x; do
    if echo x 2>/dev/null > $f; then echo "$f written"; else echo "$f refused"; fi; done
$b hostname other 2>&1; $b ln -s a /mnt/b 2>&1; $b mknod /dev/sda b 8 0 2>&1 && $b head -c 1 /dev/sda 2>&1
section masked; $b ls /proc/acpi /sys/firmware 2>&1; $b head -c 1 /proc/timer_list | $b wc -c
"#;

/// Sections by name, lines in order.
fn sections(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        match line.strip_prefix("== ") {
            Some(name) => current = name.to_owned(),
            None => found.entry(current.clone()).or_default().push(line.to_owned()),
        }
    }
    found.entry("mounts".to_owned()).and_modify(|lines| *lines = mounts(lines));
    // runc before 1.2 lets everybody make tunnels.
    found.entry("groups".to_owned()).and_modify(|lines| lines.retain(|line| line != "c 10:200 rwm"));
    found
}

/// Target, kind and options of each mount. Left out is which of them keep access times, where the root comes from, what covers
/// a file (for us the host's /dev/null: the container's own could be anything), and that our folder of hierarchies is read-only.
fn mounts(lines: &[String]) -> Vec<String> {
    let row = |line: &String| {
        let (mount, file_system) = line.split_once(" - ").unwrap();
        let fields: Vec<&str> = mount.split(' ').collect();
        let kind = file_system.split(' ').next().unwrap();
        let mut options: Vec<&str> = fields[5].split(',').filter(|option| *option != "relatime").collect();
        options.sort_unstable();
        let covers = fields[3] == "/null";
        let of_groups = fields[4] == "/sys/fs/cgroup" && kind == "tmpfs";
        if covers || of_groups {
            return fields[4].to_owned();
        }
        let kind = if fields[4] == "/" { "root" } else { kind };
        let propagation = fields.get(6).filter(|field| field.starts_with("shared")).map_or("", |_| "shared");
        format!("{} {kind} {} {propagation}", fields[4], options.join(","))
    };
    let mut rows: Vec<String> = lines.iter().map(row).collect();
    rows.sort();
    rows
}

fn profile() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["sethostname", "symlink", "symlinkat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
    })
}

const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What a node's container is for runc.
fn config(spec: &ContainerSpec, group: &str, root: &Path, uid: u32, groups: &[u32]) -> Value {
    let mount = |target: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": source, "options": options});
    let given = &spec.mounts[0];
    let namespaces = ["pid", "ipc", "uts", "mount", "network", "cgroup"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "hostname": "same",
        "root": {"path": root, "readonly": spec.readonly_root},
        "process": {
            "terminal": false, "cwd": spec.cwd, "args": spec.args,
            "env": ["PATH=/bin", "HOSTNAME=same", "HOME=/"],
            "user": {"uid": uid, "gid": 0, "additionalGids": groups, "umask": 0o22},
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
            "noNewPrivileges": spec.security.no_new_privileges,
            "oomScoreAdj": spec.oom_score_adj,
        },
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
            mount(given.target.to_str().unwrap(), "bind", given.source.to_str().unwrap(), &["rbind", "rprivate", "ro"]),
        ],
        "linux": {
            "cgroupsPath": group,
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": spec.limits.memory_bytes},
                "pids": {"limit": spec.limits.pids},
                "cpu": {"shares": spec.limits.cpu_shares, "quota": 50_000, "period": 100_000},
            },
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
                "/sys/devices/virtual/powercap"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": profile(),
        },
    })
}

fn by_runc(node: &Node, spec: &ContainerSpec, uid: u32, groups: &[u32]) -> String {
    let bundle = node.path("bundle");
    fs::create_dir_all(&bundle).unwrap();
    let copied = Command::new("cp").arg("-a").arg(node.path("root")).arg(bundle.join("root")).status().unwrap();
    assert!(copied.success());
    let group = format!("/corten-{}-runc", node.instance);
    let config = config(spec, &group, &bundle.join("root"), uid, groups);
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let mut runc = Command::new(RUNC);
    runc.arg("--root").arg(node.path("runc")).arg("run").arg("--bundle").arg(&bundle).arg(&node.instance);
    let output = runc.output().expect("runc is installed: apt-get install -y runc");
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {errors}{text}", output.status);
    fs::remove_dir_all(&bundle).unwrap();
    text
}

/// Lines that only one side has.
fn difference(section: &str, ours: &BTreeMap<String, Vec<String>>, theirs: &[String]) -> Option<String> {
    let own = ours.get(section).map(Vec::as_slice).unwrap_or_default();
    let only = |these: &[String], others: &[String], sign: &str| {
        let lines = these.iter().filter(|line| !others.contains(line));
        lines.map(|line| format!("{sign} {line}")).collect::<Vec<_>>()
    };
    let lines = [only(own, theirs, "ours  "), only(theirs, own, "theirs")].concat();
    (!lines.is_empty()).then(|| format!("{section}:\n{}", lines.join("\n")))
}

async fn compare(uid: u32, readonly: bool, no_new_privileges: bool) {
    let Some(mut node) = Node::new().await else { return };
    fs::create_dir(node.path("given")).unwrap();
    for made in ["job", "given", "mnt", "sys"] {
        fs::create_dir(node.path("root").join(made)).unwrap();
    }
    fs::write(node.path("profile.json"), profile().to_string()).unwrap();
    let groups = [0, 7, 9];
    let mut spec = node.spec(SCRIPT);
    spec.cwd = "/job".to_owned();
    spec.readonly_root = readonly;
    spec.user = User { uid: Some(uid), supplemental_groups: groups.to_vec(), ..User::default() };
    spec.mounts = vec![Mount {
        source: node.path("given"),
        target: "/given".into(),
        readonly: true,
        propagation: Propagation::Private,
    }];
    spec.security.no_new_privileges = no_new_privileges;
    spec.security.seccomp = Seccomp::File(node.path("profile.json"));
    spec.limits = Limits {
        memory_bytes: Some(64 << 20),
        pids: Some(50),
        cpu_milli: Some(500),
        cpu_shares: Some(512),
        ..Limits::default()
    };
    spec.oom_score_adj = 500;
    let theirs = sections(&by_runc(&node, &spec, uid, &groups));
    let mut pod = node.pod_spec("a");
    pod.hostname = "same".to_owned();
    let ours = sections(&node.output_in(&pod, &spec).await);
    let differences: Vec<String> =
        theirs.iter().filter_map(|(section, lines)| difference(section, &ours, lines)).collect();
    assert!(differences.is_empty(), "uid {uid}:\n{}", differences.join("\n"));
    assert_eq!(theirs.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_sees_what_runc_shows() {
    compare(0, false, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_what_runc_shows() {
    compare(1000, true, false).await;
}
