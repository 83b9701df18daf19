//! NodeResourcesFit and NodeResourcesBalancedAllocation: whether there is enough, and where most is left.

use corten_apimachinery::value::Str;

use super::SCORE_MAX;
use crate::filter::Load;
use crate::outcome::Reason;
use crate::snapshot::{CPU, MEMORY, Node, Snapshot};
use crate::view::Pod;

/// One of the pod's requests.
pub(crate) struct Want {
    /// Absent: no node and no pod has it.
    resource: Option<usize>,
    amount: i64,
    bit: u32,
}

/// The pod's requests that are not zero.
pub(crate) fn wants(snapshot: &Snapshot, pod: &Pod) -> Vec<Want> {
    let want = |((name, amount), at): (&(Str, i64), u32)| Want {
        resource: snapshot.resource_of(name),
        amount: *amount,
        bit: at.min(63),
    };
    pod.requests.iter().zip(1..).filter(|((_, amount), _)| *amount > 0).map(want).collect()
}

pub(crate) fn check(snapshot: &Snapshot, wants: &[Want], node: Node, load: &Load<'_>) -> Result<(), Reason> {
    let mut lacking = u64::from(load.pods + 1 > snapshot.pods_max[node]);
    let mut hopeless = false;
    for (at, want) in wants.iter().enumerate() {
        let allocatable = want.resource.map_or(0, |resource| snapshot.allocatable[resource][node]);
        let requested = want.resource.map_or(0, |resource| snapshot.requested[resource][node]);
        let requested = requested.wrapping_add(load.requested.get(at).copied().unwrap_or(0));
        if want.amount > allocatable.wrapping_sub(requested) {
            lacking |= 1 << want.bit;
            hopeless |= want.amount > allocatable;
        }
    }
    if lacking == 0 { Ok(()) } else { Err(Reason::Resources { lacking, hopeless }) }
}

/// What a pod has of the things that another wants, in the order of `wants`.
pub(crate) fn held<'a>(snapshot: &'a Snapshot, wants: &'a [Want], pod: &'a Pod) -> impl Iterator<Item = i64> + 'a {
    wants.iter().map(|want| {
        let of = pod.requests.iter().find(|(name, _)| snapshot.resource_of(name) == want.resource);
        of.map_or(0, |(_, amount)| *amount)
    })
}

/// LeastAllocated: the mean of what is left of CPU and memory, in hundredths. What nodes were seen to use beyond requests counts too,
/// where somebody has looked.
pub(crate) fn score_fit(snapshot: &Snapshot, pod: &Pod, nodes: &[Node]) -> Vec<i64> {
    let (cpu, memory) = pod.usual;
    let of = |&node: &Node| {
        let (all_cpu, all_memory) = (snapshot.allocatable[CPU][node], snapshot.allocatable[MEMORY][node]);
        let (taken_cpu, taken_memory) = snapshot.taken(node);
        let left_cpu = left(taken_cpu.wrapping_add(cpu), all_cpu);
        let left_memory = left(taken_memory.wrapping_add(memory), all_memory);
        match (all_cpu, all_memory) {
            (0, 0) => 0,
            (0, _) => left_memory,
            (_, 0) => left_cpu,
            _ => (left_cpu + left_memory) / 2,
        }
    };
    nodes.iter().map(of).collect()
}

fn left(requested: i64, all: i64) -> i64 {
    if all == 0 || requested > all { 0 } else { (all - requested).saturating_mul(SCORE_MAX) / all }
}

/// How much the pod evens out the use of CPU and memory; absent for a pod that asks for neither.
pub(crate) fn score_balance(snapshot: &Snapshot, pod: &Pod, nodes: &[Node]) -> Option<Vec<i64>> {
    let request = |name| pod.requests.iter().find(|(known, _)| known == name).map_or(0, |(_, amount)| *amount);
    let (cpu, memory) = (request("cpu"), request("memory"));
    if cpu == 0 && memory == 0 {
        return None;
    }
    let of = |&node: &Node| {
        let all = (snapshot.allocatable[CPU][node], snapshot.allocatable[MEMORY][node]);
        let used = (snapshot.requested[CPU][node], snapshot.requested[MEMORY][node]);
        let with_pod = balance((used.0.wrapping_add(cpu), used.1.wrapping_add(memory)), all);
        SCORE_MAX / 2 + (SCORE_MAX / 2 + with_pod - balance(used, all)) / 2
    };
    Some(nodes.iter().map(of).collect())
}

/// 100 if the same share of both is used, 50 if all of one and nothing of the other.
fn balance(used: (i64, i64), all: (i64, i64)) -> i64 {
    if all.0 == 0 || all.1 == 0 {
        return SCORE_MAX;
    }
    let share = |used: i64, all: i64| (used as f64 / all as f64).min(1.0);
    let deviation = ((share(used.0, all.0) - share(used.1, all.1)) / 2.0).abs();
    ((1.0 - deviation) * SCORE_MAX as f64) as i64
}
