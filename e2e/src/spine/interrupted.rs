//! First starts that are cut short by SIGKILL: the purge leaves nothing of them, whenever it was.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::node::Node;
use super::traces::Traces;

/// How long after its start control is killed: from the first file to a server that is ready.
const MOMENTS_MS: [u64; 9] = [3, 10, 30, 80, 160, 300, 500, 800, 1500];

/// `instances` are those that are there, and gets those that were.
pub(super) async fn starts(node: &mut Node, before: &Traces, instances: &mut Vec<String>) -> Result<()> {
    for moment_ms in MOMENTS_MS {
        node.start()?;
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        node.kill()?;
        // It may not have one yet.
        instances.extend(node.instance().ok());
        let purged = node.purge().and_then(|()| before.compare(&Traces::take(instances)?));
        purged.with_context(|| format!("killed {moment_ms} ms after its start"))?;
    }
    Ok(())
}
