//! What is mounted where on this server, as the kernel says it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A line of proc_pid_mountinfo(5).
pub(super) struct Mounted {
    /// Numbers of the device: major, minor.
    pub(super) device: (u32, u32),
    pub(super) point: PathBuf,
}

/// Everything that is mounted, in the order in which it was.
pub(super) fn mount_table() -> io::Result<Vec<Mounted>> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().filter_map(mounted).collect())
}

fn mounted(line: &str) -> Option<Mounted> {
    let mut fields = line.split(' ').skip(2);
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    Some(Mounted { device, point: unescape(fields.nth(1)?).into() })
}

/// Something is mounted at a path.
pub(super) fn is_mount(path: &Path) -> bool {
    mounts_below(path).is_ok_and(|mounts| mounts.iter().any(|mounted| mounted == path))
}

/// Mount points at and below a path, the innermost first.
pub(super) fn mounts_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut below: Vec<PathBuf> =
        mount_table()?.into_iter().map(|mounted| mounted.point).filter(|point| point.starts_with(path)).collect();
    below.reverse();
    Ok(below)
}

/// Mount points write space, tab, newline and backslash in octal.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = r"36 35 7:3 / /mnt/a\040b rw,noatime shared:1 - ext4 /dev/loop3 rw";
        let mounted = mounted(line).expect("a line");
        assert_eq!((mounted.device, mounted.point), ((7, 3), PathBuf::from("/mnt/a b")));
        assert!(super::mounted("36 35").is_none());
    }
}
