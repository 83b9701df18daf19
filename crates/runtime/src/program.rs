//! The pod process' program in memory. It is run from one sealed memfd, shared by all pods: a container that gets hold of it
//! (`/proc/PID/exe`) cannot write it (the class of CVE-2019-5736), and an upgrade of the main binary leaves it alone.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

static BYTES: &[u8] = include_bytes!(env!("CORTEN_POD_PROGRAM"));

/// The program, ready to be run.
#[derive(Debug)]
pub struct Program(File);

impl Program {
    /// Copies the embedded program into sealed memory.
    ///
    /// # Errors
    /// When the kernel refuses the memory.
    pub fn load() -> io::Result<Self> {
        let memory = memfd_create("corten-pod", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(memory);
        file.write_all(BYTES)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self(file))
    }

    /// Bytes of the program.
    pub fn size() -> usize {
        BYTES.len()
    }

    /// Names the program for a child of this process, which has the descriptor until it runs it.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek;

    use super::*;

    #[test]
    fn nobody_can_write_the_program() {
        let mut program = Program::load().unwrap();
        assert!(program.0.rewind().is_ok());
        assert_eq!(program.0.write(b"x").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(program.0.set_len(0).is_err());
    }

    /// Every pod runs one, and an upgrade keeps the old one in memory for as long as its pods live.
    #[test]
    fn the_program_is_small_and_static() {
        assert!(Program::size() < 1024 * 1024, "{} bytes", Program::size());
        assert!(!BYTES.windows(12).any(|window| window == b"/ld-linux-x8"));
    }
}
