//! Other instances on this server: each notes its ranges below [`crate::datadir::RUN`], where the next one looks before it starts.
//! What an instance has put into the kernel outlives its control, so a note holds until the instance is purged or the server
//! starts again. Only instances in the same network namespace can be in each other's way.

use std::fs::{self, DirBuilder};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use corten_stdx::file::replace;
use corten_sys::namespace::NetNs;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{Ranges, RangesError, overlap};

/// In the folder of an instance.
const NOTE: &str = "ranges";

/// What an instance says of itself.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    data_dir: PathBuf,
    /// As the kernel names it.
    network: u64,
    service: String,
    pod: String,
}

impl Note {
    /// Of an instance in the network namespace of this process.
    pub(super) fn new(data_dir: &Path, ranges: &Ranges) -> Result<Self, RangesError> {
        let data_dir = fs::canonicalize(data_dir).map_err(RangesError::Others)?;
        let network = NetNs::current().and_then(|network| network.cookie()).map_err(RangesError::Others)?;
        Ok(Self { data_dir, network, service: ranges.service.to_string(), pod: ranges.pod.to_string() })
    }

    /// Checks the ranges against those of all others, and notes them. Of two that start at the same moment at least one is refused.
    pub(super) fn claim(&self, run: &Path, instance: &str) -> Result<(), RangesError> {
        self.check(run, instance)?;
        let folder = run.join(instance);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(RangesError::Others)?;
        let text = serde_json::to_vec(self).map_err(|error| RangesError::Others(error.into()))?;
        replace(&folder.join(NOTE), &text).map_err(RangesError::Others)?;
        self.check(run, instance).inspect_err(|_| drop(fs::remove_file(folder.join(NOTE))))
    }

    pub(super) fn check(&self, run: &Path, instance: &str) -> Result<(), RangesError> {
        for other in others(run, instance).map_err(RangesError::Others)? {
            if other.network == self.network {
                self.compare(&other)?;
            }
        }
        Ok(())
    }

    fn compare(&self, other: &Self) -> Result<(), RangesError> {
        let own = [("Service", &self.service, "--service-cidr"), ("pod", &self.pod, "--pod-cidr")];
        for (what, text, flag) in own {
            for theirs in [&other.service, &other.pod] {
                let (Ok(range), Ok(theirs)) = (text.parse::<Ipv4Net>(), theirs.parse()) else { continue };
                if overlap(&range, &theirs) {
                    return Err(RangesError::Other { what, range, theirs, data_dir: other.data_dir.clone(), flag });
                }
            }
        }
        Ok(())
    }
}

/// Takes back what an instance has noted, if it has.
pub(super) fn release(run: &Path, instance: &str) -> Result<(), Error> {
    let folder = run.join(instance);
    for removed in [fs::remove_file(folder.join(NOTE)), fs::remove_dir(&folder)] {
        match removed {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The data directory of an instance that has noted something and is still there.
pub(super) fn place_of(run: &Path, instance: &str) -> Result<Option<PathBuf>, Error> {
    let text = match fs::read_to_string(run.join(instance).join(NOTE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let place = serde_json::from_str::<Note>(&text).ok().map(|note| note.data_dir);
    let is_there =
        |place: &PathBuf| fs::read_to_string(place.join("instance")).is_ok_and(|known| known.trim() == instance);
    Ok(place.filter(is_there))
}

/// The notes of instances that are still there: their data directory knows them.
fn others(run: &Path, own: &str) -> Result<Vec<Note>, Error> {
    let entries = match fs::read_dir(run) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path().join(NOTE)))?;
        let text = match fs::read_to_string(path) {
            // It has no ranges in the kernel, or is being purged.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            text => text?,
        };
        let Ok(note) = serde_json::from_str::<Note>(&text) else { continue };
        let knows = |known: String| name.to_str() == Some(known.trim());
        if name != own && fs::read_to_string(note.data_dir.join("instance")).is_ok_and(knows) {
            found.push(note);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data directory below `dir` that is this instance.
    fn instance(dir: &Path, id: &str) -> PathBuf {
        let data = dir.join(id);
        fs::create_dir_all(&data).expect("made");
        fs::write(data.join("instance"), format!("{id}\n")).expect("written");
        data
    }

    fn ranges(service: &str, pod: &str) -> Ranges {
        Ranges { service: service.parse().expect("a range"), pod: pod.parse().expect("a range") }
    }

    #[test]
    fn two_instances_on_one_network_have_ranges_of_their_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let (first, second, run) =
            (instance(dir.path(), "aaaaaa"), instance(dir.path(), "bbbbbb"), dir.path().join("run"));
        let claim = |data: &Path, id, service, pod| {
            Note::new(data, &ranges(service, pod)).expect("here").claim(&run, id).map_err(|error| error.to_string())
        };
        assert_eq!(place_of(&run, "aaaaaa").expect("looked"), None);
        claim(&first, "aaaaaa", "10.96.0.0/16", "10.244.0.0/16").expect("alone");
        claim(&first, "aaaaaa", "10.96.0.0/16", "10.244.0.0/16").expect("again");
        let refused = claim(&second, "bbbbbb", "10.97.0.0/16", "10.96.128.0/17").expect_err("overlap");
        let said = "the pod range 10.96.128.0/17 overlaps 10.96.0.0/16, which the corten in ";
        assert!(refused.starts_with(said) && refused.contains("aaaaaa") && refused.contains("--pod-cidr"), "{refused}");
        claim(&second, "bbbbbb", "10.97.0.0/16", "10.245.0.0/16").expect("apart");
        release(&run, "bbbbbb").expect("released");
        assert!(!run.join("bbbbbb").exists());
        // One that was purged is in nobody's way.
        fs::remove_file(first.join("instance")).expect("removed");
        claim(&second, "bbbbbb", "10.96.0.0/16", "10.244.0.0/16").expect("alone");
    }

    #[test]
    fn other_networks_do_not_matter() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = instance(dir.path(), "aaaaaa");
        let note = Note::new(&data, &ranges("10.96.0.0/16", "10.244.0.0/16")).expect("here");
        Note { network: note.network + 1, ..note }.claim(dir.path(), "aaaaaa").expect("alone");
        let same = Note::new(&data, &ranges("10.96.0.0/16", "10.244.0.0/16")).expect("here");
        same.claim(dir.path(), "bbbbbb").expect("alone on its network");
    }
}
