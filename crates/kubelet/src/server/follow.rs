//! Waiting for a log file to grow or to be replaced: inotify(7) on its folder, no looking again and again.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::fd::watched;

/// Room for the events of one look; the kernel keeps what does not fit.
const EVENTS_BYTES: usize = 4096;

/// Tells when a file may have changed.
pub(super) struct Watch {
    fd: AsyncFd<OwnedFd>,
    name: OsString,
}

impl Watch {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_owned();
        let fd = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        add_watch(&fd, folder, flags)?;
        Ok(Self { fd: watched(fd, Interest::READABLE)?, name })
    }

    /// Resolves when something happened to the file since the last time.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.fd.readable().await?;
            let (mut seen, mut empty) = (false, false);
            let mut room = [MaybeUninit::uninit(); EVENTS_BYTES];
            let mut reader = Reader::new(self.fd.get_ref(), &mut room);
            while !empty {
                match reader.next() {
                    Ok(event) => {
                        let named = event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec()));
                        // Events that did not fit may have been anything.
                        let lost = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                        seen |= lost || named.is_some_and(|name| name.as_bytes() == self.name.as_bytes());
                    }
                    Err(rustix::io::Errno::AGAIN) => empty = true,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if seen {
                return Ok(());
            }
        }
    }
}
