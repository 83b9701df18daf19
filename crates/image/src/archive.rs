//! Files of an image archive by name: a folder, or a tar, perhaps compressed. A tar is read where it lies, by places that one
//! pass over it has found.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use tar::EntryType;

use crate::ImageError;
use crate::manifest::Packing;
use crate::store::{Store, Workspace};

/// Files in an archive.
const MEMBERS_MAX: usize = 100_000;
/// Links from name to name; older archives write a repeated layer as one.
const LINKS_MAX: u32 = 8;

pub(crate) enum Archive {
    Folder(PathBuf),
    Tar {
        file: Arc<File>,
        members: HashMap<String, Member>,
        /// Where a compressed archive is kept unpacked.
        _workspace: Option<Arc<Workspace>>,
    },
}

pub(crate) enum Member {
    File { offset: u64, bytes: u64 },
    Link(String),
}

impl Archive {
    pub(crate) fn open(path: &Path, store: &Store) -> Result<Self, ImageError> {
        let what = path.display().to_string();
        let failed = |error| ImageError::io(&what, error);
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let mut file = File::open(path).map_err(failed)?;
        let mut start = [0; 4];
        let known = file.read_at(&mut start, 0).map_err(failed)?;
        let mut workspace = None;
        let packing = Packing::sniff(&start[..known]);
        if packing != Packing::Plain {
            let folder = store.workspace()?;
            file = unpacked(file, packing, &folder.path().join("archive")).map_err(failed)?;
            workspace = Some(folder);
        }
        let members = members(&mut file).map_err(|error| {
            let detail = format!("it is no image archive: {error}");
            ImageError::Corrupt { what: what.clone(), detail }
        })?;
        Ok(Self::Tar { file: Arc::new(file), members, _workspace: workspace })
    }

    /// The file of this name, and its size.
    pub(crate) fn file(&self, name: &str) -> io::Result<Option<(Box<dyn Read + Send>, u64)>> {
        match self {
            Self::Folder(folder) => {
                if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
                    return Ok(None);
                }
                match File::open(folder.join(name)) {
                    Ok(file) => {
                        let bytes = file.metadata()?.len();
                        Ok(Some((Box::new(file), bytes)))
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Self::Tar { file, members, .. } => {
                let mut name = normal(name);
                for _ in 0..LINKS_MAX {
                    match members.get(&name) {
                        None => return Ok(None),
                        Some(Member::Link(to)) => name.clone_from(to),
                        Some(Member::File { offset, bytes }) => {
                            let slice = Slice { file: file.clone(), at: *offset, left: *bytes };
                            return Ok(Some((Box::new(slice), *bytes)));
                        }
                    }
                }
                Err(io::Error::other(format!("{name} links in a circle")))
            }
        }
    }

    /// A small file, whole.
    pub(crate) fn bytes(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let Some((reader, size)) = self.file(name)? else { return Ok(None) };
        if size > bytes_max {
            return Err(io::Error::other(format!("{name} has {size} bytes, more than {bytes_max}")));
        }
        let mut bytes = Vec::new();
        reader.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

fn unpacked(file: File, packing: Packing, into: &Path) -> io::Result<File> {
    let reader = BufReader::new(file);
    let mut decoded: Box<dyn Read> = match packing {
        Packing::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
        Packing::Plain => Box::new(reader),
    };
    let mut file = File::options().read(true).write(true).create_new(true).open(into)?;
    io::copy(&mut decoded, &mut file)?;
    Ok(file)
}

fn members(file: &mut File) -> io::Result<HashMap<String, Member>> {
    file.rewind()?;
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = normal(&String::from_utf8_lossy(&entry.path_bytes()));
        let link = || entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
        let member = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                Member::File { offset: entry.raw_file_position(), bytes: entry.size() }
            }
            EntryType::Symlink => Member::Link(beside(&name, &link().unwrap_or_default())),
            EntryType::Link => Member::Link(normal(&link().unwrap_or_default())),
            _ => continue,
        };
        members.insert(name, member);
        if members.len() > MEMBERS_MAX {
            return Err(io::Error::other(format!("more than {MEMBERS_MAX} files")));
        }
    }
    Ok(members)
}

/// Without dots and empty parts; `..` goes up, as far as there is an up.
fn normal(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The target of a symbolic link at a name.
fn beside(name: &str, target: &str) -> String {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    normal(&format!("{folder}/{target}"))
}

/// A part of a file.
struct Slice {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Slice {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let read = self.file.read_at(&mut into[..most], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
