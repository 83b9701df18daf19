//! The kernel passes packets on, for as long as an instance needs it; afterwards it does what it did before.
//!
//! One file for each network namespace, `forwarding-<namespace>` in a folder that lasts until the next start of the machine as the
//! switches do, says what was so before and which instances need it otherwise. It is there only where something was changed;
//! whoever finds packets passed on already has nothing to undo.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use corten_stdx::file::replace;
use corten_sys::namespace::NetNs;
use rustix::fs::{FlockOperation, flock};

const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
/// The switches of each link, which the one of all changes too.
const LINKS: &str = "/proc/sys/net/ipv4/conf";
const REDIRECTS: &str = "/proc/sys/net/ipv4/conf/all/accept_redirects";

/// Before an instance: it needs packets passed on.
const NEEDS: &str = "needs ";
/// Before a path and a value: what is to be written back.
const WAS: &str = "was ";

/// Switches it on for an instance.
pub(super) fn need(instance: &str, host: &NetNs, records: &Path) -> io::Result<()> {
    let path = path(host, records)?;
    std::fs::create_dir_all(records)?;
    let _turn = turn(records)?;
    host.run(|| {
        let is_on = read(Path::new(SWITCH))? == "1";
        let mut lines = match read_record(&path)? {
            Some(lines) if is_on => lines,
            None if is_on => return Ok(()),
            // Whatever the file says is of a time before somebody has switched it off.
            _ => former()?,
        };
        let own = format!("{NEEDS}{instance}");
        if !lines.contains(&own) {
            lines.push(own);
            write_record(&path, &lines)?;
        }
        if is_on { Ok(()) } else { std::fs::write(SWITCH, "1") }
    })?
}

/// Puts everything back, unless another instance needs it. Does nothing for an instance that has not needed it.
pub(super) fn done(instance: &str, host: &NetNs, records: &Path) -> io::Result<()> {
    let path = path(host, records)?;
    let _turn = match turn(records) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        turn => turn?,
    };
    host.run(|| {
        let Some(mut lines) = read_record(&path)? else { return Ok(()) };
        lines.retain(|line| line.strip_prefix(NEEDS) != Some(instance));
        if lines.iter().any(|line| line.starts_with(NEEDS)) {
            return write_record(&path, &lines);
        }
        for (path, value) in lines.iter().filter_map(|line| line.strip_prefix(WAS)?.split_once(' ')) {
            match std::fs::write(path, value) {
                // The link is gone.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        std::fs::remove_file(&path)
    })?
}

/// What switching it on changes, in the order in which it is to be undone: the switch of all resets those of the links.
fn former() -> io::Result<Vec<String>> {
    let mut lines = vec![format!("{WAS}{SWITCH} 0")];
    for entry in std::fs::read_dir(LINKS)? {
        let entry = entry?;
        let switch = entry.path().join("forwarding");
        if entry.file_name() != "all" && read(&switch)? == "1" {
            lines.push(format!("{WAS}{} 1", switch.display()));
        }
    }
    lines.push(format!("{WAS}{REDIRECTS} {}", read(Path::new(REDIRECTS))?));
    Ok(lines)
}

fn read(path: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

fn path(host: &NetNs, records: &Path) -> io::Result<PathBuf> {
    Ok(records.join(format!("forwarding-{}", host.cookie()?)))
}

/// From reading a file until the switches are what it says nobody else writes one: a lock on their folder.
fn turn(records: &Path) -> io::Result<File> {
    let folder = File::open(records)?;
    rustix::io::retry_on_intr(|| flock(&folder, FlockOperation::LockExclusive))?;
    Ok(folder)
}

fn read_record(path: &Path) -> io::Result<Option<Vec<String>>> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        text => Ok(Some(text?.lines().map(str::to_owned).collect())),
    }
}

/// What it was before must outlive a kill at any moment, so the file is replaced and not written over.
fn write_record(path: &Path, lines: &[String]) -> io::Result<()> {
    replace(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes())
}
