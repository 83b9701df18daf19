//! The network between the servers: a switch, a cable to each. All of it is in namespaces of this test's own.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, mount};

/// Where the first server is, by options of `up`.
pub(super) const FIRST: [&str; 4] = ["--listen", "0.0.0.0:6443", "--name", "one"];

/// The first server's address.
pub(super) const ADDRESS: &str = "192.0.2.2";

const SWITCH: &str = "corten-e2e-switch";

pub(super) struct Lan(());

impl Lan {
    /// The switch, and the first server's cable: that server is in the namespace of this process.
    pub(super) fn new() -> Result<Self> {
        ip(&["link", "set", "lo", "up"])?;
        private_names()?;
        ip(&["netns", "add", SWITCH])?;
        let lan = Self(());
        ip(&["-n", SWITCH, "link", "add", "lan", "type", "bridge"])?;
        ip(&["-n", SWITCH, "link", "set", "lan", "up"])?;
        lan.plug("one", None, 2)?;
        Ok(lan)
    }

    /// A namespace with a cable of its own.
    pub(super) fn add(&self, name: &str, host: u8) -> Result<String> {
        let space = format!("corten-e2e-{name}");
        ip(&["netns", "add", &space])?;
        ip(&["-n", &space, "link", "set", "lo", "up"])?;
        self.plug(name, Some(&space), host)?;
        Ok(space)
    }

    fn plug(&self, name: &str, space: Option<&str>, host: u8) -> Result<()> {
        let (port, address) = (port(name), format!("192.0.2.{host}/24"));
        ip(&["link", "add", "cable", "type", "veth", "peer", "name", &port])?;
        ip(&["link", "set", &port, "netns", SWITCH])?;
        ip(&["-n", SWITCH, "link", "set", &port, "master", "lan", "up"])?;
        let mut within = Vec::new();
        if let Some(space) = space {
            ip(&["link", "set", "cable", "netns", space])?;
            within = vec!["-n", space];
        }
        for line in [
            &["link", "set", "cable", "name", "eth0"][..],
            &["address", "add", &address, "dev", "eth0"],
            &["link", "set", "eth0", "up"],
            &["route", "add", "default", "via", "192.0.2.1"],
        ] {
            ip(&[&within[..], line].concat())?;
        }
        Ok(())
    }

    /// Pulls a server's cable, or puts it back.
    pub(super) fn set_plugged(&self, name: &str, is_plugged: bool) -> Result<()> {
        ip(&["-n", SWITCH, "link", "set", &port(name), if is_plugged { "up" } else { "down" }])
    }
}

fn port(name: &str) -> String {
    format!("to-{name}")
}

impl Drop for Lan {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", SWITCH]) {
            eprintln!("{error:#}");
        }
    }
}

/// Names of namespaces are seen by this run alone: another one does not meet them, and none is left when this one is killed.
fn private_names() -> Result<()> {
    const NAMES: &str = "/run/netns";
    fs::create_dir_all(NAMES)?;
    mount("corten-e2e", NAMES, "tmpfs", MountFlags::empty(), None).with_context(|| format!("mount on {NAMES}"))
}

pub(super) fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).output().context("ip (iproute2)")?;
    ensure!(output.status.success(), "ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
