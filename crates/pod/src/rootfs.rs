//! The container's files: root, mounts, devices, masks. All of it happens in the child's own mount namespace, so nothing is
//! ever left to unmount on the host. Every place inside the root is looked up with the root as its limit and then used by
//! descriptor, so no link of an image leads a mount outside.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use corten_podspec::{Device, Failed, Mount, MountKind, Propagation, Root, Start, Step, Symlink};

use crate::child::Failing;
use crate::credentials::text;
use crate::sys::{self, FileSystem};
use crate::template;

/// Makes the root with all that is in it, and enters it. What the host gives is taken before leaving its mount namespace.
pub(crate) fn enter(plan: &Start, template: &OwnedFd) -> Result<(), Failed> {
    let mounts = plan.mounts.iter().map(detached).collect::<Result<Vec<_>, _>>()?;
    let root = root(&plan.root)?;
    sys::join_namespaces(template, libc::CLONE_NEWNS).failing(Step::Join, || "mounts".to_owned())?;
    sys::unshare(libc::CLONE_NEWNS).failing(Step::Namespaces, || "mounts".to_owned())?;
    let stage =
        sys::open(template::STAGE, libc::O_PATH | libc::O_DIRECTORY).failing(Step::Root, || text(template::STAGE))?;
    sys::attach(&root, &stage).failing(Step::Root, || text(template::STAGE))?;
    sys::set_umask(0);
    for (mount, tree) in plan.mounts.iter().zip(&mounts) {
        match tree {
            Some(tree) => place(&root, mount, tree)?,
            None => place(&root, mount, &shm(mount)?)?,
        }
    }
    plan.symlinks.iter().try_for_each(|link| symlink(&root, link))?;
    plan.devices.iter().try_for_each(|node| device(&root, node))?;
    if !plan.credentials.cwd.is_empty() {
        directory(&root, &plan.credentials.cwd).failing(Step::WorkingDirectory, || text(&plan.credentials.cwd))?;
    }
    plan.readonly.iter().try_for_each(|path| protect(&root, path))?;
    plan.masked.iter().try_for_each(|path| mask(&root, path))?;
    for (_, tree) in plan.mounts.iter().zip(&mounts).filter(|(mount, _)| is_filled_first(mount)) {
        let Some(tree) = tree else { continue };
        sys::set_mount(tree, sys::MOUNT_ATTR_RDONLY, false).failing(Step::Mount, || "read-only tmpfs".to_owned())?;
    }
    if plan.root.readonly {
        sys::set_mount(&root, sys::MOUNT_ATTR_RDONLY, false).failing(Step::Root, || "read-only".to_owned())?;
    }
    sys::set_umask(0o22);
    sys::change_root(&root).failing(Step::PivotRoot, String::new)
}

fn root(plan: &Root) -> Result<OwnedFd, Failed> {
    if let ([folder], true) = (plan.lowers.as_slice(), plan.upper.is_empty()) {
        return sys::copy_tree(folder, false).failing(Step::Root, || text(folder));
    }
    let overlay = FileSystem::open(c"overlay").failing(Step::Root, || "overlay".to_owned())?;
    let mut open = Vec::new();
    if plan.as_list {
        open = list(&overlay, &plan.lowers)?;
    } else {
        for lower in &plan.lowers {
            overlay.set(c"lowerdir+", lower).failing(Step::Root, || text(lower))?;
        }
    }
    if !plan.upper.is_empty() {
        overlay.set(c"upperdir", &plan.upper).failing(Step::Root, || text(&plan.upper))?;
        overlay.set(c"workdir", &plan.work).failing(Step::Root, || text(&plan.work))?;
    }
    let made = overlay.mount(0).failing(Step::Root, || "overlay".to_owned());
    drop(open);
    made
}

/// Gives all layers at once. The kernel takes 255 bytes of names, so each layer is the number of a descriptor, looked up in
/// /proc/self/fd, where this child stays for the rest of its preparation. They must be open until the mount is made.
fn list(overlay: &FileSystem, lowers: &[CString]) -> Result<Vec<OwnedFd>, Failed> {
    let mut open = Vec::new();
    for lower in lowers {
        open.push(sys::open(lower, libc::O_PATH | libc::O_DIRECTORY).failing(Step::Root, || text(lower))?);
    }
    let numbers: Vec<String> = open.iter().map(|layer| layer.as_raw_fd().to_string()).collect();
    let names = CString::new(numbers.join(":")).unwrap_or_default();
    sys::change_directory(c"/proc/self/fd").failing(Step::Root, || "/proc/self/fd".to_owned())?;
    overlay.set(c"lowerdir", &names).failing(Step::Root, || format!("{} layers", lowers.len()))?;
    Ok(open)
}

/// What is to be mounted, detached, with its attributes. The pod's own memory is no part of the host: it is taken later.
fn detached(mount: &Mount) -> Result<Option<OwnedFd>, Failed> {
    let tree = match mount.kind {
        MountKind::Shm => return Ok(None),
        MountKind::Bind => bind(mount)?,
        MountKind::Proc => file_system(c"proc", mount)?,
        MountKind::Sysfs => file_system(c"sysfs", mount)?,
        MountKind::Tmpfs => file_system(c"tmpfs", mount)?,
        MountKind::Devpts => file_system(c"devpts", mount)?,
        MountKind::Mqueue => file_system(c"mqueue", mount)?,
        MountKind::Cgroup => file_system(c"cgroup", mount)?,
        MountKind::Cgroup2 => file_system(c"cgroup2", mount)?,
    };
    let recursive = mount.kind == MountKind::Bind;
    sys::set_mount(&tree, attributes(mount), recursive).failing(Step::Mount, || text(&mount.target))?;
    Ok(Some(tree))
}

fn bind(mount: &Mount) -> Result<OwnedFd, Failed> {
    let tree = sys::copy_tree(&mount.source, true).failing(Step::Mount, || text(&mount.source))?;
    let propagation = match mount.propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    };
    sys::set_propagation(&tree, propagation).failing(Step::Propagation, || text(&mount.source))?;
    Ok(tree)
}

/// The pod's shared memory.
fn shm(mount: &Mount) -> Result<OwnedFd, Failed> {
    let about = || text(&mount.target);
    let tree = sys::copy_tree(template::SHM, false).failing(Step::Mount, about)?;
    sys::set_mount(&tree, attributes(mount), false).failing(Step::Mount, about)?;
    Ok(tree)
}

/// A read-only tmpfs is one only after mount points and devices were made in it.
fn is_filled_first(mount: &Mount) -> bool {
    mount.readonly && mount.kind == MountKind::Tmpfs
}

fn attributes(mount: &Mount) -> u64 {
    let chosen = [
        (mount.readonly && !is_filled_first(mount), sys::MOUNT_ATTR_RDONLY),
        (mount.nosuid, sys::MOUNT_ATTR_NOSUID),
        (mount.nodev, sys::MOUNT_ATTR_NODEV),
        (mount.noexec, sys::MOUNT_ATTR_NOEXEC),
    ];
    chosen.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum()
}

fn file_system(kind: &CStr, mount: &Mount) -> Result<OwnedFd, Failed> {
    let about = || text(&mount.target);
    let system = FileSystem::open(kind).failing(Step::Mount, about)?;
    for option in mount.data.as_bytes().split(|byte| *byte == b',').filter(|option| !option.is_empty()) {
        let mut parts = option.splitn(2, |byte| *byte == b'=').map(|part| CString::new(part).unwrap_or_default());
        let (key, value) = (parts.next().unwrap_or_default(), parts.next());
        match value {
            Some(value) => system.set(&key, &value),
            None => system.set_flag(&key),
        }
        .failing(Step::Mount, || text(&mount.data))?;
    }
    system.mount(0).failing(Step::Mount, about)
}

/// Attaches a detached mount at its target, which is made if it is missing: a folder, or a file for a file.
fn place(root: &OwnedFd, mount: &Mount, tree: &OwnedFd) -> Result<(), Failed> {
    let about = || text(&mount.target);
    let is_directory = sys::is_directory(tree).failing(Step::Mount, about)?;
    let target = if is_directory { directory(root, &mount.target) } else { file(root, &mount.target) };
    let target = target.failing(Step::Mount, about)?;
    sys::attach(tree, &target).failing(Step::Mount, about)
}

/// An open folder inside the root, made with its parents where missing.
fn directory(root: &OwnedFd, path: &CStr) -> std::io::Result<OwnedFd> {
    let mut built = Vec::new();
    let mut current = sys::open_in_root(root.as_fd(), c"/", libc::O_PATH)?;
    for part in path.to_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        built.push(b'/');
        built.extend_from_slice(part);
        let so_far = CString::new(built.clone()).unwrap_or_default();
        let open = || sys::open_in_root(root.as_fd(), &so_far, libc::O_PATH | libc::O_DIRECTORY);
        current = match open() {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                sys::make_directory(&current, &CString::new(part).unwrap_or_default())?;
                open()?
            }
            other => other?,
        };
    }
    Ok(current)
}

/// Parent folder and last part of a path.
fn parent(root: &OwnedFd, path: &CStr) -> std::io::Result<(OwnedFd, CString)> {
    let bytes = path.to_bytes();
    let cut = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let folder = directory(root, &CString::new(&bytes[..cut]).unwrap_or_default())?;
    let name = bytes[cut..].strip_prefix(b"/").unwrap_or(&bytes[cut..]);
    Ok((folder, CString::new(name).unwrap_or_default()))
}

/// An open file inside the root, made with its folder where missing; through a link of the image too that leads to nothing.
fn file(root: &OwnedFd, path: &CStr) -> std::io::Result<OwnedFd> {
    match sys::open_in_root(root.as_fd(), path, libc::O_PATH) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            parent(root, path)?;
            sys::create_in_root(root.as_fd(), path)?;
            sys::open_in_root(root.as_fd(), path, libc::O_PATH)
        }
        other => other,
    }
}

fn symlink(root: &OwnedFd, link: &Symlink) -> Result<(), Failed> {
    let made = parent(root, &link.path).and_then(|(folder, name)| sys::make_link(&folder, &name, &link.target));
    match made {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other.failing(Step::Device, || text(&link.path)),
    }
}

fn device(root: &OwnedFd, node: &Device) -> Result<(), Failed> {
    let number = sys::device_number(node.major, node.minor);
    let made = parent(root, &node.path).and_then(|(folder, name)| sys::make_node(&folder, &name, node.mode, number));
    match made {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other.failing(Step::Device, || text(&node.path)),
    }
}

/// Opens what is there; nothing to protect where nothing is.
fn existing(root: &OwnedFd, path: &CStr, step: Step) -> Result<Option<OwnedFd>, Failed> {
    match sys::open_in_root(root.as_fd(), path, libc::O_PATH) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        other => other.map(Some).failing(step, || text(path)),
    }
}

/// Makes a path read-only by mounting it onto itself.
fn protect(root: &OwnedFd, path: &CStr) -> Result<(), Failed> {
    let about = || text(path);
    let Some(place) = existing(root, path, Step::ReadOnly)? else { return Ok(()) };
    let copy = sys::copy_tree_of(&place).failing(Step::ReadOnly, about)?;
    sys::set_mount(&copy, sys::MOUNT_ATTR_RDONLY, true).failing(Step::ReadOnly, about)?;
    sys::attach(&copy, &place).failing(Step::ReadOnly, about)
}

/// Covers a path: a file by the host's /dev/null, a folder by an empty one.
fn mask(root: &OwnedFd, path: &CStr) -> Result<(), Failed> {
    let about = || text(path);
    let Some(place) = existing(root, path, Step::Mask)? else { return Ok(()) };
    let cover = if sys::is_directory(&place).failing(Step::Mask, about)? {
        FileSystem::open(c"tmpfs").and_then(|system| system.mount(sys::MOUNT_ATTR_RDONLY))
    } else {
        sys::copy_tree(template::NULL, false)
    };
    let cover = cover.failing(Step::Mask, about)?;
    sys::attach(&cover, &place).failing(Step::Mask, about)
}
