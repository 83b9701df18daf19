//! The system calls, each as one safe function. All unsafe code of this program is here and below.

use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_int, c_long, c_uint};

pub(crate) const AT_RECURSIVE: c_uint = 0x8000;
const OPEN_TREE_CLONE: c_uint = 1;
const OPEN_TREE_CLOEXEC: c_uint = libc::O_CLOEXEC as c_uint;
const MOVE_MOUNT_BOTH_EMPTY: c_uint = 0x04 | 0x40;
const FSCONFIG_SET_FLAG: c_uint = 0;
const FSCONFIG_SET_STRING: c_uint = 1;
const FSCONFIG_CMD_CREATE: c_uint = 6;
const RESOLVE_IN_ROOT: u64 = 0x10;
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

pub(crate) const MOUNT_ATTR_RDONLY: u64 = 1;
pub(crate) const MOUNT_ATTR_NOSUID: u64 = 2;
pub(crate) const MOUNT_ATTR_NODEV: u64 = 4;
pub(crate) const MOUNT_ATTR_NOEXEC: u64 = 8;

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: c_long) -> io::Result<OwnedFd> {
    let raw = check(result)? as RawFd;
    // SAFETY: the kernel has just made this descriptor for us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// One system call. Pointers among the arguments live at least until it returns, which every caller sees to by borrowing.
macro_rules! syscall {
    ($number:expr $(, $argument:expr)* $(,)?) => {{
        // SAFETY: the pointers come from references that live across the call, with the lengths that go with them.
        let result = unsafe { libc::syscall($number $(, $argument)*) };
        result
    }};
}

mod terminal;
pub(crate) use terminal::{control_by, duplicate, give_to, open_terminal, socket_pair};

pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn control(option: c_int, value: u64) -> io::Result<()> {
    check(syscall!(libc::SYS_prctl, option, value, 0, 0, 0)).map(drop)
}

/// A session of its own, out of reach of ptrace and /proc/PID/mem, adopting orphans.
pub(crate) fn protect_self() -> io::Result<()> {
    new_session()?;
    control(libc::PR_SET_DUMPABLE, 0)?;
    control(libc::PR_SET_CHILD_SUBREAPER, 1)?;
    control(libc::PR_SET_NAME, c"corten-pod".as_ptr() as u64)
}

/// Fails only where the process leads a group already; then it stands alone as it is.
pub(crate) fn new_session() -> io::Result<()> {
    match check(syscall!(libc::SYS_setsid)) {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => Err(error),
        _ => Ok(()),
    }
}

fn signal_set(signals: &[c_int]) -> libc::sigset_t {
    // SAFETY: all zeroes is a valid set.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    for signal in signals {
        // SAFETY: the set is initialised and borrowed mutably.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

fn set_mask(set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is borrowed, the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, ptr::from_ref(set), ptr::null_mut()) }.into()).map(drop)
}

/// Blocks what would end this process from a terminal or a service manager, and makes SIGCHLD readable.
pub(crate) fn block_signals() -> io::Result<OwnedFd> {
    set_mask(&signal_set(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE]))?;
    let set = signal_set(&[libc::SIGCHLD]);
    // SAFETY: the set is borrowed.
    let raw = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    owned(raw.into())
}

/// Nothing blocked, nothing ignored: what a program expects to start with.
pub(crate) fn reset_signals() -> io::Result<()> {
    // Handler (0 is the default action), flags, restorer, mask: as the kernel lays it out. Not by the C library, which keeps
    // two signals for itself that its `posix_spawn` leaves ignored.
    let default = [0_u64; 4];
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        check(syscall!(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<u64>(), 8))?;
    }
    set_mask(&signal_set(&[]))
}

/// Standard input as a descriptor that children do not inherit; /dev/null takes its place.
pub(crate) fn standard_input() -> io::Result<OwnedFd> {
    let listener = owned(syscall!(libc::SYS_fcntl, 0, libc::F_DUPFD_CLOEXEC, 3))?;
    let null = open(c"/dev/null", libc::O_RDWR)?;
    duplicate_to(&null, 0)?;
    Ok(listener)
}

pub(crate) fn open(path: &CStr, flags: c_int) -> io::Result<OwnedFd> {
    owned(syscall!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, 0o640))
}

pub(crate) fn duplicate_to(fd: &OwnedFd, to: RawFd) -> io::Result<()> {
    check(syscall!(libc::SYS_dup3, fd.as_raw_fd(), to, 0)).map(drop)
}

/// Closes every descriptor above standard error that is not in `keep`.
pub(crate) fn close_all_but(keep: &[&OwnedFd]) -> io::Result<()> {
    let mut kept: Vec<RawFd> = keep.iter().map(|fd| fd.as_raw_fd()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for end in kept.into_iter().chain([RawFd::MAX]).filter(|fd| *fd > 2) {
        if first < end {
            check(syscall!(libc::SYS_close_range, first, end - 1, 0))?;
        }
        first = end.saturating_add(1);
    }
    Ok(())
}

pub(crate) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    check(syscall!(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK)).map(drop)
}

/// Reading and writing end.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [0; 2];
    check(syscall!(libc::SYS_pipe2, ends.as_mut_ptr(), libc::O_CLOEXEC))?;
    Ok((owned(ends[0].into())?, owned(ends[1].into())?))
}

pub(crate) fn read(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    check(syscall!(libc::SYS_read, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())).map(|length| length as usize)
}

pub(crate) fn write(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    check(syscall!(libc::SYS_write, fd.as_raw_fd(), bytes.as_ptr(), bytes.len())).map(|length| length as usize)
}

/// Whether everybody on the reading side of a pipe is gone.
pub(crate) fn reader_is_gone(writer: &OwnedFd) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: writer.as_raw_fd(), events: 0, revents: 0 };
    check(syscall!(libc::SYS_poll, &raw mut poll, 1, 0))?;
    Ok(poll.revents & libc::POLLERR != 0)
}

/// Asks to be killed when this process' parent dies.
pub(crate) fn die_with_parent() -> io::Result<()> {
    control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)
}

pub(crate) fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the result is borrowed mutably; the two clocks in use exist everywhere.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub(crate) fn unshare(flags: c_int) -> io::Result<()> {
    check(syscall!(libc::SYS_unshare, flags)).map(drop)
}

pub(crate) fn join_namespaces(fd: &OwnedFd, flags: c_int) -> io::Result<()> {
    check(syscall!(libc::SYS_setns, fd.as_raw_fd(), flags)).map(drop)
}

pub(crate) fn set_hostname(name: &CStr) -> io::Result<()> {
    check(syscall!(libc::SYS_sethostname, name.as_ptr(), name.count_bytes())).map(drop)
}

/// Brings the loopback link of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = owned(syscall!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
    // SAFETY: all zeroes is a valid request.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    check(syscall!(libc::SYS_ioctl, socket.as_raw_fd(), libc::SIOCSIFFLAGS as c_long, &raw const request)).map(drop)
}

/// The two sides of a fork.
pub(crate) enum Forked {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks into new namespaces (`flags`), and into a v2 group if one is given. The program has one thread, so the child may do
/// whatever the parent may.
pub(crate) fn fork(flags: c_int, cgroup: Option<&OwnedFd>) -> io::Result<Forked> {
    let mut pidfd: RawFd = -1;
    let mut arguments = CloneArguments {
        flags: flags as u64 | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArguments::default()
    };
    if let Some(group) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = group.as_raw_fd() as u64;
    }
    let result = syscall!(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>());
    match check(result)? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent { pid: pid as i32, pidfd: owned(pidfd.into())? }),
    }
}

/// Ends this process at once, without destructors or exit handlers.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: takes no pointer and does not return.
    unsafe { libc::_exit(code) }
}

/// Any child that has ended: pid and wait status.
pub(crate) fn reap() -> Option<(i32, c_int)> {
    let mut status = 0;
    let result =
        syscall!(libc::SYS_wait4, -1, &raw mut status, libc::WNOHANG | libc::__WALL, ptr::null_mut::<libc::rusage>());
    check(result).ok().filter(|pid| *pid > 0).map(|pid| (pid as i32, status))
}

pub(crate) fn send_signal(pidfd: &OwnedFd, signal: c_int) -> io::Result<()> {
    let none = ptr::null::<libc::siginfo_t>();
    check(syscall!(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0)).map(drop)
}

/// Readiness of descriptors, each known by a token.
pub(crate) struct Epoll(OwnedFd);

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        owned(syscall!(libc::SYS_epoll_create1, libc::EPOLL_CLOEXEC)).map(Self)
    }

    /// Watches for reading. A closed descriptor leaves by itself, at the latest when children forked meanwhile have closed theirs.
    pub(crate) fn add(&self, fd: &OwnedFd, token: u64) -> io::Result<()> {
        let event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        let epoll = self.0.as_raw_fd();
        check(syscall!(libc::SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw const event)).map(drop)
    }

    /// Tokens that are ready; none after `timeout_ms` (-1: never).
    pub(crate) fn wait(&self, timeout_ms: c_int) -> io::Result<Vec<u64>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 32];
        let null = ptr::null::<libc::sigset_t>();
        let (epoll, room) = (self.0.as_raw_fd(), events.len());
        let result = syscall!(libc::SYS_epoll_pwait, epoll, events.as_mut_ptr(), room, timeout_ms, null, 8);
        match check(result) {
            Ok(count) => Ok(events[..count as usize].iter().map(|event| event.u64).collect()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

pub(crate) fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let (address, length) = (ptr::null_mut::<libc::sockaddr>(), ptr::null_mut::<libc::socklen_t>());
    owned(syscall!(libc::SYS_accept4, listener.as_raw_fd(), address, length, flags))
}

/// The user at the other end of a local socket.
pub(crate) fn peer_uid(socket: &OwnedFd) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let (fd, level, name) = (socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED);
    check(syscall!(libc::SYS_getsockopt, fd, level, name, &raw mut peer, &raw mut length))?;
    Ok(peer.uid)
}

pub(crate) fn own_uid() -> u32 {
    syscall!(libc::SYS_geteuid) as u32
}

/// Room for the descriptors of one message, aligned as the kernel writes them.
#[repr(C, align(8))]
struct Ancillary([u8; 64]);

/// One datagram and the descriptors that came with it. `None`: the other end has closed.
pub(crate) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut ancillary = Ancillary([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid header.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = ancillary.0.as_mut_ptr().cast();
    header.msg_controllen = 64;
    // SAFETY: the header points to a buffer, a part and room for ancillary data that all live until the end of this function.
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let length = check(result as c_long)? as usize;
    let descriptors = descriptors(&header);
    Ok((length > 0).then_some((length, descriptors)))
}

fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut found = Vec::new();
    // SAFETY: the kernel has filled the header and its ancillary data.
    let first = unsafe { libc::CMSG_FIRSTHDR(ptr::from_ref(header)) };
    // SAFETY: null, or the first of the headers that the kernel wrote.
    let Some(message) = (unsafe { first.as_ref() }) else { return found };
    if message.cmsg_level != libc::SOL_SOCKET || message.cmsg_type != libc::SCM_RIGHTS {
        return found;
    }
    // SAFETY: takes no pointer.
    let overhead = unsafe { libc::CMSG_LEN(0) } as usize;
    #[allow(clippy::unnecessary_cast, reason = "one C library has a narrower type")]
    let count = (message.cmsg_len as usize - overhead) / size_of::<RawFd>();
    // SAFETY: the header is followed by its data.
    let data = unsafe { libc::CMSG_DATA(first) }.cast::<RawFd>();
    for index in 0..count {
        // SAFETY: index is below the number of descriptors that the header's length tells.
        let place = unsafe { data.add(index) };
        // SAFETY: the place is inside the data; it may be unaligned.
        let raw = unsafe { place.read_unaligned() };
        // SAFETY: the kernel has installed this descriptor for us.
        found.push(unsafe { OwnedFd::from_raw_fd(raw) });
    }
    found
}

/// Sends one datagram, with a descriptor if one is given. Never waits.
pub(crate) fn send(socket: &OwnedFd, bytes: &[u8], descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let mut ancillary = Ancillary([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zeroes is a valid header.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if let Some(descriptor) = descriptor {
        let raw = descriptor.as_raw_fd().to_ne_bytes();
        // SAFETY: takes no pointer.
        let length = unsafe { libc::CMSG_LEN(4) } as usize;
        // SAFETY: takes no pointer.
        let space = unsafe { libc::CMSG_SPACE(4) } as usize;
        ancillary.0[..8].copy_from_slice(&(length as u64).to_ne_bytes());
        ancillary.0[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        ancillary.0[12..16].copy_from_slice(&libc::SCM_RIGHTS.to_ne_bytes());
        ancillary.0[16..20].copy_from_slice(&raw);
        header.msg_control = ancillary.0.as_mut_ptr().cast();
        header.msg_controllen = space as _;
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    check(syscall!(libc::SYS_sendmsg, socket.as_raw_fd(), &raw const header, flags)).map(drop)
}

/// A TCP connection that may still be on its way.
pub(crate) fn connect(address: &[u8], port: u16) -> io::Result<OwnedFd> {
    let family = match address.len() {
        4 => libc::AF_INET,
        16 => libc::AF_INET6,
        _ => return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let socket = owned(syscall!(libc::SYS_socket, family, kind, 0))?;
    let mut name = [0_u8; 28];
    name[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    name[2..4].copy_from_slice(&port.to_be_bytes());
    let (at, length) = if family == libc::AF_INET { (4, 16) } else { (8, 28) };
    name[at..at + address.len()].copy_from_slice(address);
    match check(syscall!(libc::SYS_connect, socket.as_raw_fd(), name.as_ptr(), length)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Opens `path` as if `root` were the root directory: no link leads out of it.
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &CStr, flags: c_int) -> io::Result<OwnedFd> {
    in_root(root, path, flags, 0)
}

/// Makes an empty file in the same way.
pub(crate) fn create_in_root(root: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    in_root(root, path, libc::O_WRONLY | libc::O_CREAT | libc::O_NONBLOCK, 0o644).map(drop)
}

fn in_root(root: BorrowedFd<'_>, path: &CStr, flags: c_int, mode: u64) -> io::Result<OwnedFd> {
    let flags = (flags | libc::O_CLOEXEC) as u64;
    let how = OpenHow { flags, mode, resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
    owned(syscall!(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<OpenHow>()))
}

pub(crate) fn make_directory(parent: &OwnedFd, name: &CStr) -> io::Result<()> {
    check(syscall!(libc::SYS_mkdirat, parent.as_raw_fd(), name.as_ptr(), 0o755)).map(drop)
}

pub(crate) fn make_node(parent: &OwnedFd, name: &CStr, mode: u32, device: u64) -> io::Result<()> {
    check(syscall!(libc::SYS_mknodat, parent.as_raw_fd(), name.as_ptr(), mode, device)).map(drop)
}

pub(crate) fn device_number(major: u32, minor: u32) -> u64 {
    libc::makedev(major, minor)
}

pub(crate) fn make_link(parent: &OwnedFd, name: &CStr, target: &CStr) -> io::Result<()> {
    check(syscall!(libc::SYS_symlinkat, target.as_ptr(), parent.as_raw_fd(), name.as_ptr())).map(drop)
}

pub(crate) fn is_directory(fd: &OwnedFd) -> io::Result<bool> {
    is_of(fd, libc::S_IFDIR)
}

pub(crate) fn is_pipe(fd: &OwnedFd) -> io::Result<bool> {
    is_of(fd, libc::S_IFIFO)
}

fn is_of(fd: &OwnedFd, kind: libc::mode_t) -> io::Result<bool> {
    // SAFETY: all zeroes is a valid result.
    let mut status: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: the result is borrowed mutably.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut status) }.into())?;
    Ok(status.st_mode & libc::S_IFMT == kind)
}

pub(crate) fn set_umask(mask: u32) {
    syscall!(libc::SYS_umask, mask);
}

/// A detached copy of what is mounted at a path on this side, with everything below it if `recursive`.
pub(crate) fn copy_tree(path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | if recursive { AT_RECURSIVE } else { 0 };
    owned(syscall!(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags))
}

/// The same of an open place.
pub(crate) fn copy_tree_of(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | libc::AT_EMPTY_PATH as c_uint;
    owned(syscall!(libc::SYS_open_tree, fd.as_raw_fd(), c"".as_ptr(), flags))
}

#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Sets attributes of a mount and, if `recursive`, of all below it.
pub(crate) fn set_mount(fd: &OwnedFd, set: u64, recursive: bool) -> io::Result<()> {
    let attributes = MountAttributes { set, ..MountAttributes::default() };
    let flags = libc::AT_EMPTY_PATH as c_uint | if recursive { AT_RECURSIVE } else { 0 };
    let (pointer, size) = (&raw const attributes, size_of::<MountAttributes>());
    check(syscall!(libc::SYS_mount_setattr, fd.as_raw_fd(), c"".as_ptr(), flags, pointer, size)).map(drop)
}

/// Attaches a detached mount to an open place.
pub(crate) fn attach(mount: &OwnedFd, place: &OwnedFd) -> io::Result<()> {
    let (from, to, empty) = (mount.as_raw_fd(), place.as_raw_fd(), c"".as_ptr());
    check(syscall!(libc::SYS_move_mount, from, empty, to, empty, MOVE_MOUNT_BOTH_EMPTY)).map(drop)
}

/// A new file system, not mounted anywhere yet.
pub(crate) struct FileSystem(OwnedFd);

impl FileSystem {
    /// Its source, which mount tables show, is its kind.
    pub(crate) fn open(kind: &CStr) -> io::Result<Self> {
        let system = Self(owned(syscall!(libc::SYS_fsopen, kind.as_ptr(), 1))?);
        system.set(c"source", kind)?;
        Ok(system)
    }

    pub(crate) fn set(&self, key: &CStr, value: &CStr) -> io::Result<()> {
        let (fd, key, value) = (self.0.as_raw_fd(), key.as_ptr(), value.as_ptr());
        check(syscall!(libc::SYS_fsconfig, fd, FSCONFIG_SET_STRING, key, value, 0)).map(drop)
    }

    pub(crate) fn set_flag(&self, key: &CStr) -> io::Result<()> {
        let (fd, key, none) = (self.0.as_raw_fd(), key.as_ptr(), ptr::null::<u8>());
        check(syscall!(libc::SYS_fsconfig, fd, FSCONFIG_SET_FLAG, key, none, 0)).map(drop)
    }

    /// Makes it, and a detached mount of it.
    pub(crate) fn mount(&self, attributes: u64) -> io::Result<OwnedFd> {
        let (fd, none) = (self.0.as_raw_fd(), ptr::null::<u8>());
        check(syscall!(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, none, none, 0))?;
        owned(syscall!(libc::SYS_fsmount, fd, 1, attributes))
    }
}

/// Sets how a mount and all below it take part in what others mount: `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`.
pub(crate) fn set_propagation(fd: &OwnedFd, propagation: u64) -> io::Result<()> {
    let attributes = MountAttributes { propagation, ..MountAttributes::default() };
    let flags = libc::AT_EMPTY_PATH as c_uint | AT_RECURSIVE;
    let (pointer, size) = (&raw const attributes, size_of::<MountAttributes>());
    check(syscall!(libc::SYS_mount_setattr, fd.as_raw_fd(), c"".as_ptr(), flags, pointer, size)).map(drop)
}

/// Mounts below the root neither tell the host of changes nor hear of the host's.
pub(crate) fn isolate_mounts() -> io::Result<()> {
    let none = ptr::null::<u8>();
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    check(syscall!(libc::SYS_mount, none, c"/".as_ptr(), none, flags, none)).map(drop)
}

/// Children that end are forgotten by the kernel.
pub(crate) fn ignore_children() -> io::Result<()> {
    let ignore = [libc::SIG_IGN as u64, 0, 0, 0];
    check(syscall!(libc::SYS_rt_sigaction, libc::SIGCHLD, ignore.as_ptr(), ptr::null_mut::<u64>(), 8)).map(drop)
}

/// Sleeps until a signal ends this process.
pub(crate) fn sleep_for_ever() -> ! {
    loop {
        syscall!(libc::SYS_ppoll, ptr::null::<u8>(), 0, ptr::null::<u8>(), ptr::null::<u8>(), 0);
    }
}

/// Makes an open directory the root and lets go of the old one.
pub(crate) fn change_root(root: &OwnedFd) -> io::Result<()> {
    check(syscall!(libc::SYS_fchdir, root.as_raw_fd()))?;
    check(syscall!(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))?;
    check(syscall!(libc::SYS_umount2, c".".as_ptr(), libc::MNT_DETACH))?;
    change_directory(c"/")
}

pub(crate) fn change_directory(path: &CStr) -> io::Result<()> {
    check(syscall!(libc::SYS_chdir, path.as_ptr())).map(drop)
}

pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = [soft, hard];
    check(syscall!(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), ptr::null_mut::<u64>())).map(drop)
}

pub(crate) fn set_groups(groups: &[u32]) -> io::Result<()> {
    check(syscall!(libc::SYS_setgroups, groups.len(), groups.as_ptr())).map(drop)
}

/// Group, then user; capabilities stay permitted.
pub(crate) fn set_ids(uid: u32, gid: u32) -> io::Result<()> {
    control(libc::PR_SET_KEEPCAPS, 1)?;
    check(syscall!(libc::SYS_setresgid, gid, gid, gid))?;
    check(syscall!(libc::SYS_setresuid, uid, uid, uid))?;
    control(libc::PR_SET_KEEPCAPS, 0)
}

/// Takes every capability out of the bounding set that is not in `keep`, up to the last one that this kernel knows.
pub(crate) fn bound_capabilities(keep: u64) -> io::Result<()> {
    for number in (0..64).filter(|number| keep & (1 << number) == 0) {
        match control(libc::PR_CAPBSET_DROP, number) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

pub(crate) fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let halves = |shift: u32| [effective, permitted, inheritable].map(|set| (set >> shift) as u32);
    let data = [halves(0), halves(32)];
    check(syscall!(libc::SYS_capset, header.as_ptr(), data.as_ptr())).map(drop)
}

pub(crate) fn raise_ambient(set: u64) -> io::Result<()> {
    for number in (0..64_u64).filter(|number| set & (1 << number) != 0) {
        check(syscall!(libc::SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0))?;
    }
    Ok(())
}

pub(crate) fn no_new_privileges() -> io::Result<()> {
    control(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Loads a filter program of eight-byte instructions.
pub(crate) fn load_filter(program: &[u8]) -> io::Result<()> {
    let instructions: Vec<u64> = program.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect();
    let Ok(length) = u16::try_from(instructions.len()) else { return Err(io::Error::from_raw_os_error(libc::E2BIG)) };
    let program = libc::sock_fprog { len: length, filter: instructions.as_ptr().cast_mut().cast() };
    check(syscall!(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)).map(drop)
}

/// Becomes another program; returns only when that fails.
pub(crate) fn execute(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    syscall!(libc::SYS_execve, path.as_ptr(), args.as_ptr(), env.as_ptr());
    io::Error::last_os_error()
}

/// The same with an open program, whose place the caller may not be allowed to see.
pub(crate) fn execute_open(program: &OwnedFd, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env, fd) = (pointers(args), pointers(env), program.as_raw_fd());
    syscall!(libc::SYS_execveat, fd, c"".as_ptr(), args.as_ptr(), env.as_ptr(), libc::AT_EMPTY_PATH);
    io::Error::last_os_error()
}

/// Two ends of a local socket for datagrams in order, the first of which never waits.
pub(crate) fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    check(syscall!(libc::SYS_socketpair, libc::AF_UNIX, kind, 0, ends.as_mut_ptr()))?;
    let (first, second) = (owned(ends[0].into())?, owned(ends[1].into())?);
    set_nonblocking(&first)?;
    Ok((first, second))
}

/// Whether a read would find bytes or the end.
pub(crate) fn is_readable(fd: &OwnedFd) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    syscall!(libc::SYS_poll, &raw mut poll, 1, 0) == 1
}
