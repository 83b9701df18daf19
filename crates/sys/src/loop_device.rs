//! Files as block devices, loop(4): a disk of a size that holds is a file with a file system in it. A device lets go of its
//! file by itself once nobody has it open or mounted, so nothing has to be taken apart, whoever was killed when.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const CONTROL: &str = "/dev/loop-control";
const DEVICES: &str = "/sys/block";

// linux/loop.h
const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;
const LOOP_SET_CAPACITY: libc::c_ulong = 0x4C07;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// How often another free device is asked for when somebody was faster.
const TRIES: u32 = 64;

/// `struct loop_info64`
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

impl Info {
    const NONE: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// A device that shows a file. While this is held the device keeps it.
#[derive(Debug)]
pub struct LoopDevice {
    file: File,
    path: PathBuf,
}

impl LoopDevice {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes notice of a file that has grown.
    pub fn grow(&self) -> io::Result<()> {
        control(&self.file, LOOP_SET_CAPACITY, 0).map(drop)
    }

    /// The file behind it: device and inode; `None` where there is none any more.
    fn behind(&self) -> io::Result<Option<(u64, u64)>> {
        let mut info = Info::NONE;
        match control(&self.file, LOOP_GET_STATUS64, (&raw mut info) as usize) {
            Ok(_) => Ok(Some((info.device, info.inode))),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The device that shows a file already. Two devices over one file would each have a truth of its own.
pub fn attached(image: &File) -> io::Result<Option<LoopDevice>> {
    let meta = image.metadata()?;
    let wanted = Some((meta.dev(), meta.ino()));
    for entry in fs::read_dir(DEVICES)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix("loop")) else { continue };
        if !entry.path().join("loop/backing_file").exists() {
            continue;
        }
        let device = match open(&PathBuf::from(format!("/dev/loop{number}"))) {
            // One that goes while we look.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENOENT | libc::EBUSY)) => continue,
            other => other?,
        };
        if device.behind()? == wanted {
            return Ok(Some(device));
        }
    }
    Ok(None)
}

/// Shows a file as a device. Reads and writes go past this server's cache where the file system under it can do that, so that
/// nothing is kept twice.
pub fn attach(image: &File) -> io::Result<LoopDevice> {
    let free = OpenOptions::new().read(true).write(true).open(CONTROL)?;
    for _ in 0..TRIES {
        let number = control(&free, LOOP_CTL_GET_FREE, 0)?;
        let device = open(&PathBuf::from(format!("/dev/loop{number}")))?;
        let fd = u32::try_from(image.as_raw_fd()).expect("an open descriptor is not negative");
        let info = Info { flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO, ..Info::NONE };
        let config = Config { fd, block_size: 0, info, reserved: [0; 8] };
        match control(&device.file, LOOP_CONFIGURE, (&raw const config) as usize) {
            Ok(_) => return Ok(device),
            // Somebody else has taken it.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "others take every free loop device first"))
}

fn open(path: &Path) -> io::Result<LoopDevice> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    Ok(LoopDevice { file, path: path.to_owned() })
}

/// ioctl(2) with a number, or with the address of something that the request reads or writes.
fn control(file: &File, request: libc::c_ulong, argument: usize) -> io::Result<i32> {
    // SAFETY: the descriptor is open; the requests above take no argument or the address of the structure that they are
    // defined for, which lives in the caller until this returns.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

// linux/ext4.h: _IOW('f', 16, __u64)
const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;

/// Makes a mounted ext4 file system have so many blocks; `at` is anything in it.
pub fn resize_ext4(at: &OwnedFd, blocks: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open; the request reads one number of 64 bits from the address.
    let answer = unsafe { libc::ioctl(at.as_raw_fd(), EXT4_IOC_RESIZE_FS as _, &raw const blocks) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
    }
}
