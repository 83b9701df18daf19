//! Names that have to be answered whatever is killed meanwhile: the C library's own resolver asks for a Service by its short, its
//! longer and its full name, over and over, by UDP and by TCP, from a pod and from the node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::node::{LIMIT, Node};
use super::shop::NAMESPACE;
use crate::process::{Process, wait};

/// The resolver asks again after five seconds: what took less was not asked twice.
pub(super) const ASKED_ONCE: Duration = Duration::from_millis(4500);

/// A query that a killed server had read already is asked once more.
pub(super) const ASKED_TWICE: Duration = Duration::from_millis(9500);

/// Runs on the node's Python and on that of the shop's image.
const ASKER: &str = include_str!("asker.py");

/// How a resolver is told to use TCP (resolv.conf(5)).
const BY_TCP: &str = "use-vc";

/// As in a pod: names with fewer dots are tried in the cluster first.
const DOTS: &str = "ndots:5";

/// Resolvers that ask without end.
pub(super) struct Askers {
    on_node: Vec<Process>,
    pods: [&'static str; 2],
}

/// What an asker has seen so far.
struct Seen {
    asked: u64,
    slowest: Duration,
}

impl Askers {
    /// Starts all four, and waits until each has an answer.
    pub(super) fn start(node: &Node) -> Result<Self> {
        let names = names(node)?;
        let dns = node.field("kube-system", "service/kube-dns", "{.spec.clusterIP}")?;
        let pods = ["ask-by-udp", "ask-by-tcp"];
        for (pod, options) in pods.into_iter().zip([json!([]), json!([{"name": BY_TCP}])]) {
            let file = node.folder().join(format!("{pod}.json"));
            fs::write(&file, pod_object(pod, &names, &options).to_string())?;
            node.kubectl(&["apply", "-f", &file.display().to_string()])?;
        }
        let on_node = [("names-by-udp", ""), ("names-by-tcp", BY_TCP)]
            .map(|(name, option)| on_node(node, name, &dns, option, &names));
        let askers = Self { on_node: on_node.into_iter().collect::<Result<_>>()?, pods };
        askers.go_on(node, ASKED_ONCE)?;
        Ok(askers)
    }

    /// Waits until each has asked again, and says what they have seen. An error if a name was not answered, or not in time.
    pub(super) fn go_on(&self, node: &Node, slowest_max: Duration) -> Result<()> {
        for pod in self.pods {
            again(pod, slowest_max, || node.kubectl(&["-n", NAMESPACE, "logs", pod]))?;
        }
        for process in &self.on_node {
            again(process.identity().0, slowest_max, || process.output())?;
        }
        Ok(())
    }

    /// Ends them.
    pub(super) fn finish(self, node: &Node) -> Result<()> {
        let [udp, tcp] = self.pods;
        node.kubectl(&["-n", NAMESPACE, "delete", "pod", udp, tcp, "--grace-period=1"])?;
        Ok(())
    }
}

/// The Service `www` of the shop by all of its names, each with the address that is expected.
fn names(node: &Node) -> Result<Vec<String>> {
    let address = node.field(NAMESPACE, "service/www", "{.spec.clusterIP}")?;
    let names = ["www".to_owned(), format!("www.{NAMESPACE}"), format!("www.{NAMESPACE}.svc.cluster.local")];
    Ok(names.map(|name| format!("{name}={address}")).into())
}

fn pod_object(name: &str, names: &[String], options: &serde_json::Value) -> serde_json::Value {
    let mut command = vec!["/usr/bin/python3".to_owned(), "-c".to_owned(), ASKER.to_owned()];
    command.extend_from_slice(names);
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "automountServiceAccountToken": false,
            "dnsConfig": {"options": options},
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "asker", "image": "localhost/shop/blog:1", "imagePullPolicy": "IfNotPresent", "command": command,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

/// An asker on the node. It has a resolver's configuration of its own, as an administrator would write one.
fn on_node(node: &Node, name: &'static str, dns: &str, option: &str, names: &[String]) -> Result<Process> {
    let configuration = node.folder().join(format!("{name}.conf"));
    let search = format!("{NAMESPACE}.svc.cluster.local svc.cluster.local cluster.local");
    fs::write(&configuration, format!("nameserver {dns}\nsearch {search}\noptions {DOTS} {option}\n"))?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-c"]);
    command.arg("mount --bind \"$1\" \"$2\" && shift 2 && exec python3 -c \"$@\"").arg("sh");
    command.arg(&configuration).arg(resolver_file()?).arg(ASKER).args(names);
    Process::start(name, &command, node.folder())
}

/// The file itself: a bind mount does not go onto a link.
fn resolver_file() -> Result<PathBuf> {
    fs::canonicalize(Path::new("/etc/resolv.conf")).context("/etc/resolv.conf")
}

/// Waits until an asker has got further, and checks what it has seen.
fn again(name: &str, slowest_max: Duration, output: impl Fn() -> Result<String>) -> Result<()> {
    let before = seen(&output()?).map_or(0, |seen| seen.asked);
    let mut last = String::new();
    let now = wait(LIMIT, || {
        last = output()?;
        ensure!(!last.contains("WRONG"), "{name}: {last}");
        Ok(seen(&last).filter(|seen| seen.asked > before))
    });
    let Seen { asked, slowest } = now.with_context(|| format!("{name} does not go on: {last}"))?;
    println!("        {name}: {asked} asked, slowest {slowest:?}");
    ensure!(slowest < slowest_max, "{name}: an answer took {slowest:?}");
    Ok(())
}

/// The newest report in an asker's output.
fn seen(output: &str) -> Option<Seen> {
    let words: Vec<&str> = output.lines().rfind(|line| line.starts_with("asked "))?.split(' ').collect();
    let ["asked", asked, "slowest", slowest_ms] = words[..] else { return None };
    Some(Seen { asked: asked.parse().ok()?, slowest: Duration::from_millis(slowest_ms.parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_report_counts() {
        let newest = seen("asked 3 slowest 1\nasked 6 slowest 40\n").expect("two reports");
        assert_eq!((newest.asked, newest.slowest), (6, Duration::from_millis(40)));
        assert!(seen("Traceback\n").is_none());
    }
}
