//! Where nobody else's network is: this program runs itself again in namespaces of its own, with a server's usual network.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};

/// Set in the process that is in its own namespaces.
const INSIDE: &str = "CORTEN_E2E_INSIDE";

/// The address of this machine in there.
pub(crate) const ADDRESS: &str = "192.0.2.2";

/// A server's usual network: loopback, and a link with an address, whose other end is nobody's.
const NETWORK: [&str; 8] = [
    "link set lo up",
    "link add up0 type veth peer name up1",
    "link set up0 addrgenmode none",
    "link set up1 addrgenmode none",
    "address add 192.0.2.2/24 dev up0",
    "link set up0 up",
    "link set up1 up",
    "route add default via 192.0.2.1",
];

/// Whether this process is the one inside.
pub(crate) fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this program again inside; comes back only with an error.
pub(crate) fn enter() -> Result<ExitCode> {
    let own = env::current_exe()?;
    let mut inside = Command::new("unshare");
    inside.args(["--net", "--mount", "--propagation", "private", "--"]).arg(own).args(env::args_os().skip(1));
    let error = inside.env(INSIDE, "1").exec();
    Err(error).context("unshare (util-linux)")
}

/// Makes the network, inside.
pub(crate) fn network() -> Result<()> {
    for line in NETWORK {
        let done = Command::new("ip").args(line.split(' ')).status().context("ip (iproute2)")?;
        ensure!(done.success(), "ip {line}: {done}");
    }
    Ok(())
}
