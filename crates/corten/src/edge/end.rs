//! The end of a node's edge: for good, with its holder, when the node leaves.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use corten_runtime::Holder;
use corten_stdx::clock::Stopwatch;
use corten_sys::cgroup::Hierarchies;

/// How long the holder may take beyond the drain.
const END_MAX: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// Ends the edge of an instance, if one is there: what runs has up to `drain` to finish. Resolves when both processes are gone.
///
/// # Errors
/// When they do not end, or their control groups cannot be removed.
pub fn end(run_dir: &Path, instance: &str, drain: Duration) -> anyhow::Result<()> {
    let socket = run_dir.join("holder.sock");
    let mut holder = match Holder::adopt(&socket) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(()),
        other => other.context("the holder of the edge's sockets cannot be asked")?,
    };
    holder.end(drain)?;
    let watch = Stopwatch::start();
    // Its socket closes with it.
    while holder.hello().is_ok() {
        anyhow::ensure!(watch.elapsed() < drain + END_MAX, "the holder of the edge's sockets does not end");
        std::thread::sleep(LOOK);
    }
    for name in ["holder.sock", "edge.sock"] {
        match std::fs::remove_file(run_dir.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context("a socket of the edge"),
            _ => {}
        }
    }
    let hierarchies = Hierarchies::detect()?;
    let group = hierarchies.group(format!("corten-{instance}/edge"));
    while let Err(error) = group.remove() {
        // The kernel takes a moment to let go of a process that has ended.
        let is_busy = error.source.kind() == ErrorKind::ResourceBusy;
        anyhow::ensure!(is_busy && watch.elapsed() < drain + END_MAX, "the edge's control group: {error}");
        std::thread::sleep(LOOK);
    }
    Ok(())
}
