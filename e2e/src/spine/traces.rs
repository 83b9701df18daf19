//! What a platform leaves on a machine: links, addresses, routes, rules, mounts, control groups, processes, sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// What does not change for so long stays.
const QUIET: Duration = Duration::from_millis(2500);
const LOOKS_MAX: u32 = 10;

/// What is there at a moment, one line for each thing.
pub(crate) struct Traces(BTreeSet<String>);

impl Traces {
    /// Groups and sockets are those of these instances: others may be at work on this machine.
    pub(crate) fn take(instances: &[String]) -> Result<Self> {
        let mut found = BTreeSet::new();
        for (program, arguments) in [
            ("ip", &["-o", "link", "show"][..]),
            ("ip", &["-o", "address", "show"]),
            ("ip", &["route", "show", "table", "all"]),
            ("ip", &["rule", "show"]),
            ("nft", &["list", "ruleset"]),
        ] {
            let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
            ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            found.extend(text.lines().map(|line| format!("{program}: {}", without_counters(line))));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let own = mounts.filter(|mount| !is_anothers(mount, instances));
        found.extend(own.map(|mount| format!("mount: {mount}")));
        for instance in instances {
            groups(Path::new("/sys/fs/cgroup"), &format!("corten-{instance}"), &mut found)?;
            let sockets = Path::new("/run/corten").join(instance);
            if sockets.exists() {
                found.insert(format!("sockets: {}", sockets.display()));
            }
        }
        processes(&mut found)?;
        for switch in ["net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/all/route_localnet"] {
            let value = fs::read_to_string(Path::new("/proc/sys").join(switch))?;
            found.insert(format!("sysctl: {switch} = {}", value.trim()));
        }
        Ok(Self(found))
    }

    /// The same once nothing changes any more: the kernel takes a second or two to be sure of a new link's own address.
    pub(crate) fn settled(instances: &[String]) -> Result<Self> {
        let mut last = Self::take(instances)?;
        for _ in 0..LOOKS_MAX {
            thread::sleep(QUIET);
            let now = Self::take(instances)?;
            if now.0 == last.0 {
                return Ok(now);
            }
            last = now;
        }
        bail!("this machine does not come to rest")
    }

    /// With the namespaces that processes of these instances are in or keep open.
    pub(crate) fn with_namespaces(instances: &[String]) -> Result<Self> {
        let mut found = Self::take(instances)?;
        let groups: Vec<String> = instances.iter().map(|instance| format!("/corten-{instance}/")).collect();
        let own = fs::read_link("/proc/self/ns/net")?;
        for entry in fs::read_dir("/proc")?.flatten() {
            // One that ends while we look is in none.
            let Ok(of) = fs::read_to_string(entry.path().join("cgroup")) else { continue };
            let near = fs::read_link(entry.path().join("ns/net")).is_ok_and(|namespace| namespace == own);
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if near && name.trim() == "corten" || groups.iter().any(|group| of.contains(group)) {
                namespaces(&entry.path(), &mut found.0);
            }
        }
        Ok(found)
    }

    /// An error that names what is there now and was not, and what is gone.
    pub(crate) fn compare(&self, now: &Self) -> Result<()> {
        let left: Vec<&str> = now.0.difference(&self.0).map(String::as_str).collect();
        let gone: Vec<&str> = self.0.difference(&now.0).map(String::as_str).collect();
        ensure!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
        ensure!(gone.is_empty(), "taken away:\n  {}", gone.join("\n  "));
        Ok(())
    }

    /// An error that names what has come since, where one thing may have been replaced by another of its kind: the number counts.
    pub(crate) fn nothing_more(&self, now: &Self) -> Result<()> {
        let [before, after] = [self, now].map(|traces| {
            let mut counts = BTreeMap::<&str, u32>::new();
            traces.0.iter().for_each(|line| *counts.entry(kind(line)).or_default() += 1);
            counts
        });
        let more = after.iter().filter(|(line, count)| before.get(*line) < Some(*count));
        let more: Vec<&str> = more.map(|(line, _)| *line).filter(|line| !is_of_class(line)).collect();
        ensure!(more.is_empty(), "left behind:\n  {}", more.join("\n  "));
        Ok(())
    }
}

/// Whether a mount is of an instance of somebody else on this machine, which may go at any time.
fn is_anothers(mount: &str, instances: &[String]) -> bool {
    let instance = mount.strip_prefix("/run/corten/").and_then(|rest| rest.split('/').next());
    instance.is_some_and(|of| !instances.iter().any(|instance| instance == of)) || mount.starts_with("/run/netns/")
}

/// Without what may be another each time: the id of a restarted process, which element of a set is told first, and which of its
/// Service's endpoints one is.
fn kind(line: &str) -> &str {
    if line.starts_with("control group: ") {
        return line.split(" with ").next().unwrap_or(line);
    }
    if line.starts_with("process: ") || line.starts_with("namespace: ") {
        return line.rsplit_once(' ').map_or(line, |(name, _)| name);
    }
    if let Some(rule) = line.strip_prefix("nft: ") {
        let rule = rule.trim();
        let element = rule.strip_prefix("elements = {").unwrap_or(rule).trim_matches([' ', ',', '}']);
        let endpoint = element.split_once(" . 0x").and_then(|(_, rest)| rest.split_once(" : "));
        return endpoint.map_or(element, |(_, endpoint)| endpoint);
    }
    line
}

/// Lines of `ip` without times that run.
fn without_counters(line: &str) -> &str {
    line.split(" expires ").next().unwrap_or(line).trim_end()
}

/// Control groups of this name, in every hierarchy, with what is in them.
fn groups(root: &Path, name: &str, found: &mut BTreeSet<String>) -> Result<()> {
    let hierarchies = fs::read_dir(root)?.collect::<Result<Vec<_>, _>>()?;
    let folders = hierarchies.into_iter().map(|entry| entry.path()).chain([root.to_owned()]);
    for folder in folders.map(|folder| folder.join(name)).filter(|folder| folder.is_dir()) {
        group(&folder, found)?;
    }
    Ok(())
}

fn group(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    let members = fs::read_to_string(folder.join("cgroup.procs"))?;
    let members: Vec<&str> = members.lines().collect();
    found.insert(format!("control group: {} with {}", folder.display(), members.join(" ")));
    for entry in fs::read_dir(folder)?.flatten().filter(|entry| entry.path().is_dir()) {
        group(&entry.path(), found)?;
    }
    Ok(())
}

/// Whether it is the group of a quality of service, which stays for the next pod of that.
fn is_of_class(line: &str) -> bool {
    line.starts_with("control group: ") && ["/besteffort", "/burstable"].iter().any(|class| line.ends_with(class))
}

/// As `namespace: net [4026531840]`.
fn namespaces(process: &Path, found: &mut BTreeSet<String>) {
    // A process that ends meanwhile has none.
    let entries = ["ns", "fd"].into_iter().flat_map(|folder| fs::read_dir(process.join(folder)).into_iter().flatten());
    for link in entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()) {
        if let Some((kind, id)) = link.to_string_lossy().split_once(":[")
            && ["net", "mnt", "pid", "ipc", "uts", "cgroup"].contains(&kind)
        {
            found.insert(format!("namespace: {kind} [{id}"));
        }
    }
}

/// Processes in this network namespace or of our programs' names, without this one's.
fn processes(found: &mut BTreeSet<String>) -> Result<()> {
    let own = fs::read_link("/proc/self/ns/net")?;
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let near = fs::read_link(entry.path().join("ns/net")).is_ok_and(|namespace| namespace == own);
        if near && pid != std::process::id() && !is_kernels(&entry.path()) {
            // One that ends while we look leaves nothing.
            let Ok(command) = fs::read_to_string(entry.path().join("comm")) else { continue };
            found.insert(format!("process: {} {pid}", command.trim()));
        }
    }
    Ok(())
}

/// Whether it is a thread of the kernel's, which come and go; their parent is the second process.
fn is_kernels(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
    parent == Some("2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_another_each_time_is_no_difference() {
        let traces = |lines: &[&str]| Traces(lines.iter().map(|line| (*line).to_owned()).collect());
        let before = traces(&[
            "process: corten 1",
            "control group: /g with 1 2",
            "nft: \t\telements = { 10.96.1.1 . tcp . 80 . 0x00000001 : 10.244.0.9 . 8080,",
            "nft: \t\t\t     10.96.1.1 . tcp . 80 . 0x00000002 : 10.244.0.8 . 8080 }",
        ]);
        let after = [
            "process: corten 5",
            "control group: /g with 5",
            "nft: \t\telements = { 10.96.1.1 . tcp . 80 . 0x00000001 : 10.244.0.8 . 8080,",
            "nft: \t\t\t     10.96.1.1 . tcp . 80 . 0x00000002 : 10.244.0.9 . 8080 }",
        ];
        before.nothing_more(&traces(&after)).expect("the same");
        before.nothing_more(&traces(&after[..3])).expect("less");
        assert!(before.compare(&traces(&after)).is_err());
        let second = [&after[..], &["process: corten 6"]].concat();
        assert!(before.nothing_more(&traces(&second)).is_err(), "a process more");
        before.nothing_more(&traces(&["control group: /g/burstable with "])).expect("a class is not a pod");
        assert!(before.nothing_more(&traces(&["control group: /g/burstable/pod1 with "])).is_err(), "a pod's group");
        let endpoint = [&after[..], &["nft: 10.96.1.1 . tcp . 80 . 0x00000003 : 10.244.0.7 . 8080 }"]].concat();
        assert!(before.nothing_more(&traces(&endpoint)).is_err(), "an endpoint more");
    }
}
