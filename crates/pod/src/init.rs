//! The first process of a process namespace that a pod's containers share. It does nothing: the kernel gives it what others
//! leave behind, and forgets that for it. When it dies, everything in the namespace does.

use std::io;
use std::os::fd::OwnedFd;

use crate::child::live_with_parent;
use crate::sys::{self, Forked};

/// Starts it. It can do nothing and sees nothing: whoever gets hold of it gains nothing.
pub(crate) fn start(template: &OwnedFd) -> io::Result<OwnedFd> {
    let (reader, writer) = sys::pipe()?;
    match sys::fork(libc::CLONE_NEWPID, None)? {
        Forked::Parent { pidfd, .. } => {
            drop(writer);
            // Ends when the child has closed its side, prepared or not.
            let mut word = [0];
            match sys::read(&reader, &mut word)? {
                1 => Ok(pidfd),
                _ => Err(io::Error::from_raw_os_error(libc::ECHILD)),
            }
        }
        Forked::Child => {
            let prepared = prepare(template, &writer);
            let told = prepared.and_then(|()| sys::write(&writer, b"x"));
            drop(reader);
            if told.is_err() || sys::close_all_but(&[]).is_err() {
                sys::exit_now(1);
            }
            sys::sleep_for_ever()
        }
    }
}

fn prepare(template: &OwnedFd, writer: &OwnedFd) -> io::Result<()> {
    sys::ignore_children()?;
    sys::join_namespaces(template, libc::CLONE_NEWNS)?;
    sys::bound_capabilities(0)?;
    sys::set_capabilities(0, 0, 0)?;
    live_with_parent(writer).map_err(|failed| io::Error::from_raw_os_error(failed.errno))
}
