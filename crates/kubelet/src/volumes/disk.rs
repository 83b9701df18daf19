//! A disk of this node's own for a persistent volume: a sparse file of the claimed size with ext4 in it, shown by a loop
//! device. So the size holds, whoever writes, and a file system that is full is one claim's alone.
//!
//! Each pod has a mount of its own in its folder; the kernel knows them as one file system as long as they are of one
//! device. The device lets go of the file with the last mount, so nothing is counted and nothing is to be put right after
//! a kill. What must not happen, a second device over the same file, is kept out by a lock.

use std::fs::{self, File};
use std::io;
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use corten_sys::loop_device::{self, LoopDevice};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, statvfs};
use rustix::mount::{MountFlags, mount};

use super::mounts::mount_table;
use crate::settings::Settings;

const IMAGE: &str = "image";
/// One that is being made.
const NEW: &str = "image.new";

/// ext4 keeps no journal in less, and what has none is damaged by a power cut.
const BYTES_MIN: u64 = 8 << 20;
const BLOCK: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("{what} {path}")]
    Io { what: &'static str, path: String, source: io::Error },
    #[error("{0} is not on this server; apt-get install -y e2fsprogs")]
    NoProgram(&'static str),
    #[error("{program} failed with {status}: {said}")]
    Program { program: &'static str, status: String, said: String },
    #[error("this server's kernel gives no loop device (modprobe loop)")]
    NoLoop(#[source] io::Error),
    #[error("mount option {0:?} is not for a volume of this node")]
    Option(String),
}

impl DiskError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.display().to_string(), source }
    }
}

/// The disk of one volume.
pub(crate) struct Disk {
    volumes: PathBuf,
    dir: PathBuf,
}

/// Nobody else makes, shows or removes a disk of this node while it is held.
struct Lock(#[expect(dead_code, reason = "it is held")] File);

impl Disk {
    /// `volume` is the name of a PersistentVolume.
    pub(crate) fn new(settings: &Settings, volume: &str) -> Self {
        let volumes = settings.dir.join("volumes");
        Self { dir: volumes.join(volume), volumes }
    }

    fn image(&self) -> PathBuf {
        self.dir.join(IMAGE)
    }

    fn lock(&self) -> Result<Lock, DiskError> {
        let locked = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.volumes).and_then(|()| {
            let folder = File::open(&self.volumes)?;
            flock(&folder, FlockOperation::LockExclusive)?;
            Ok(Lock(folder))
        });
        locked.map_err(DiskError::io("cannot lock", &self.volumes))
    }

    /// Shows the disk at a folder, with at least so many bytes. It is made with the first mount.
    pub(crate) fn mount(&self, bytes: u64, at: &Path, options: &[&str]) -> Result<(), DiskError> {
        let (flags, data) = mount_options(options)?;
        let _alone = self.lock()?;
        let bytes = rounded(bytes);
        let new = !self.image().exists();
        if new {
            self.make(bytes)?;
        }
        let image = self.open()?;
        let device = match loop_device::attached(&image).map_err(DiskError::NoLoop)? {
            Some(device) => {
                extend(&image, Some(&device), bytes).map_err(DiskError::io("cannot extend", &self.image()))?;
                device
            }
            None => {
                extend(&image, None, bytes).map_err(DiskError::io("cannot extend", &self.image()))?;
                self.fill_unused(&image)?;
                loop_device::attach(&image).map_err(DiskError::NoLoop)?
            }
        };
        let data = std::ffi::CString::new(data).map_err(|_| DiskError::Option(options.join(",")))?;
        mount(device.path(), at, "ext4", flags, Some(data.as_c_str()))
            .map_err(|error| DiskError::io("cannot mount", &self.image())(error.into()))?;
        if new {
            // Programs that want an empty folder get one; the check of file systems makes it again when it needs it.
            let spare = at.join("lost+found");
            fs::remove_dir(&spare).map_err(DiskError::io("cannot remove", &spare))?;
        }
        fill(at).map(drop).map_err(DiskError::io("cannot resize the file system at", at))
    }

    /// Makes the file system of an image that nothing shows as large as the file. The kernel lets only some do that while it is
    /// mounted.
    fn fill_unused(&self, image: &File) -> Result<(), DiskError> {
        let path = self.image();
        let (has, may) = (file_system_bytes(image), image.metadata().map(|meta| meta.st_size()));
        let read = DiskError::io("cannot read", &path);
        let (has, may) = has.and_then(|has| Ok((has, may?))).map_err(read)?;
        if has + BLOCK > may {
            return Ok(());
        }
        // Its journal may have something left to do; what was mended is well.
        run("e2fsck", &["-f", "-p"], &path, &[0, 1])?;
        run("resize2fs", &[], &path, &[0])
    }

    /// Gives a disk that is there so many bytes, while it is in use. Whether the file system has them now; one that is not mounted gets them
    /// with its next mount.
    pub(crate) fn grow(&self, bytes: u64) -> Result<bool, DiskError> {
        let _alone = self.lock()?;
        if !self.image().exists() {
            return Ok(false);
        }
        let image = self.open()?;
        let grown = || -> io::Result<bool> {
            let Some(device) = loop_device::attached(&image)? else { return Ok(false) };
            extend(&image, Some(&device), rounded(bytes))?;
            let number = fs::metadata(device.path())?.rdev();
            let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
            let Some(shown) = mount_table()?.into_iter().find(|mounted| mounted.device == (major, minor)) else {
                return Ok(false);
            };
            fill(&shown.point)
        };
        grown().map_err(DiskError::io("cannot extend", &self.image()))
    }

    /// Takes the disk away. Its room is free once nothing shows it any more.
    pub(crate) fn remove(&self) -> Result<(), DiskError> {
        let _alone = self.lock()?;
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DiskError::io("cannot remove", &self.dir)(error))
            }
            _ => Ok(()),
        }
    }

    fn open(&self) -> Result<File, DiskError> {
        let image = self.image();
        File::options().read(true).write(true).open(&image).map_err(DiskError::io("cannot open", &image))
    }

    /// An image is there whole or not at all.
    fn make(&self, bytes: u64) -> Result<(), DiskError> {
        let new = self.dir.join(NEW);
        let file = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).and_then(|()| {
            let file = File::create(&new)?;
            file.set_len(bytes)?;
            Ok(file)
        });
        let file = file.map_err(DiskError::io("cannot make", &new))?;
        mkfs(&new)?;
        let kept = file.sync_all().and_then(|()| fs::rename(&new, self.image())).and_then(|()| {
            File::open(&self.dir)?.sync_all()?;
            File::open(&self.volumes)?.sync_all()
        });
        kept.map_err(DiskError::io("cannot keep", &self.dir))
    }
}

/// The size of a disk for a claim of so many bytes.
fn rounded(bytes: u64) -> u64 {
    bytes.max(BYTES_MIN).next_multiple_of(BLOCK)
}

/// Makes a file at least so long, and its device see that.
fn extend(image: &File, device: Option<&LoopDevice>, bytes: u64) -> io::Result<()> {
    if image.metadata()?.st_size() >= bytes {
        return Ok(());
    }
    image.set_len(bytes)?;
    image.sync_all()?;
    device.map_or(Ok(()), LoopDevice::grow)
}

/// The size of the ext4 file system in an image: blocks in two halves, and the block's size as a power of two.
fn file_system_bytes(image: &File) -> io::Result<u64> {
    const AT: u64 = 1024;
    let mut block = [0; 0x154];
    image.read_exact_at(&mut block, AT)?;
    let number = |at: usize| u64::from(u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes")));
    Ok((number(0x150) << 32 | number(4)) << (10 + number(24)))
}

/// Makes a mounted file system as large as its device, if the kernel lets us (CAP_SYS_RESOURCE). Whether it is.
fn fill(at: &Path) -> io::Result<bool> {
    let number = fs::metadata(at)?.dev();
    let device = format!("/sys/dev/block/{}:{}/size", rustix::fs::major(number), rustix::fs::minor(number));
    let sectors: u64 = fs::read_to_string(device)?.trim().parse().map_err(io::Error::other)?;
    let wanted = sectors * 512 / BLOCK * BLOCK;
    if shown_bytes(at)? >= wanted {
        return Ok(true);
    }
    let folder = rustix::fs::open(at, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match loop_device::resize_ext4(&folder, wanted / BLOCK) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        other => other.map(|()| true),
    }
}

/// The size of the file system at a path, with what it needs for itself.
pub(crate) fn shown_bytes(at: &Path) -> io::Result<u64> {
    let stat = statvfs(at)?;
    Ok(stat.f_blocks * stat.f_frsize)
}

/// The file is all zeros, so neither tables of inodes nor the journal need to be written: the image stays small.
fn mkfs(image: &Path) -> Result<(), DiskError> {
    let sizes = ["-q", "-F", "-b", "4096", "-i", "16384", "-m", "0"];
    let zeros = ["-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"];
    run("mkfs.ext4", &[&sizes[..], &zeros].concat(), image, &[0])
}

/// Runs a program of e2fsprogs on an image; these codes say that it went well.
fn run(program: &'static str, options: &[&str], image: &Path, well: &[i32]) -> Result<(), DiskError> {
    // They are not where a user's path leads.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let ran = Command::new(program).env("PATH", path).args(options).arg(image).output();
    match ran {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(DiskError::NoProgram(program)),
        Err(source) => Err(DiskError::io("cannot run a program for", image)(source)),
        Ok(output) if output.status.code().is_some_and(|code| well.contains(&code)) => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(DiskError::Program { program, status: output.status.to_string(), said })
        }
    }
}

/// What a volume's `mountOptions` mean. What is deleted in the volume is room on the node again, and its size is told as it was
/// asked for.
fn mount_options(options: &[&str]) -> Result<(MountFlags, String), DiskError> {
    let mut flags = MountFlags::NODEV;
    let mut data = "discard,noinit_itable,minixdf".to_owned();
    for option in options {
        match *option {
            "ro" => flags |= MountFlags::RDONLY,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "nosuid" => flags |= MountFlags::NOSUID,
            "noexec" => flags |= MountFlags::NOEXEC,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "rw" | "nodev" | "defaults" => {}
            other if other.contains(',') || other.starts_with("journal") => {
                return Err(DiskError::Option(other.to_owned()));
            }
            other => {
                data.push(',');
                data.push_str(other);
            }
        }
    }
    Ok((flags, data))
}

#[cfg(test)]
mod tests;
