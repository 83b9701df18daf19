//! An image that is being pulled when the power is cut. After the boot it is pulled anew, without hand work, and nothing of the half
//! that was there is left.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::machine::{DATA, IMAGES, Machine};
use crate::process::wait;
use crate::registry::{Content, Registry};
use crate::spine::node::LIMIT;

/// Leads from the server's own loopback to the registry, which is at the other end of its cable: systemd listens from the boot on.
const SOCKET: &str = "[Socket]
ListenStream=127.0.0.1:5000
[Install]
WantedBy=sockets.target
";

/// The same in the words of the image's name.
const IMAGE: &str = "127.0.0.1:5000/pulled:1";

pub(super) struct Pull(Registry);

impl Pull {
    /// A pod waits for an image of which half has come.
    pub(super) fn begin(machine: &Machine) -> Result<Self> {
        let (layer, mut content) = (layer()?, Content::default());
        content.image("pulled", &layer, layer.clone())?;
        let registry = Registry::start("0.0.0.0:0", content)?;
        let to = format!("[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd 192.0.2.1:{}\n", registry.port());
        for (name, text) in [("registry.socket", SOCKET), ("registry.service", &to)] {
            fs::write(machine.disk("etc/systemd/system").join(name), text)?;
        }
        machine.run(&["systemctl", "daemon-reload"])?;
        machine.run(&["systemctl", "enable", "--now", "--quiet", "registry.socket"])?;
        registry.stop_halfway(true);
        let image = format!("--image={IMAGE}");
        machine.kubectl(&["-n", "app", "run", "pulled", &image, "--", "/bin/busybox", "sleep", "100000"])?;
        let came = wait(LIMIT, || Ok((registry.is_halfway() && !unfinished(machine)?.is_empty()).then_some(())));
        came.context("nothing is pulled")?;
        Ok(Self(registry))
    }

    /// While it is off: half of it is on the disk, and from now on the registry sends all.
    pub(super) fn is_cut(&self, machine: &Machine) -> Result<()> {
        ensure!(!unfinished(machine)?.is_empty(), "nothing was half pulled when the power was cut");
        ensure!(!named(machine)?.contains("pulled"), "the image is there already");
        self.0.stop_halfway(false);
        Ok(())
    }

    /// The pod runs, and the store has whole images alone.
    pub(super) fn ends(self, machine: &Machine) -> Result<()> {
        let limit = format!("--timeout={}s", LIMIT.as_secs());
        machine.kubectl(&["-n", "app", "wait", "pod/pulled", "--for=condition=Ready", &limit])?;
        let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
        let restarts = machine.kubectl(&["-n", "app", "get", "pod/pulled", "-o", restarts])?;
        ensure!(restarts == "0", "a container that never ran was started again {restarts} times");
        wait(LIMIT, || Ok(unfinished(machine)?.is_empty().then_some(())))
            .with_context(|| format!("half pulled: {:?}", unfinished(machine)))?;
        let (named, layers) = (named(machine)?, folder(machine, "layers")?);
        let foreign: Vec<_> = layers.iter().filter(|layer| !named.contains(layer.as_str())).collect();
        ensure!(foreign.is_empty() && layers.len() == IMAGES.len() + 1, "of {layers:?} no image has {foreign:?}");
        machine.kubectl(&["-n", "app", "delete", "pod", "pulled", "--grace-period=1"]).map(drop)
    }
}

/// An archive of one program, far larger than what is on its way at once.
fn layer() -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("bin"))?;
    fs::copy("/bin/busybox", folder.path().join("bin/busybox")).context("apt-get install -y busybox-static")?;
    let mut pack = Command::new("tar");
    pack.args(["--owner=0", "--group=0", "-cf", "-", "-C"]).arg(folder.path()).arg(".");
    let packed = pack.output().context("tar")?;
    ensure!(packed.status.success(), "tar: {}", packed.status);
    Ok(packed.stdout)
}

/// What the store is making, and what is on its way out.
fn unfinished(machine: &Machine) -> Result<BTreeSet<String>> {
    Ok(folder(machine, "tmp")?.into_iter().chain(folder(machine, "trash")?).collect())
}

/// The images that there are, with their layers.
fn named(machine: &Machine) -> Result<String> {
    Ok(fs::read_to_string(machine.disk(DATA).join("content/index.json"))?)
}

fn folder(machine: &Machine, name: &str) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(machine.disk(DATA).join("content").join(name))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
