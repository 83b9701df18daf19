//! The mount namespace that every container's own is copied from: nothing but a place for its root, the pod's shared memory
//! and the host's /dev/null. A copy of the host's would cost time for each mount of the host, and would hold on to them.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

use crate::sys::{self, FileSystem};

/// Where a container's root is attached until it becomes the root.
pub(crate) const STAGE: &CStr = c"/stage";

/// The pod's /dev/shm.
pub(crate) const SHM: &CStr = c"/shm";

/// The host's /dev/null: covers files. A container's own could be anything.
pub(crate) const NULL: &CStr = c"/null";

/// A folder of every host, which the new root covers for a moment.
const COVERED: &CStr = c"/proc";

/// Makes the namespace; this process is in the host's again afterwards.
pub(crate) fn make(shm_bytes: u64) -> io::Result<OwnedFd> {
    let host = own_namespace()?;
    sys::unshare(libc::CLONE_NEWNS)?;
    let made = own_namespace().and_then(|template| fill(shm_bytes).map(|()| template));
    sys::join_namespaces(&host, libc::CLONE_NEWNS)?;
    made
}

fn own_namespace() -> io::Result<OwnedFd> {
    sys::open(c"/proc/self/ns/mnt", libc::O_RDONLY)
}

fn fill(shm_bytes: u64) -> io::Result<()> {
    sys::isolate_mounts()?;
    let null = sys::copy_tree(c"/dev/null", false)?;
    let root = FileSystem::open(c"tmpfs")?.mount(sys::MOUNT_ATTR_NOSUID)?;
    let folder = libc::O_PATH | libc::O_DIRECTORY;
    sys::attach(&root, &sys::open(COVERED, folder)?)?;
    sys::change_root(&root)?;
    for path in [STAGE, SHM] {
        sys::make_directory(&root, below_root(path))?;
    }
    sys::make_node(&root, below_root(NULL), libc::S_IFREG | 0o666, 0)?;
    sys::attach(&null, &sys::open(NULL, libc::O_PATH)?)?;
    sys::attach(&shm(shm_bytes)?, &sys::open(SHM, folder)?)
}

fn below_root(path: &CStr) -> &CStr {
    let without = path.to_bytes_with_nul().strip_prefix(b"/");
    without.and_then(|bytes| CStr::from_bytes_with_nul(bytes).ok()).unwrap_or(path)
}

fn shm(bytes: u64) -> io::Result<OwnedFd> {
    let system = FileSystem::open(c"tmpfs")?;
    system.set(c"mode", c"1777")?;
    if bytes > 0 {
        let size = std::ffi::CString::new(bytes.to_string())?;
        system.set(c"size", &size)?;
    }
    system.mount(sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV | sys::MOUNT_ATTR_NOEXEC)
}
