//! `corten purge`: takes away everything that an instance has put on this server: processes, control groups, links and rules,
//! mounts, sockets, files. What it finds is named by the instance's id or lies in its data directory, so another instance on
//! the same server stays as it is. Each step may be repeated; one that was interrupted is done again from the beginning.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use corten_stdx::clock::Clock;
use corten_sys::cgroup::Hierarchies;
use corten_sys::namespace::NetNs;
use rustix::mount::{UnmountFlags, unmount};

use crate::args::Purge;
use crate::datadir::{DataDir, RUN};

/// What a data directory consists of. Anything else in it is somebody else's, and stays.
const PARTS: [&str; 13] = [
    "VERSION",
    "admin.kubeconfig",
    "content",
    "edge",
    "instance",
    "keys",
    "logs",
    "network",
    "pki",
    "pods",
    "store",
    "volumes",
    "lock",
];

/// How often and how long processes that were killed are waited for.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// Removes the instance of a data directory. Nothing is done while its `corten up` runs.
pub fn run(settings: &Purge) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
    runtime.block_on(purge(settings, &Clock::system()))
}

async fn purge(settings: &Purge, clock: &Clock) -> anyhow::Result<()> {
    let path = &settings.data_dir;
    let Some(dir) = DataDir::existing(path)? else {
        // It never got as far as to do anything outside.
        return files(path);
    };
    let instance = dir.instance().to_owned();
    ensure!(rustix::process::geteuid().is_root(), "purge removes links, rules and control groups; run it as root");

    // Its holder would start it again.
    crate::edge::end::end(&Path::new(RUN).join(&instance), &instance, Duration::ZERO)?;
    end_processes(&instance, clock).await?;
    println!("  processes and control groups");
    let host = NetNs::current().context("the network namespace of this server")?;
    corten_network::services::purge(&instance, &host)?;
    corten_network::overlay::purge(&instance, &host)?;
    corten_network::pods::purge(&instance, &host, Path::new(RUN))?;
    crate::edge::address::remove(path)?;
    println!("  links, addresses and rules");
    let sockets = Path::new(RUN).join(&instance);
    unmount_below(&sockets)?;
    unmount_below(path)?;
    remove(&sockets)?;
    println!("  mounts and sockets");
    files(path)
}

fn files(path: &Path) -> anyhow::Result<()> {
    let left = remove_parts(path)?;
    println!("  {}", path.display());
    for entry in left {
        println!("  left alone, since corten has not made it: {}", entry.display());
    }
    Ok(())
}

/// Kills what is in the instance's control groups until nothing is, then removes the groups. Something there may start
/// others before its own turn comes, so one round is not enough.
pub async fn end_processes(instance: &str, clock: &Clock) -> anyhow::Result<()> {
    let hierarchies = Hierarchies::detect()?;
    let group = hierarchies.group(format!("corten-{instance}"));
    for _ in 0..LOOKS {
        if !group.kill()? {
            group.remove_all()?;
            return Ok(());
        }
        clock.sleep(PAUSE).await;
    }
    bail!("processes {:?} of the instance do not end; look at what they wait for and run this again", group.members()?)
}

/// Unmounts everything below a folder, the last mounted first.
fn unmount_below(folder: &Path) -> anyhow::Result<()> {
    let Ok(folder) = fs::canonicalize(folder) else { return Ok(()) };
    let table = fs::read_to_string("/proc/self/mountinfo").context("the mounts of this server")?;
    let mut below: Vec<PathBuf> =
        table.lines().filter_map(mount_point).filter(|mount| mount.starts_with(&folder) && *mount != folder).collect();
    below.reverse();
    for mount in below {
        unmount(&mount, UnmountFlags::DETACH).with_context(|| format!("cannot unmount {}", mount.display()))?;
    }
    Ok(())
}

/// The fifth field of a line of mountinfo, its octal escapes undone (proc_pid_mountinfo(5)).
fn mount_point(line: &str) -> Option<PathBuf> {
    let field = line.split(' ').nth(4)?;
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok())?;
        text.push(char::from(code));
        rest = &after[3..];
    }
    text.push_str(rest);
    Some(text.into())
}

/// Removes what corten has made in a data directory, the directory too if nothing else is in it. Returns what else is.
fn remove_parts(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    for part in PARTS {
        // One that was being replaced when its writer was killed has left the new one beside it.
        remove(&dir.join(part).with_added_extension("new"))?;
        remove(&dir.join(part))?;
    }
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let left: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    if left.is_empty() {
        remove(dir)?;
    }
    Ok(left)
}

/// Removes a file or a folder with everything in it; one that is not there is no error.
fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("cannot remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let line = r"36 35 98:0 / /mnt/a\040b\134c rw,noatime - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from(r"/mnt/a b\c")));
        assert_eq!(mount_point("36 35"), None);
    }

    #[test]
    fn what_corten_has_not_made_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        fs::create_dir_all(path.join("store/deep")).expect("made");
        fs::write(path.join("VERSION"), "1").expect("written");
        fs::write(path.join("notes.txt"), "mine").expect("written");
        assert_eq!(remove_parts(&path).expect("removed"), [path.join("notes.txt")]);
        assert!(!path.join("store").exists() && !path.join("VERSION").exists());
        fs::remove_file(path.join("notes.txt")).expect("removed");
        assert!(remove_parts(&path).expect("removed").is_empty() && !path.exists());
    }
}
