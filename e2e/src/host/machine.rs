//! The server: its disk, its cable, its processes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, mount};
use tempfile::TempDir;

use crate::process::{Process, wait};
use crate::spine::node::{LIMIT, Node, make_images};

/// Where its edge is.
pub(super) const EDGE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 80));

/// Where its data are, there.
pub(super) const DATA: &str = "/var/lib/corten";

/// What this test brings, there.
pub(super) const CORTEN: &str = "/corten/corten";

/// Images in its store from the beginning.
pub(super) const IMAGES: [&str; 2] = ["busybox", "database"];

/// Its network's name.
const SPACE: &str = "corten-e2e-host";

/// What its disk begins with, beside what programs are.
const FOLDERS: [&str; 9] = [
    "root",
    "corten",
    "local/bin",
    "local/lib",
    "etc/systemd/system",
    "var/lib",
    "var/log/journal",
    "var/tmp",
    "var/cache",
];

/// Files of this machine that programs read.
const FILES: [&str; 6] = ["group", "ld.so.cache", "mke2fs.conf", "nsswitch.conf", "passwd", "shadow"];

/// Units that would touch what is this machine's: devices, the console, the clock, the kernel.
const MASKED: [&str; 18] = [
    "console-getty.service",
    "dbus.service",
    "dbus.socket",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "getty.target",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-firstboot.service",
    "systemd-journald-audit.socket",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
];

const BOOT: &str = include_str!("boot.sh");

pub(super) struct Machine {
    folder: TempDir,
    /// The program under test and kubectl's folder, here.
    program: PathBuf,
    programs: PathBuf,
    /// While it is on. It becomes what waits for the first process in there.
    power: Option<Process>,
}

impl Machine {
    /// Its disk, with images in the store of Corten.
    pub(super) fn new(program: &Path, programs: &Path) -> Result<Self> {
        ip(&["link", "set", "lo", "up"])?;
        fs::create_dir_all(NAMES)?;
        mount(SPACE, NAMES, "tmpfs", MountFlags::empty(), None).with_context(|| format!("mount on {NAMES}"))?;
        let (program, programs) = (program.to_owned(), programs.to_owned());
        let machine = Self { folder: tempfile::tempdir()?, program, programs, power: None };
        for folder in FOLDERS {
            fs::create_dir_all(machine.disk(folder))?;
        }
        for file in FILES {
            let from = Path::new("/etc").join(file);
            fs::copy(&from, machine.disk("etc").join(file)).with_context(|| from.display().to_string())?;
        }
        fs::write(machine.disk("etc/hostname"), "host-1\n")?;
        fs::write(machine.disk("etc/machine-id"), "0123456789abcdef0123456789abcdef\n")?;
        symlink("/lib/systemd/system/multi-user.target", machine.disk("etc/systemd/system/default.target"))?;
        let alternatives = Command::new("cp").args(["-a", "/etc/alternatives"]).arg(machine.disk("etc")).status()?;
        ensure!(alternatives.success(), "cp: {alternatives}");
        for unit in MASKED {
            symlink("/dev/null", machine.disk("etc/systemd/system").join(unit))?;
        }
        fs::write(machine.disk("boot.sh"), BOOT)?;
        for (from, name) in [(&machine.program, "corten"), (&machine.programs.join("kubectl"), "kubectl")] {
            fs::copy(from, machine.disk("corten").join(name)).with_context(|| from.display().to_string())?;
        }
        make_images(&machine.program, &machine.disk(DATA), &IMAGES)?;
        Ok(machine)
    }

    /// Where a path of its disk is here.
    pub(super) fn disk(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    /// Where a file of this test is here, which is in `/corten` there.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.disk("corten").join(name)
    }

    /// What its control groups are called.
    fn group(&self) -> String {
        let folder = self.folder.path().file_name().unwrap_or_default().to_string_lossy();
        format!("corten-e2e-host{}", folder.replace('.', "-"))
    }

    /// Switches it on and waits until systemd has started everything that it is to start.
    pub(super) fn boot(&mut self) -> Result<()> {
        for line in [
            &["netns", "add", SPACE][..],
            &["-n", SPACE, "link", "set", "lo", "up"],
            &["link", "add", "cable", "type", "veth", "peer", "name", "eth0", "netns", SPACE],
            &["address", "add", "192.0.2.1/24", "dev", "cable"],
            &["link", "set", "cable", "up"],
            &["-n", SPACE, "address", "add", "192.0.2.2/24", "dev", "eth0"],
            &["-n", SPACE, "link", "set", "eth0", "up"],
            &["-n", SPACE, "route", "add", "default", "via", "192.0.2.1"],
        ] {
            ip(line)?;
        }
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={NAMES}/{SPACE}"));
        command.args(["unshare", "--mount", "--propagation", "private", "--uts", "--ipc", "--", "/bin/sh"]);
        command.arg(self.disk("boot.sh")).arg(self.folder.path()).arg(self.group());
        self.power = Some(Process::start("systemd", &command, self.folder.path())?);
        wait(LIMIT, || {
            self.power.as_mut().context("it is on")?.check()?;
            let Ok(said) = self.output(&["systemctl", "is-system-running"]) else { return Ok(None) };
            Ok(["running", "degraded"].contains(&String::from_utf8_lossy(&said.stdout).trim()).then_some(()))
        })
        .context("systemd does not come up")
    }

    /// Ends all of it at once, without a word to anybody.
    pub(super) fn cut_power(&mut self) -> Result<()> {
        // Dropping a process kills it and waits for its end; the kernel ends all others in there with it.
        drop(self.power.take());
        self.gone()
    }

    /// Has it go down by itself, and waits until it has.
    pub(super) fn shut_down(&mut self) -> Result<()> {
        // Who asks may be ended before it can say that it went well.
        let said = self.output(&["systemctl", "reboot"])?;
        let power = self.power.as_mut().context("it is on")?;
        let down = wait(LIMIT, || power.has_ended());
        down.with_context(|| format!("it does not go down: {}", String::from_utf8_lossy(&said.stderr)))?;
        drop(self.power.take());
        self.gone()
    }

    /// What a server has no more when it is off.
    fn gone(&self) -> Result<()> {
        let names = Path::new(NAMES).join(SPACE);
        if names.exists() {
            ip(&["netns", "del", SPACE])?;
        }
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let folders = mounts.lines().filter_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            matches!(words.get(2), Some(&"cgroup" | &"cgroup2")).then(|| Path::new(words[1]).join(self.group()))
        });
        for folder in folders.filter(|folder| folder.exists()) {
            // The last process may take a moment to leave.
            wait(LIMIT, || Ok(remove_groups(&folder).ok()))
                .with_context(|| format!("the group {}", folder.display()))?;
        }
        // The other end of its cable goes with its network, a moment later.
        wait(LIMIT, || Ok(ip(&["link", "show", "cable"]).is_err().then_some(()))).context("its cable")
    }

    /// The first process in there, by this machine's count.
    fn first(&self) -> Result<String> {
        let (_, pid) = self.power.as_ref().context("it is on")?.identity();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        Ok(children.split_whitespace().next().context("it has no process yet")?.to_owned())
    }

    /// A command in there.
    pub(super) fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first()?, "--mount", "--net", "--uts", "--ipc", "--pid", "--cgroup"]);
        command.args(["--wd=/", "--", "/usr/bin/env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/corten"]);
        command.arg(format!("KUBECONFIG={DATA}/admin.kubeconfig")).arg("HOME=/tmp").args(words);
        Ok(command)
    }

    pub(super) fn output(&self, words: &[&str]) -> Result<Output> {
        self.command(words)?.output().context("nsenter (util-linux)")
    }

    /// What a command says; an error if it fails.
    pub(super) fn run(&self, words: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = self.output(words)?;
        let said = String::from_utf8_lossy(&stderr);
        ensure!(status.success(), "{}: {status}: {}", words.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// What a command says that is to fail.
    pub(super) fn refused(&self, words: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = self.output(words)?;
        let said = String::from_utf8_lossy(&stdout);
        ensure!(status.code() == Some(1), "{}: {status}: {said}", words.join(" "));
        Ok(String::from_utf8_lossy(&stderr).into_owned())
    }

    pub(super) fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.run(&[&["kubectl"], words].concat())
    }

    /// A property of the service.
    pub(super) fn property(&self, name: &str) -> Result<String> {
        let value = self.run(&["systemctl", "show", "--value", "--property", name, "corten"])?;
        Ok(value.trim().to_owned())
    }

    /// A server at the other end of its cable, of the same programs.
    pub(super) fn other(&self) -> Result<Node> {
        Node::new(self.program.clone(), &self.programs)
    }

    /// Kills control, and waits until systemd has started it again.
    pub(super) fn killed(&self) -> Result<()> {
        let pid = self.property("MainPID")?;
        self.run(&["kill", "-KILL", &pid])?;
        wait(LIMIT, || {
            // In this order: systemd takes the killed one for active until it has heard of its end.
            let now = self.property("MainPID")?;
            let is_another = now != pid && now != "0";
            Ok((is_another && self.property("ActiveState")? == "active").then_some(()))
        })
    }

    /// Waits until the service is ready.
    pub(super) fn ready(&self) -> Result<()> {
        wait(LIMIT, || Ok((self.property("ActiveState")? == "active").then_some(())))
            .with_context(|| format!("the service is not ready:\n{}", self.report()))
    }

    /// What helps to understand a failure.
    pub(super) fn report(&self) -> String {
        let asked = [
            &["journalctl", "--no-pager", "--lines", "60", "--output", "short-monotonic"][..],
            &["kubectl", "get", "pods", "-A", "-o", "wide"],
            &["kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp"],
        ];
        let said =
            asked.map(|words| self.output(words).map(|output| String::from_utf8_lossy(&output.stdout).into_owned()));
        said.into_iter().map(|said| said.unwrap_or_else(|error| format!("{error:#}"))).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.cut_power() {
            eprintln!("{error:#}");
        }
    }
}

const NAMES: &str = "/run/netns";

fn remove_groups(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    Ok(fs::remove_dir(folder)?)
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).output().context("ip (iproute2)")?;
    ensure!(output.status.success(), "ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
