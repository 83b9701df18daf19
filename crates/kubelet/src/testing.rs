//! What tests of a node stand on: settings of a node that is not there, and engines, images and networks that only
//! remember.

use std::path::Path;

use crate::{Settings, eviction};

/// A node called `n` below a directory.
pub(crate) fn settings(dir: &Path) -> Settings {
    Settings {
        name: "n".to_owned(),
        dir: dir.to_owned(),
        run_dir: dir.join("run"),
        addresses: vec![[192, 0, 2, 1].into()],
        cluster_dns: vec![[10, 96, 0, 10].into()],
        cluster_domain: "cluster.local".to_owned(),
        port: 10250,
        version: "v1.36.3".to_owned(),
        pods_max: 110,
        pids_of_pod_max: 4096,
        eviction: eviction::Settings::default(),
    }
}
