//! The kernel passes packets on, for as long as an instance needs it; afterwards it does what it did before.
//!
//! One file for each network namespace, `forwarding-<namespace>` in a folder that lasts until the next start of the machine as the
//! switches do, says what was so before and which instances need it otherwise. It is there only where something was changed;
//! whoever finds packets passed on already has nothing to undo.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

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
    host.run(|| {
        let is_on = read(Path::new(SWITCH))? == "1";
        if is_on && !path.try_exists()? {
            return Ok(());
        }
        std::fs::create_dir_all(records)?;
        let mut record = Record::open(&path, true)?;
        if !is_on {
            // Whatever the file says is of a time before somebody has switched it off.
            record.lines = former()?;
        }
        let own = format!("{NEEDS}{instance}");
        if !record.lines.contains(&own) {
            record.lines.push(own);
        }
        record.write()?;
        if is_on { Ok(()) } else { std::fs::write(SWITCH, "1") }
    })?
}

/// Puts everything back, unless another instance needs it. Does nothing for an instance that has not needed it.
pub(super) fn done(instance: &str, host: &NetNs, records: &Path) -> io::Result<()> {
    let path = path(host, records)?;
    host.run(|| {
        let mut record = match Record::open(&path, false) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        record.lines.retain(|line| line.strip_prefix(NEEDS) != Some(instance));
        if record.lines.iter().any(|line| line.starts_with(NEEDS)) {
            return record.write();
        }
        for (path, value) in record.lines.iter().filter_map(|line| line.strip_prefix(WAS)?.split_once(' ')) {
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
    Ok(records.join(format!("forwarding-{}", host.number()?)))
}

/// The file, locked.
struct Record {
    file: File,
    lines: Vec<String>,
}

impl Record {
    fn open(path: &Path, create: bool) -> io::Result<Self> {
        loop {
            let mut file =
                OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            // Whoever had the lock may have removed it.
            if !path.try_exists()? {
                continue;
            }
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            return Ok(Self { file, lines: text.lines().map(str::to_owned).collect() });
        }
    }

    fn write(mut self) -> io::Result<()> {
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(self.lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes())
    }
}
