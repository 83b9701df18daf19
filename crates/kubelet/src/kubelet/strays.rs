//! What a node that starts finds of pods whose objects went while nobody looked. It is looked for before the node takes a new
//! pod, and only what was found is taken away, however late: nothing of a pod that came meanwhile is taken for a stray.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_apimachinery::value::Str;

use crate::deed::blocking;
use crate::ground::Ground;
use crate::volumes;

pub(super) struct Strays {
    /// Pods of the engine or the network.
    pods: BTreeSet<String>,
    /// Pods that have a folder, on the disk or in memory.
    folders: BTreeSet<String>,
    logs: Vec<PathBuf>,
}

impl Strays {
    /// Everything of pods that are not known. `running` are those of the engine.
    pub(super) async fn find(
        ground: &Arc<Ground>,
        running: impl Iterator<Item = String>,
        known: &BTreeSet<Str>,
    ) -> io::Result<Self> {
        let of_others = |uid: &str| !known.contains(uid);
        let parts = &ground.parts;
        let pods = running.chain(parts.network.attached()).filter(|uid| of_others(uid)).collect();
        let (disk, memory, logs) = (parts.settings.pods(), parts.settings.memory(), parts.settings.logs());
        let (folders, log_names) = blocking(move || {
            let mut folders = names(&disk)?;
            folders.append(&mut names(&memory)?);
            Ok((folders, names(&logs)?))
        })
        .await?;
        let of_pod = |name: &String| name.rsplit('_').next().is_some_and(of_others);
        let logs = log_names.into_iter().filter(of_pod).map(|name| parts.settings.logs().join(name)).collect();
        Ok(Self { pods, folders: folders.into_iter().filter(|uid| of_others(uid)).collect(), logs })
    }

    /// Ends and removes them, beside the loop.
    pub(super) fn end(self, ground: &Arc<Ground>) {
        let of = ground.clone();
        ground.parts.tasks.spawn("strays", async move {
            for id in self.pods {
                tracing::info!(pod = id, "a pod whose object is gone ends");
                if let Err(error) = of.parts.engine.remove_pod(&id).await {
                    tracing::warn!(pod = id, %error, "it does not end");
                    continue;
                }
                if let Err(error) = of.parts.network.detach(&id).await {
                    tracing::warn!(pod = id, %error, "its link stays");
                }
            }
            let (folders, logs) = (self.folders, self.logs);
            let removed = blocking(move || {
                folders.iter().try_for_each(|uid| volumes::remove(&of.parts.settings, uid))?;
                logs.iter().try_for_each(std::fs::remove_dir_all)
            });
            if let Err(error) = removed.await {
                tracing::warn!(%error, "what pods have left is not taken away");
            }
        });
    }
}

/// What is in a folder; nothing where there is none.
fn names(dir: &Path) -> io::Result<BTreeSet<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    // Pods' folders have names of ours; whatever has another is not theirs.
    let named = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    named.filter_map(Result::transpose).collect()
}
