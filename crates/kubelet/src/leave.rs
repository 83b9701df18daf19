//! What a node leaves behind when it ends: nothing below `/run`, if no pod is left that needs it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::mount::{UnmountFlags, unmount};

/// Takes away the instance's folder below `/run`, as far as nothing is in it.
pub fn leave(run_dir: &Path) -> io::Result<()> {
    let volumes = run_dir.join("volumes");
    let unused = fs::read_dir(&volumes).is_ok_and(|mut entries| entries.next().is_none());
    if unused {
        match unmount(&volumes, UnmountFlags::DETACH) {
            // Nothing was mounted there.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for dir in [volumes.as_path(), &run_dir.join("pods"), run_dir] {
        match fs::remove_dir(dir) {
            Ok(()) => {}
            // Somebody still needs it.
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use rustix::mount::{MountFlags, mount};

    use super::*;

    #[test]
    fn only_what_is_empty_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = dir.path().join("run");
        let volumes = run.join("volumes");
        fs::create_dir_all(run.join("pods")).expect("a directory");
        fs::create_dir(&volumes).expect("a directory");
        mount("tmpfs", &volumes, "tmpfs", MountFlags::empty(), None::<&CStr>).expect("tests of the node have root");
        fs::create_dir(volumes.join("a-pod")).expect("a directory");
        leave(&run).expect("it is no error that something stays");
        assert!(volumes.join("a-pod").is_dir());
        fs::remove_dir(volumes.join("a-pod")).expect("it goes");
        leave(&run).expect("it goes");
        assert!(!run.exists());
        leave(&run).expect("once more");
    }
}
