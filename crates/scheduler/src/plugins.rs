//! The plugins, one a file, with upstream's names for what they do. Those that filter have a `check` or a state that is
//! made once a pod; those that score fill one number a feasible node.

pub(crate) mod images;
pub(crate) mod node_affinity;
pub(crate) mod peers;
pub(crate) mod resources;
pub(crate) mod spread;
pub(crate) mod spread_score;
pub(crate) mod taints;

/// The best score of one plugin, before its weight.
pub(crate) const SCORE_MAX: i64 = 100;

/// Stretches scores from zero upwards so that the best has `SCORE_MAX`; reversed, the least has.
pub(crate) fn normalize(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let stretched = if max == 0 { 0 } else { SCORE_MAX * *score / max };
        *score = if reverse { SCORE_MAX - stretched } else { stretched };
    }
}
