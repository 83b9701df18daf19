//! Writes a set of files so that a reader sees either all of the old or all of the new ones: the files lie in a folder of
//! their own, `..data` points to it, and names point through `..data` (`pkg/volume/util/atomic_writer.go` has the same
//! layout, which programs that watch for changes know).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use super::ownership;

const DATA: &str = "..data";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: Option<u32>,
}

/// Files by their path below the volume.
pub(super) type Payload = BTreeMap<String, File>;

/// Makes the folder show exactly these files; does nothing where it does.
pub(super) fn write(dir: &Path, payload: &Payload, stamp: &str, group: Option<u32>) -> io::Result<()> {
    let data = dir.join(DATA);
    let old = match fs::read_link(&data) {
        Ok(old) => Some(dir.join(old)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(old) = &old
        && shows(old, payload)?
    {
        return link_names(dir, payload);
    }
    let new = format!("..{stamp}");
    let folder = dir.join(&new);
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        write_file(&folder.join(path), file)?;
    }
    if let Some(group) = group {
        ownership::give(&folder, group, true)?;
    }
    let temporary = dir.join("..data_tmp");
    remove_if_there(&temporary)?;
    symlink(&new, &temporary)?;
    fs::rename(&temporary, &data)?;
    link_names(dir, payload)?;
    match old {
        Some(old) => fs::remove_dir_all(old),
        None => Ok(()),
    }
}

fn write_file(path: &Path, file: &File) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, &file.bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(file.mode))?;
    match file.uid {
        Some(uid) => std::os::unix::fs::chown(path, Some(uid), None),
        None => Ok(()),
    }
}

/// The folder has these files with this content and no others.
fn shows(folder: &Path, payload: &Payload) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    walk(folder, "", &mut found)?;
    if found.len() != payload.len() {
        return Ok(false);
    }
    for (path, file) in payload {
        if !found.contains(path) {
            return Ok(false);
        }
        let at = folder.join(path);
        let meta = fs::metadata(&at)?;
        if meta.size() != file.bytes.len() as u64 || fs::read(&at)? != file.bytes {
            return Ok(false);
        }
    }
    Ok(true)
}

fn walk(folder: &Path, below: &str, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() {
            walk(folder, &path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

/// The names at the top that lead through `..data`, and none that no longer lead anywhere.
fn link_names(dir: &Path, payload: &Payload) -> io::Result<()> {
    let names: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &names {
        match symlink(Path::new(DATA).join(name), dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let stale = name.to_str().is_some_and(|name| !name.starts_with("..") && !names.contains(name));
        if stale {
            fs::remove_file(dir.join(name))?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
