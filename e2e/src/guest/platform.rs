//! A node in the guest, from `up` to `purge`, with the real kubectl.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{HOME, kills};
use crate::spine::faults::POD_PIDS_MAX;
use crate::spine::node::{LIMIT, Node};
use crate::spine::traces::Traces;

const WORKLOAD: &str = include_str!("workload.yaml");

/// What its server shows.
const PAGE: &str = "from a pod of the guest\n";

/// What a container of the workload finds as its limits.
const LIMITS: &str = "memory.max 67108864\nmemory.oom.group 1\ncpu.max 50000 100000\ncpu.weight 4\npids.max max\n";

/// What it is called by those who ask for nothing in particular.
const PLAIN: &str = "web";

/// Its Deployment.
const WEB: &str = "deployment/web";

type Step = fn(&mut Platform) -> Result<()>;

pub(super) struct Platform {
    node: Node,
    before: Traces,
    folder: TempDir,
}

impl Platform {
    pub(super) fn new() -> Result<Self> {
        let before = Traces::settled(&[])?;
        let home = Path::new(HOME);
        Ok(Self { node: Node::new(home.join("corten"), home)?, before, folder: tempfile::tempdir()? })
    }

    /// They build on each other.
    pub(super) fn steps(&self) -> [(&'static str, Step); 8] {
        [
            ("up", |platform| platform.node.up()),
            ("image and workload", Self::deploy),
            ("limits", Self::limits),
            ("exec and service", Self::reach),
            ("out of memory", Self::out_of_memory),
            ("control dies and adopts", Self::adoption),
            ("everybody else dies", |platform| kills::each(&platform.node)),
            ("purge", Self::purge),
        ]
    }

    pub(super) fn report(&self) -> Result<String> {
        self.node.report()
    }

    fn deploy(&mut self) -> Result<()> {
        let root = self.folder.path().join("root");
        for folder in ["bin", "www"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))?;
        for applet in ["cat", "httpd", "sh", "wget"] {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        fs::write(root.join("www/index.html"), PAGE)?;
        self.node.corten(&["image", "from-root", &root.display().to_string(), "--tag", "guest.local/busybox:1"])?;
        let manifest = self.folder.path().join("workload.yaml");
        fs::write(&manifest, WORKLOAD)?;
        self.node.kubectl(&["apply", "-f", &manifest.display().to_string()])?;
        self.node.kubectl(&["rollout", "status", WEB, &timeout()])?;
        Ok(())
    }

    /// What the API was told, the kernel says: to the container, by its log; and outside, for the pod as a whole.
    fn limits(&mut self) -> Result<()> {
        let said = self.node.kubectl(&["logs", WEB])?;
        ensure!(said == LIMITS, "a container finds\n{said}and not\n{LIMITS}");
        let uid = self.node.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.uid}"])?;
        let pod = self.group()?.join("burstable").join(format!("pod{uid}"));
        for (file, value) in [("memory.max", "67108864"), ("cpu.max", "50000 100000"), ("pids.max", POD_PIDS_MAX)] {
            let found = fs::read_to_string(pod.join(file)).with_context(|| pod.join(file).display().to_string())?;
            ensure!(found.trim() == value, "the pod's {file} is {found}");
        }
        Ok(())
    }

    /// Inside, through the Service's name; outside, through its address.
    fn reach(&mut self) -> Result<()> {
        let url = "http://web.default.svc.cluster.local/";
        let page = self.node.kubectl(&["exec", WEB, "--", "wget", "-q", "-O", "-", url])?;
        ensure!(page == PAGE, "{url} shows {page:?}");
        let refused = self.node.kubectl(&["exec", WEB, "--", "sh", "-c", "echo max > /sys/fs/cgroup/memory.max"]);
        ensure!(refused.is_err(), "a container has lifted its own limit");
        self.answers()
    }

    fn answers(&self) -> Result<()> {
        let address = self.node.field("default", "service/web", "{.spec.clusterIP}")?;
        (0..10).try_for_each(|_| visit(&address, PLAIN))
    }

    fn out_of_memory(&mut self) -> Result<()> {
        let state = "{.status.containerStatuses[0].state.terminated.reason}";
        self.node.kubectl(&["wait", "pod/hungry", &format!("--for=jsonpath={state}=OOMKilled"), &timeout()])?;
        let code =
            self.node.field("default", "pod/hungry", "{.status.containerStatuses[0].state.terminated.exitCode}")?;
        ensure!(code == "137", "it ended with {code}");
        Ok(())
    }

    /// SIGKILL ends control alone.
    fn adoption(&mut self) -> Result<()> {
        let restarts =
            ["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}"];
        let address = self.node.field("default", "service/web", "{.spec.clusterIP}")?;
        let before = firsts(&self.group()?)?;
        ensure!(before.len() >= 4, "two pods have a process each, and their containers: {before:?}");
        self.node.kubectl(&["create", "configmap", "told"])?;
        self.node.kill()?;
        visit(&address, PLAIN)?;
        self.node.up()?;
        self.node.kubectl(&["get", "configmap", "told"]).context("what was answered before the kill")?;
        let after = firsts(&self.group()?)?;
        ensure!(before == after, "processes were {before:?} and are {after:?}");
        let counts = self.node.kubectl(&restarts)?;
        ensure!(counts == "0 0", "restarts: {counts}");
        visit(&address, PLAIN)
    }

    /// With everything running.
    fn purge(&mut self) -> Result<()> {
        let instance = self.node.instance()?;
        self.node.purge()?;
        self.before.compare(&Traces::settled(&[instance])?)
    }

    /// Of all pods of this instance.
    fn group(&self) -> Result<PathBuf> {
        Ok(Path::new("/sys/fs/cgroup").join(format!("corten-{}", self.node.instance()?)))
    }
}

fn timeout() -> String {
    format!("--timeout={}s", LIMIT.as_secs())
}

/// One request over a connection of its own, for this host.
pub(super) fn visit(address: &str, host: &str) -> Result<()> {
    let mut connection = TcpStream::connect((address, 80)).with_context(|| address.to_owned())?;
    connection.set_read_timeout(Some(Duration::from_secs(30)))?;
    connection.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    ensure!(answer.ends_with(PAGE), "http://{address}/ answers {answer:?}");
    Ok(())
}

/// The first process of a group and of each one below it: the pod's or the container's own, not what it starts for a request.
fn firsts(group: &Path) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let members = fs::read_to_string(group.join("cgroup.procs"))?;
    let members = members.lines().map(str::parse::<u32>).collect::<Result<Vec<_>, _>>()?;
    found.extend(members.into_iter().min());
    for entry in fs::read_dir(group)? {
        let below = entry?.path();
        if below.is_dir() {
            found.extend(firsts(&below)?);
        }
    }
    Ok(found)
}
