//! The programs of an installation: each build lies beside the others under a name of its own, and a link says which is in use.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aws_lc_rs::digest::{Context, SHA256};
use corten_stdx::file::replace_with;

use super::place::Place;

/// How every program's file begins.
const PREFIX: &str = "corten-";

/// Where the command leads.
const COMMAND: &str = "../lib/corten/current";

/// The file that this process runs.
pub(super) const OWN: &str = "/proc/self/exe";

/// `corten-VERSION-DIGEST`: builds of one version differ in their contents.
pub(super) fn name(file: &Path, version: &str) -> anyhow::Result<String> {
    let mut contents = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (mut sum, mut buffer) = (Context::new(&SHA256), vec![0; 1 << 16]);
    loop {
        match contents.read(&mut buffer).with_context(|| format!("cannot read {}", file.display()))? {
            0 => break,
            length => sum.update(&buffer[..length]),
        }
    }
    let digest: String = sum.finish().as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{PREFIX}{version}-{digest}"))
}

/// Copies a program to its place among the others, if it is not there. It is never seen half written.
pub(super) fn put(place: &Place, file: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let target = place.programs().join(name);
    if target.is_file() {
        return Ok(target);
    }
    let copied = || -> io::Result<()> {
        make_dir(&place.programs())?;
        let mut from = File::open(file)?;
        replace_with(&target, |to| {
            io::copy(&mut from, to)?;
            to.set_permissions(Permissions::from_mode(0o755))?;
            to.sync_all()
        })
    };
    copied().with_context(|| format!("cannot copy {} to {}", file.display(), target.display()))?;
    Ok(target)
}

/// Writes a file that everybody may read, whole or not at all.
pub(super) fn write_text(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = || -> io::Result<()> {
        make_dir(path.parent().unwrap_or(Path::new("/")))?;
        replace_with(path, |file| {
            file.write_all(text.as_bytes())?;
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.sync_all()
        })
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// The name of the program in use, if there is one.
pub(super) fn current(place: &Place) -> anyhow::Result<Option<String>> {
    match fs::read_link(place.current()) {
        Ok(to) => Ok(to.file_name().map(|name| name.to_string_lossy().into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} is in the way", place.current().display())),
    }
}

/// Has the link say that another program is in use, at once and for good.
pub(super) fn switch(place: &Place, name: &str) -> anyhow::Result<()> {
    link(Path::new(name), &place.current())
}

/// The command that users call, unless something else has its name. Gives whether it is ours.
pub(super) fn link_command(place: &Place) -> anyhow::Result<bool> {
    let command = place.command();
    if !exists(&command)? {
        link(Path::new(COMMAND), &command)?;
    }
    is_own_command(&command)
}

/// Whether the command is the link that an installation makes.
pub(super) fn is_own_command(command: &Path) -> anyhow::Result<bool> {
    Ok(exists(command)? && fs::read_link(command).is_ok_and(|to| to == Path::new(COMMAND)))
}

/// A link that leads nowhere is there, too.
fn exists(path: &Path) -> anyhow::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        found => found.map(|_| true).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn link(to: &Path, at: &Path) -> anyhow::Result<()> {
    let beside = at.with_added_extension("new");
    let linked = || -> io::Result<()> {
        make_dir(at.parent().unwrap_or(Path::new("/")))?;
        remove_file(&beside)?;
        symlink(to, &beside)?;
        fs::rename(&beside, at)
    };
    linked().with_context(|| format!("cannot make the link {}", at.display()))
}

/// Removes all programs but those named. The folder goes with the last one.
pub(super) fn keep_only(place: &Place, names: &[&str]) -> anyhow::Result<()> {
    let folder = place.programs();
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && !names.contains(&name.as_str()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file or a link; none is no error. Gives whether there was one.
pub(super) fn remove(path: &Path) -> anyhow::Result<bool> {
    remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Removes a folder that has nothing in it any more.
pub(super) fn remove_empty(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
