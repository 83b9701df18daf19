//! Terminals: a pair made in the container's own /dev/pts, and becoming the one that controls a session.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use libc::{c_int, c_long};

use super::{check, open, owned};

/// Requests of ioctl_tty(2); not every C library names them.
const TIOCSPTLCK: c_long = 0x4004_5431;
const TIOCGPTPEER: c_long = 0x5441;
const TIOCSCTTY: c_long = 0x540e;

/// The device of every ptmx.
const PTMX: (u32, u32) = (5, 2);

/// A new terminal of the devpts that `path` (its ptmx) belongs to: the end of whoever looks, and the program's end. The files
/// are the container's, so what stands at the path may be anything; what is not a ptmx is refused.
pub(crate) fn open_terminal(path: &CStr) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK;
    let master = open(path, flags | libc::O_NOFOLLOW)?;
    if device_of(&master)? != Some(PTMX) {
        return Err(io::Error::from_raw_os_error(libc::ENOTTY));
    }
    let unlocked: c_int = 0;
    check(syscall!(libc::SYS_ioctl, master.as_raw_fd(), TIOCSPTLCK, &raw const unlocked))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let slave = owned(syscall!(libc::SYS_ioctl, master.as_raw_fd(), TIOCGPTPEER, flags))?;
    Ok((master, slave))
}

/// Numbers of a character device; none for anything else.
fn device_of(fd: &OwnedFd) -> io::Result<Option<(u32, u32)>> {
    // SAFETY: all zeroes is a valid result.
    let mut status: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: the result is borrowed mutably.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut status) }.into())?;
    let is_device = status.st_mode & libc::S_IFMT == libc::S_IFCHR;
    Ok(is_device.then(|| (libc::major(status.st_rdev), libc::minor(status.st_rdev))))
}

/// Makes a terminal the controlling one of this session, which this process leads.
pub(crate) fn control_by(terminal: &OwnedFd) -> io::Result<()> {
    check(syscall!(libc::SYS_ioctl, terminal.as_raw_fd(), TIOCSCTTY, 0)).map(drop)
}

/// Gives an open file to a user; its group stays.
pub(crate) fn give_to(fd: &OwnedFd, uid: u32) -> io::Result<()> {
    check(syscall!(libc::SYS_fchown, fd.as_raw_fd(), uid, u32::MAX)).map(drop)
}

/// Two connected ends; messages keep their bounds.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    check(syscall!(libc::SYS_socketpair, libc::AF_UNIX, kind, 0, ends.as_mut_ptr()))?;
    Ok((owned(ends[0].into())?, owned(ends[1].into())?))
}

/// Another descriptor of the same open file.
pub(crate) fn duplicate(fd: &OwnedFd) -> io::Result<OwnedFd> {
    owned(syscall!(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3))
}
