//! Which images are in use and when each last was. The node that runs writes it; the command line reads it, also while no node
//! runs: containers outlive control.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Store;
use crate::ImageError;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usage {
    pub(super) in_use: BTreeSet<String>,
    /// Unix time by image id.
    pub(super) last_used_ms: BTreeMap<String, i64>,
}

impl Store {
    pub(super) fn usage(&self) -> Result<Usage, ImageError> {
        let path = self.path("use.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Usage::default()),
            Err(error) => return Err(ImageError::io("which images are in use", error)),
        };
        serde_json::from_slice(&text)
            .map_err(|error| ImageError::Corrupt { what: path.display().to_string(), detail: error.to_string() })
    }

    /// Images that leave the list were used until now.
    pub(super) fn note_use(&self, ids: Vec<String>) -> Result<(), ImageError> {
        let _turn = self.turn()?;
        let before = self.usage()?;
        let now_ms = self.settings().clock.now_ms();
        let mut usage = Usage { in_use: ids.into_iter().collect(), ..before.clone() };
        let index = self.read()?;
        let known = |id: &String| id.parse().is_ok_and(|id| index.image(&id).is_some());
        usage.last_used_ms.extend(before.in_use.iter().chain(&usage.in_use).map(|id| (id.clone(), now_ms)));
        usage.last_used_ms.retain(|id, _| known(id));
        if usage == before {
            return Ok(());
        }
        let json = serde_json::to_vec(&usage).expect("names and numbers");
        // A power cut ends every container, so that an older list does no harm.
        corten_stdx::file::replace(&self.path("use.json"), &json)
            .map_err(|error| ImageError::io("which images are in use", error))
    }
}
