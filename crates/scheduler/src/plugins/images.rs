//! ImageLocality: nodes that have the pod's images already, unless few have them.

use super::SCORE_MAX;
use crate::snapshot::{Node, Snapshot};
use crate::view::Pod;

const MIB: i64 = 1024 * 1024;
/// Less than this is not worth a preference.
const BYTES_MIN: i64 = 23 * MIB;
/// More than this, for each container, counts no further.
const BYTES_MAX_PER_CONTAINER: i64 = 1000 * MIB;

/// Absent if no node has any of the images.
pub(crate) fn score(snapshot: &Snapshot, pod: &Pod, nodes: &[Node]) -> Option<Vec<i64>> {
    let known: Vec<_> = pod.images.iter().filter_map(|image| snapshot.images.get(image)).collect();
    if known.is_empty() || pod.containers == 0 {
        return None;
    }
    let mut sums = vec![0_i64; snapshot.nodes.len()];
    for sizes in known {
        let spread = sizes.len() as f64 / snapshot.node_count as f64;
        for (&node, &bytes) in sizes {
            sums[node] = sums[node].saturating_add((bytes as f64 * spread) as i64);
        }
    }
    let max = BYTES_MAX_PER_CONTAINER * pod.containers;
    let scale = |sum: i64| SCORE_MAX * (sum.clamp(BYTES_MIN, max) - BYTES_MIN) / (max - BYTES_MIN);
    Some(nodes.iter().map(|&node| scale(sums[node])).collect())
}
