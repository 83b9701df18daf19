//! Network namespaces as values: opened, entered by a thread of their own, compared.
//!
//! A thread that enters another namespace never comes back and runs nothing else, so no thread of a pool is ever left in
//! the wrong place. Sockets opened there stay there and may be used from everywhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::net::{AddressFamily, SocketType};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// A network namespace, kept alive by this value.
#[derive(Debug)]
pub struct NetNs(File);

impl NetNs {
    /// The caller's own.
    ///
    /// # Errors
    /// When /proc is not there.
    pub fn current() -> io::Result<Self> {
        Self::at(Path::new("/proc/thread-self/ns/net"))
    }

    /// A process's.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::at(&Path::new("/proc").join(pid.to_string()).join("ns/net"))
    }

    /// The one that a file names.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self(File::open(path)?))
    }

    /// A new, empty one, whose loopback link is down.
    ///
    /// # Errors
    /// Without the right to make one.
    pub fn create() -> io::Result<Self> {
        on_own_thread(|| {
            #[expect(
                deprecated,
                reason = "the safe form: a network namespace of its own takes no memory from anybody"
            )]
            rustix::thread::unshare(UnshareFlags::NEWNET)?;
            Self::current()
        })
    }

    /// Runs something inside, on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// When the namespace may not be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_own_thread(|| {
            rustix::thread::move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        })
    }

    /// Whether both are the same namespace.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn is(&self, other: &Self) -> io::Result<bool> {
        let (one, two) = (self.0.metadata()?, other.0.metadata()?);
        Ok(one.dev() == two.dev() && one.ino() == two.ino())
    }

    /// Tells it from every other since the machine has started; the kernel gives the number in its name out again (socket(7)).
    ///
    /// # Errors
    /// When the namespace may not be entered.
    pub fn cookie(&self) -> io::Result<u64> {
        self.run(cookie_here)?
    }

    /// # Errors
    /// When no file descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// The descriptor's number, as messages to the kernel name the namespace.
    pub(crate) fn raw_number(&self) -> u32 {
        self.0.as_raw_fd().cast_unsigned()
    }
}

/// That of the namespace which this thread is in.
fn cookie_here() -> io::Result<u64> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let (mut cookie, mut length) = (0_u64, size_of::<u64>() as libc::socklen_t);
    let (value, space) = ((&raw mut cookie).cast(), &raw mut length);
    // SAFETY: the descriptor is open; the option is a number of 64 bits, for which there is room at the address, as `length` says.
    let answer = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, value, space) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_never_given_out_again() {
        let here = NetNs::current().expect("/proc");
        assert_eq!(here.cookie().expect("told"), NetNs::current().and_then(|same| same.cookie()).expect("told"));
        if !rustix::process::geteuid().is_root() {
            return;
        }
        // The number in the name of the first one is free when the second is made.
        let cookies = [(); 2].map(|()| NetNs::create().and_then(|new| new.cookie()).expect("told"));
        assert_ne!(cookies[0], cookies[1]);
        assert!(!cookies.contains(&here.cookie().expect("told")));
    }
}
